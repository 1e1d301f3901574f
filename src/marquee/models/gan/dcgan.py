"""DCGAN: a generator and a discriminator of strided convolutions that are trained against each other."""

from copy import deepcopy
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval, MinLen
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.pictures import ImageModel, Step, shape_of, to_pixels

Widths = Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]


class DCGAN(ImageModel):
    """What the generator makes of noise shall pass for real; the discriminator learns to tell both apart.

    Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks", ICLR. Spectral normalisation and the class projection: Miyato et al. 2018, ICLR. Images are made by the
    running mean of the generator's weights (Yazici et al. 2019), which is a part of the model: it is validated,
    kept, resumed and used.

    latent           length of the noise
    channels         of the discriminator's convolutions, each halves the image; the generator mirrors them
    adversary        bce: the non-saturating loss of Goodfellow et al. 2014; hinge: Lim & Ye 2017; wgan_gp: Gulrajani
                     et al. 2017, where the discriminator has no sigmoid and its gradients are kept near length 1
    spectral_norm    divide each of the discriminator's weights by its largest singular value; else batch
                     normalisation, which wgan_gp goes without
    average          weight of a step in the generator's mean for each one that came after it; 0: the last weights
    critic_steps     steps of the discriminator for each of the generator's
    penalty          weight of the gradient penalty of wgan_gp
    conditional      make images of a class that is asked for
    """

    learners = ("discriminator", "generator")

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        latent: Annotated[int, Ge(1)] = 64,
        channels: Widths = [32, 64, 128],  # noqa: B006  (never mutated)
        adversary: Literal["bce", "hinge", "wgan_gp"] = "hinge",
        spectral_norm: bool = True,
        average: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
        critic_steps: Annotated[int, Ge(1)] = 1,
        penalty: Annotated[float, Ge(0)] = 10.0,
        conditional: bool = False,
    ):
        super().__init__()
        if conditional and (spec.multilabel or not spec.n_classes):
            raise ConfigError(
                "model.conditional=true makes an image of one class, and these have "
                f"{'several at once' if spec.multilabel else 'none'}.\n  fix: model.conditional=false"
            )
        self.view, self.conditional, self.noise = view, conditional, (latent,)
        self.adversary, self.penalty, self.average, self.critic_steps = adversary, penalty, average, critic_steps
        classes = spec.n_classes if conditional else 0
        sizes = [(spec.height, spec.width)]
        for _ in channels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.generator = Generator(latent, [*reversed(channels), spec.channels], sizes[::-1], classes)
        plain = not spectral_norm and adversary != "wgan_gp"
        self.discriminator = Discriminator(shape_of(spec), list(channels), sizes[-1], classes, spectral_norm, plain)
        self.averaged = deepcopy(self.generator).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.to(memory_format=torch.channels_last)

    def learn(self, batch: ImageBatch, step: Step) -> dict[str, Tensor]:
        """One step of the discriminator; of the generator after every `critic_steps`-th, on the same noise."""
        real = as_float(batch.images, 1.0)
        classes = batch.labels if self.conditional else None
        made = self.generator(torch.randn(len(real), *self.noise, device=real.device), classes)
        told = self._told_apart(real, made.detach(), classes)
        step("discriminator", told)
        self.steps += 1
        losses = {"discriminator": told.detach()}
        if self.steps % self.critic_steps == 0:
            # Gradients of weights that do not step now would be a third of the work.
            self.discriminator.requires_grad_(False)
            judged = self.discriminator(made, classes)
            fooled = F.softplus(-judged).mean() if self.adversary == "bce" else -judged.mean()
            step("generator", fooled)
            self.discriminator.requires_grad_(True)
            self._remember()
            losses["generator"] = fooled.detach()
        return losses

    def _told_apart(self, real: Tensor, made: Tensor, classes: Tensor | None) -> Tensor:
        """The discriminator's loss."""
        on_real, on_made = self.discriminator(real, classes), self.discriminator(made, classes)
        if self.adversary == "bce":
            return F.softplus(-on_real).mean() + F.softplus(on_made).mean()
        if self.adversary == "hinge":
            return F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean()
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(real, made.to(real.dtype), share).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(between, classes).sum(), between, create_graph=True)
        return on_made.mean() - on_real.mean() + self.penalty * (slope.flatten(1).norm(dim=1) - 1).square().mean()

    @torch.no_grad()
    def _remember(self) -> None:
        """Take the generator's weights into their mean; early steps count no more than their share."""
        done = int(self.steps) // self.critic_steps
        share = (1 - self.average) / (1 - self.average**done)
        pairs = zip(self.averaged.state_dict().values(), self.generator.state_dict().values(), strict=True)
        floats, whole = [], []
        for pair in pairs:
            (floats if pair[0].is_floating_point() else whole).append(pair)
        torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], share)
        for mean, new in whole:
            mean.copy_(new)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        return to_pixels(self.averaged(noise, classes))


class Generator(nn.Module):
    """Noise to images in [-1, 1]: a dense layer, then transposed convolutions that double the sides."""

    def __init__(self, latent: int, maps: list[int], sizes: list[tuple[int, int]], classes: int):
        super().__init__()
        self.classes = nn.Embedding(classes, latent) if classes else None
        self.shape = (maps[0], *sizes[0])
        self.first = nn.Linear(latent * (2 if classes else 1), maps[0] * sizes[0][0] * sizes[0][1], bias=False)
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(maps)):
            # A kernel of four at a step of two: each pixel is met equally often (Odena et al. 2016).
            cut = tuple(2 * small - side for small, side in zip(sizes[place], sizes[place + 1], strict=True))
            last = place == len(maps) - 2
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(before, after, 4, 2, padding=1, bias=last))
            if any(cut):
                layers.append(nn.ZeroPad2d((0, -cut[1], 0, -cut[0])))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        _initialised(self)

    def forward(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        if self.classes is not None:
            noise = torch.cat([noise, self.classes(classes)], dim=1)
        maps = self.first(noise).unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)
        return self.layers(maps)


class Discriminator(nn.Module):
    """Images to a number each, [n]: convolutions that halve the sides, then a dense layer."""

    def __init__(
        self, shape: tuple[int, int, int], channels: list[int], last: tuple[int, int], classes: int, spectral: bool,
        normalised: bool,
    ):  # fmt: skip
        super().__init__()
        divided = spectral_norm if spectral else lambda layer: layer
        layers: list[nn.Module] = []
        sides = shape[1:]
        for place, (before, after) in enumerate(pairwise([shape[0], *channels])):
            # Odd sides get a row or a column more, so that each side is halved, rounded up.
            if any(side % 2 for side in sides):
                layers.append(nn.ZeroPad2d((0, sides[1] % 2, 0, sides[0] % 2)))
            sides = tuple(-(-side // 2) for side in sides)
            layers.append(nn.Conv2d(before, after, 4, 2, padding=1))
            layers += [nn.BatchNorm2d(after)] if normalised and place else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        features = channels[-1] * last[0] * last[1]
        self.output = nn.Linear(features, 1)
        self.classes = nn.Embedding(classes, features) if classes else None
        _initialised(self)
        for layer in [*self.layers, self.output, self.classes]:
            if isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
                divided(layer)

    def forward(self, images: Tensor, classes: Tensor | None) -> Tensor:
        found = self.layers(images)
        judged = self.output(found)[:, 0]
        return judged if self.classes is None else judged + (self.classes(classes) * found).sum(1)


def _initialised(network: nn.Module) -> None:
    """Normal weights of deviation 0.02, as in the paper."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
