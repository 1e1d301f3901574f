"""Models of pictures against closed forms: bounds in nats, losses of adversaries, solvers, and noise by the sample."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from marquee.data.images.views import ImageBatch
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.autoencoder.vae import VAE
from marquee.models.baseline.class_means import ClassMeans
from marquee.models.baseline.noise import Noise
from marquee.models.flow.matching import FlowMatching
from marquee.models.gan.dcgan import DCGAN
from marquee.models.pictures import binarised, bound, classes_of, noise_of

GREY = ImageSpec(1, 4, 4, 3, ("a", "b", "c"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def batch(n=6, shape=(1, 4, 4)):
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8)
    return ImageBatch(images, torch.arange(n) % 3, torch.arange(n))


# Noise ---------------------------------------------------------------------------------------------------------------


def test_noise_is_normal_and_that_of_a_sample_depends_on_no_other():
    model = SimpleNamespace(noise=(3, 5))
    whole = noise_of(model, 7, torch.arange(4000))
    assert torch.equal(whole[10:12], noise_of(model, 7, torch.tensor([10, 11])))
    assert not torch.equal(whole[:2], noise_of(model, 8, torch.arange(2)))
    flat = whole.flatten().double()
    # 60,000 numbers: four standard errors of mean, variance and fourth moment (0, 1 and 3).
    assert abs(flat.mean()) < 4 / 245 and abs(flat.var() - 1) < 4 * math.sqrt(2) / 245
    assert abs((flat**4).mean() - 3) < 4 * math.sqrt(96) / 245
    assert abs(np.corrcoef(whole.flatten(1).T.numpy()) - np.eye(15)).max() < 0.08


def test_classes_are_drawn_by_their_shares():
    drawn = classes_of(torch.tensor([1.0, 0.0, 3.0]), 1, torch.arange(4000)).bincount(minlength=3)
    assert drawn[1] == 0 and abs(int(drawn[0]) - 1000) < 4 * math.sqrt(750)


def test_pixels_are_made_binary_once_for_all_by_their_row():
    images = torch.full((2000, 1, 2, 2), 51, dtype=torch.uint8)
    pixels = binarised(images, torch.arange(2000), 3)
    assert torch.equal(pixels[5:6], binarised(images[:1], torch.tensor([5]), 3))
    assert pixels.mean().item() == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 8000))
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 30, 30)
    assert binarised(ends, torch.arange(2), 3).mean(dim=(1, 2, 3)).tolist() == [0, 1]


# Bounds --------------------------------------------------------------------------------------------------------------


def test_bounds_of_a_linear_gaussian_model_are_those_of_the_closed_form():
    """z ~ N(0, 1), x | z ~ N(2 z, 1): log p(x) is that of N(0, 5), and the posterior N(2 x / 5, 1 / 5)."""
    normal = torch.distributions.Normal
    x = torch.tensor([0.3, -2.0, 4.0]).double()

    def weights(q, k):
        z = q.sample((k,))
        return normal(0, 1).log_prob(z) + normal(2 * z, 1).log_prob(x) - q.log_prob(z)

    exact = -normal(0, math.sqrt(5)).log_prob(x)
    for k in (1, 50):  # under the true posterior every weight is p(x)
        torch.testing.assert_close(bound(weights(normal(0.4 * x, math.sqrt(0.2)), k)), exact)
    other = normal(0.3 * x, 0.7)
    divergence = torch.distributions.kl_divergence(other, normal(0.4 * x, math.sqrt(0.2)))
    many = weights(other, 100_000)
    torch.testing.assert_close(-many.mean(dim=0), exact + divergence, atol=0.02, rtol=0)  # the ELBO, k = 1
    torch.testing.assert_close(bound(many), exact, atol=0.02, rtol=0)
    five = torch.stack([bound(part) for part in many.split(5)]).mean(dim=0)
    assert bool(((five > exact) & (five < exact + divergence)).all())  # tighter, Burda et al. 2016, theorem 1


@pytest.mark.parametrize("likelihood", ["binary", "8-bit"])
def test_importance_sampling_of_the_autoencoder_is_the_integral_over_z(likelihood):
    """A second implementation: one latent number, so that p(x) is a sum over a fine grid."""
    model = VAE(GREY, view=None, latent=1, layers=[8], likelihood=likelihood)
    model.decoder[1].weight.data.mul_(20)  # so that z says something
    pixels = torch.randint(0, 2, (5, 1, 4, 4)).float() * (1 if likelihood == "binary" else 255)
    with torch.no_grad():
        grid = torch.linspace(-8, 8, 4001)[:, None]
        decoded = model.decoder(grid)[:, None]
        given = model.log_likelihood(pixels, decoded.double())
        prior = -grid.double().square() / 2 - math.log(2 * math.pi) / 2
        exact = -(given + prior + math.log(16 / 4000)).logsumexp(dim=0)
        weights = model.log_weights(pixels, 40_000).double()
        torch.testing.assert_close(bound(weights), exact, atol=0.05, rtol=0)
        elbo = -weights.mean(dim=0).mean()
        assert elbo > exact.mean()


def test_the_loss_is_the_bound_with_the_divergence_in_closed_form():
    images = torch.randint(0, 2, (4, 1, 4, 4), dtype=torch.uint8) * 255  # nothing is drawn of black and white
    model = VAE(GREY, view=None, latent=3, layers=[8])
    given = ImageBatch(images, None, None)
    with torch.no_grad():
        sampled = -model.log_weights(images.float() / 255, 20_000).mean()
        losses = torch.stack([model.loss(given) for _ in range(3000)])
        torch.testing.assert_close(losses.mean(), sampled, atol=0.05, rtol=0)
        model.samples = 50
        tight = torch.stack([model.loss(given) for _ in range(50)]).mean()
        assert tight < sampled - 0.01
        torch.testing.assert_close(tight, bound(model.log_weights(images.float() / 255, 50)).mean(), atol=0.2, rtol=0)


def test_the_divergence_warms_up_by_steps_that_are_part_of_the_state():
    model = VAE(GREY, view=None, latent=3, layers=[8], warm_up=4)
    model.decoder[-2].weight.data.zero_()  # what is decoded is the same for all z
    model.encoder[-1].bias.data.fill_(1.0)
    images = ImageBatch(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), None, None)
    losses = [float(model.loss(images)) for _ in range(6)]
    rises = np.diff(losses)
    assert rises[:4] == pytest.approx([rises[0]] * 4, rel=1e-3) and rises[0] > 0.1 and abs(rises[4]) < 1e-4
    assert int(model.state_dict()["steps"]) == 6


def test_the_probabilities_of_all_grey_values_add_up_to_one():
    model = VAE(ImageSpec(3, 1, 1), view=None, latent=2, layers=[2], likelihood="8-bit")
    model.log_scale.data.copy_(torch.tensor([-7.0, -3.0, 0.0])[:, None, None])
    values = torch.arange(256.0)[:, None, None, None]
    for channel, centre in enumerate((0.7, -1.0, 0.1)):
        narrow = VAE(ImageSpec(1, 1, 1), view=None, latent=2, layers=[2], likelihood="8-bit").double()
        narrow.log_scale.data.copy_(model.log_scale[channel])
        given = narrow.log_likelihood(values.double(), torch.full((1, 1, 1, 1), centre).double())
        assert given.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_binary_pixels_of_coloured_images_are_refused_and_a_warm_up_of_what_is_not_there():
    with pytest.raises(ConfigError, match=r"model\.likelihood=binary is for grey images.*3 channels"):
        VAE(ImageSpec(3, 4, 4), view=None, likelihood="binary")
    assert [VAE(ImageSpec(n, 4, 4), view=None).likelihood for n in (1, 3)] == ["binary", "8-bit"]
    with pytest.raises(ConfigError, match=r"model\.warm_up=5"):
        VAE(GREY, view=None, samples=5, warm_up=5)


def test_the_baselines_know_their_likelihood():
    """By hand: noise gives each pixel log 2; class means are a mixture of Bernoulli variables."""
    pixels = torch.randint(0, 2, (3, 1, 4, 4)).float()
    assert bound(Noise(GREY, view=None).log_weights(pixels, 1)).tolist() == pytest.approx([16 * math.log(2)] * 3)
    images = np.zeros((4, 1, 1, 2), dtype=np.uint8)
    images[0, 0, 0] = [255, 0]
    images[1, 0, 0] = [255, 102]
    images[2:, 0, 0] = [51, 0]
    spec = ImageSpec(1, 1, 2, 2, ("a", "b"))
    data = SimpleNamespace(images=images, labels=np.array([0, 0, 1, 1]), parts={"train": np.arange(4)}, spec=spec)
    model = ClassMeans(spec, view=None)
    model.prepare(data)
    low = 0.5 / 255
    wanted = -math.log(0.5 * (1 - low) * 0.8 + 0.5 * 0.2 * (1 - low))
    assert bound(model.log_weights(torch.tensor([[[[1.0, 0.0]]]]), 1)).item() == pytest.approx(wanted, rel=1e-5)
    made = model.generate(torch.tensor([[[[5.0, 1.0]]], [[[0.0, 0.0]]]]), torch.tensor([0, 1]))
    assert made.flatten().tolist() == [255, 102, 51, 0]  # mean 51, deviation 51


# Adversaries ---------------------------------------------------------------------------------------------------------


def trained(model, given, steps=1, lr=0.05):
    optimizers = {name: torch.optim.SGD(getattr(model, name).parameters(), lr) for name in model.learners}

    def step(name, loss):
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    return [model.learn(given, step) for _ in range(steps)]


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Linear(nn.Module):
    """A discriminator whose gradient is the same everywhere."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, images, classes):
        return images.flatten(1) @ self.weight


@pytest.mark.parametrize("adversary", ["bce", "hinge", "wgan_gp"])
def test_the_losses_of_the_discriminator_are_those_of_the_papers(adversary):
    model = DCGAN(GREY, view=None, channels=[4], adversary=adversary, penalty=3.0)
    model.discriminator = Linear()
    real, made = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    on_real, on_made = real.flatten(1).sum(1) / 2, made.flatten(1).sum(1) / 2
    wanted = {
        "bce": F.binary_cross_entropy_with_logits(on_real, torch.ones(5))
        + F.binary_cross_entropy_with_logits(on_made, torch.zeros(5)),
        "hinge": (1 - on_real).clamp(min=0).mean() + (1 + on_made).clamp(min=0).mean(),
        "wgan_gp": on_made.mean() - on_real.mean() + 3 * (2.0 - 1) ** 2,  # |w| = 0.5 sqrt(16)
    }[adversary]
    torch.testing.assert_close(model._told_apart(real, made, None).detach(), wanted)


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("adversary", ["bce", "hinge", "wgan_gp"])
def test_networks_take_turns_and_neither_moves_the_other(adversary, spectral):
    settings = {"view": None, "channels": [4, 8], "adversary": adversary, "spectral_norm": spectral, "average": 0.5}
    model = DCGAN(GREY, critic_steps=2, conditional=True, **settings)
    before, judge = state(model.generator), dict(model.discriminator.named_parameters())
    kept = {name: tensor.detach().clone() for name, tensor in judge.items()}
    (losses,) = trained(model, batch())
    assert set(losses) == {"discriminator"}
    weights = dict(model.generator.named_parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in weights.items())
    assert not all(torch.equal(kept[name], tensor) for name, tensor in judge.items())
    (losses,) = trained(model, batch())
    assert set(losses) == {"discriminator", "generator"} and not same(before, state(model.generator))
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())


def test_images_are_made_by_the_running_mean_of_the_generator():
    """By hand: after two steps (w2 + 0.5 w1) / 1.5."""
    model = DCGAN(GREY, view=None, channels=[4], average=0.5)
    seen = []
    for _ in range(2):
        trained(model, batch())
        seen.append(state(model.generator))
    for name, mean in model.averaged.state_dict().items():
        if mean.is_floating_point():
            torch.testing.assert_close(mean, (seen[1][name] + 0.5 * seen[0][name]) / 1.5)
    assert not any(parameter.requires_grad for parameter in model.averaged.parameters())
    model.eval()
    made = model.generate(noise_of(model, 1, torch.arange(3)))
    model.generator.first.weight.data.zero_()
    assert torch.equal(made, model.generate(noise_of(model, 1, torch.arange(3))))


def test_spectral_normalisation_bounds_each_layer():
    model = DCGAN(GREY, view=None, channels=[4, 8])
    trained(model, batch(), steps=30)
    for layer in [*model.discriminator.layers, model.discriminator.output]:
        if hasattr(layer, "parametrizations"):
            largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item()
            assert largest == pytest.approx(1, abs=0.05)


def test_a_class_can_be_asked_for_only_where_there_is_one():
    for spec, told in ((ImageSpec(1, 4, 4), "none"), (ImageSpec(1, 4, 4, 2, ("a", "b"), True), "several at once")):
        with pytest.raises(ConfigError, match=rf"model\.conditional=true .*{told}"):
            DCGAN(spec, view=None, conditional=True)


# Flows ---------------------------------------------------------------------------------------------------------------


def test_the_loss_of_the_flow_is_that_of_the_speed_along_straight_lines():
    model = FlowMatching(GREY, view=None, channels=[4])  # its network begins at zero
    given = batch(500)
    wanted = (given.images.double() / 127.5 - 1).square().mean().item() + 1
    assert model.loss(given).item() == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(("solver", "grows"), [("euler", 1.1), ("midpoint", 1 + 0.1 + 0.1**2 / 2)])
def test_solvers_add_up_speeds_as_their_formulas_say(solver, grows):
    """dx / dt = x: after ten steps of 0.1 Euler has 1.1^10, the midpoint rule (1 + h + h^2 / 2)^10."""
    model = FlowMatching(GREY, view=None, channels=[4], solver=solver, steps=10)
    model.network.forward = lambda place, time: place
    made = model.generate(torch.full((1, 1, 4, 4), 0.2))
    assert made.unique().tolist() == [round((0.2 * grows**10 + 1) * 127.5)]


# Shapes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 31, 17), (3, 48, 32), (3, 2, 3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda spec: VAE(spec, view=None, latent=3, layers=[4], channels=[4, 4], likelihood="8-bit"),
        lambda spec: DCGAN(spec, view=None, channels=[4, 4]),
        lambda spec: DCGAN(spec, view=None, channels=[4, 4], adversary="bce", spectral_norm=False),
        lambda spec: FlowMatching(spec, view=None, channels=[4, 4], steps=1),
        lambda spec: Noise(spec, view=None),
        lambda spec: ClassMeans(spec, view=None),
    ],
)
def test_images_of_any_size_are_made(shape, make):
    model = make(ImageSpec(*shape)).train()
    if model.learners:
        trained(model, batch(4, shape))
    elif not model.learns_in_fit:
        model.loss(batch(4, shape)).backward()
    made = model.eval().generate(noise_of(model, 1, torch.arange(2)))
    assert made.shape == (2, *shape) and made.dtype == torch.uint8
