"""Image models: shapes, sizes that do not fit, memory layout, learning, and their parts against second sources."""

import copy
import math

import numpy as np
import pytest
import torch

from marquee.data.images.views import ImageBatch, ImageBatches
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.cnn import convnext, resnet_small
from marquee.models.cnn.convnext import ConvNext
from marquee.models.cnn.mobile import Mobile
from marquee.models.cnn.poster import PosterCnn
from marquee.models.cnn.resnet_small import ResNetSmall
from marquee.models.transformer.vit_small import VitSmall, sines

VIEW = ImageBatches()
MODELS = {
    "poster": lambda spec: PosterCnn(spec, view=VIEW, channels=[4, 8, 8], dense=16),
    "poster normed": lambda spec: PosterCnn(spec, view=VIEW, channels=[4, 8], dense=16, batch_norm=True),
    "resnet_small": lambda spec: ResNetSmall(spec, view=VIEW, width=8, blocks=1),
    "convnext": lambda spec: ConvNext(spec, view=VIEW, channels=[8, 16], blocks=[1, 1], stem=2),
    "mobile": lambda spec: Mobile(spec, view=VIEW, channels=[8, 16], blocks=[1, 2], head=16, stem=1, dropout=0.0),
    "vit_small": lambda spec: VitSmall(spec, view=VIEW, patch=7, dim=16, heads=2, layers=1),
    "vit_small cls": lambda spec: VitSmall(
        spec, view=VIEW, patch=4, dim=16, heads=2, layers=1, positions="learnt", pooling="cls"
    ),
}
CONVOLUTIONAL = [name for name in MODELS if not name.startswith("vit")]


def images(spec, n=6):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (n, spec.channels, spec.height, spec.width), dtype=torch.uint8, generator=generator
    )  # fmt: skip
    return ImageBatch(pixels, torch.arange(n) % spec.n_classes, torch.arange(n))


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 150, 102), (3, 17, 8)])
@pytest.mark.parametrize("name", MODELS)
def test_logits_have_a_row_an_image_and_every_weight_learns(name, size):
    spec = ImageSpec(*size, n_classes=3)
    torch.manual_seed(0)
    model = MODELS[name](spec)
    logits = model(images(spec))
    assert logits.shape == (6, 3)
    torch.nn.functional.cross_entropy(logits, images(spec).labels).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize("name", MODELS)
def test_in_evaluation_an_image_is_judged_by_itself(name):
    spec = ImageSpec(3, 28, 20, n_classes=3)
    torch.manual_seed(0)
    model, batch = MODELS[name](spec), images(spec)
    model(batch)  # running statistics other than the first
    model.eval()
    together = model(batch)
    for row in range(len(batch.images)):
        alone = model(ImageBatch(batch.images[row : row + 1], None, None))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_after_its_weights_were_written_and_read(name):
    spec = ImageSpec(1, 28, 28, n_classes=3)
    model, other = MODELS[name](spec), MODELS[name](spec)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model.eval()(images(spec)), other.eval()(images(spec)))


def test_the_default_poster_network_is_that_of_the_paper():
    model = PosterCnn(ImageSpec(3, 150, 150, 2), view=VIEW)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    # 150 halves to 75, 37 and 18; 128 channels of 18 by 18 make 41,472 values.
    assert shapes == [(32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (512, 41472), (2, 512)]


def test_an_image_too_small_for_the_pooling_is_refused():
    with pytest.raises(ConfigError, match=r"model\.channels=\[32, 64, 128\] halves the image 3 times, and 4 by 4"):
        PosterCnn(ImageSpec(1, 4, 4, 2), view=VIEW)


def test_resnet_has_the_papers_depth():
    convolutions = sum(
        isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)
        for module in ResNetSmall(ImageSpec(3, 32, 32, 10), view=VIEW, blocks=3).modules()
    )
    assert convolutions + 1 == 20  # and the linear layer


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutions_run_channels_last(name):
    model = MODELS[name](ImageSpec(3, 32, 32, 2))
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _, __, output: seen.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    model(images(ImageSpec(3, 32, 32, 2)))
    assert seen
    assert all(seen)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_learns_a_few_images_by_heart(name):
    spec = ImageSpec(1, 16, 16, n_classes=2)
    torch.manual_seed(0)
    model, batch = MODELS[name](spec), images(spec, n=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), batch.labels).backward()
        optimizer.step()
    assert bool((model.eval()(batch).argmax(1) == batch.labels).all())


@pytest.mark.parametrize("name", MODELS)
def test_models_run_in_bfloat16(name):
    spec = ImageSpec(3, 32, 32, 2)
    model = MODELS[name](spec)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images(spec))
    logits.float().logsumexp(1).sum().backward()
    assert bool(logits.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


# The parts of each ----------------------------------------------------------------------------------------------------


def test_a_residual_block_that_halves_is_the_papers_formula():
    """Its shortcut against torch's convolution that steps two pixels, also for an odd side."""
    torch.manual_seed(0)
    block = resnet_small.Block(4, 6, 2).eval()
    x = torch.randn(2, 4, 7, 6)
    straight = torch.nn.functional.conv2d(x, block.shortcut[0].weight, stride=2)
    y = block.first_norm(torch.nn.functional.conv2d(x, block.first.weight, stride=2, padding=1)).relu()
    y = block.second_norm(torch.nn.functional.conv2d(y, block.second.weight, padding=1))
    torch.testing.assert_close(block(x), (y + block.shortcut[1](straight)).relu(), atol=1e-5, rtol=1e-5)


def test_a_convnext_block_is_the_papers_formula():
    """Against torch's own functions, put together after figure 4 of the paper, with channels first."""
    torch.manual_seed(0)
    block = convnext.Block(8, 7, 4, 0.5, 0.0)
    x = torch.randn(2, 8, 9, 6)
    y = torch.nn.functional.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=8)
    mean, variance = y.mean(1, keepdim=True), y.var(1, keepdim=True, unbiased=False)
    y = (y - mean) / (variance + 1e-6).sqrt()
    y = torch.einsum("oc,bchw->bohw", block.widen.weight, y) + block.widen.bias[:, None, None]
    y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    y = torch.einsum("oc,bchw->bohw", block.narrow.weight, y) + block.narrow.bias[:, None, None]
    torch.testing.assert_close(block(x), x + 0.5 * y, atol=1e-5, rtol=1e-5)


def test_stochastic_depth_leaves_out_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    block = convnext.Block(4, 3, 2, 1.0, 0.5)
    x = torch.randn(1, 4, 5, 5).expand(2000, -1, -1, -1)
    branch = block(x) - x
    left_out = (branch == 0).flatten(1).all(1)
    whole = (block.eval()(x[:1]) - x[:1])[0]
    torch.testing.assert_close(branch[~left_out][0], 2 * whole, atol=1e-5, rtol=1e-5)
    assert 900 < int(left_out.sum()) < 1100


def test_depth_is_left_out_more_often_the_later_a_block_stands():
    model = ConvNext(ImageSpec(3, 64, 64, 2), view=VIEW, channels=[8, 8], blocks=[1, 2], stochastic_depth=0.4)
    blocks = [module for module in model.modules() if isinstance(module, convnext.Block)]
    assert [round(block.stochastic_depth, 6) for block in blocks] == [0.0, 0.2, 0.4]


def test_an_inverted_residual_adds_only_where_sizes_allow():
    model = Mobile(ImageSpec(3, 32, 32, 2), view=VIEW, channels=[8, 16], blocks=[1, 2], head=16)
    kinds = [layer for layer in model.features if hasattr(layer, "adds")]
    assert [block.adds for block in kinds] == [True, False, True]
    # The first has no wider layer, so its convolution sees 8 channels; the others six times as many as come in.
    seen = [[m.in_channels for m in block.modules() if isinstance(m, torch.nn.Conv2d)] for block in kinds]
    assert seen == [[8, 8], [8, 48, 48], [16, 96, 96]]


def test_the_light_network_is_light():
    """Its parameters counted by hand from the table of its layers; the plain network has 150 times as many."""

    def convolution(before, after, kernel, groups=1):  # without bias, then two numbers a channel to normalise
        return before // groups * after * kernel**2 + 2 * after

    def block(before, inside, after):
        widen = convolution(before, inside, 1) if inside != before else 0
        return widen + convolution(inside, inside, 3, inside) + convolution(inside, after, 1)

    rows = [(16, 16, 16), (16, 96, 24), (24, 144, 24), (24, 144, 32), (32, 192, 32), (32, 192, 64), (64, 384, 64)]
    counted = convolution(3, 16, 3) + sum(block(*row) for row in rows) + convolution(64, 256, 1) + 2 * 256 + 2
    spec = ImageSpec(3, 150, 150, 2)
    count = {kind: sum(p.numel() for p in kind(spec, view=VIEW).parameters()) for kind in (Mobile, PosterCnn)}
    assert count[Mobile] == counted
    assert count[PosterCnn] > 150 * count[Mobile]


def test_what_batch_normalisation_sees_at_first_varies_by_about_one():
    """Or its running statistics, which begin at 1, would be wrong by orders of magnitude for the first epochs."""
    torch.manual_seed(0)
    spec = ImageSpec(3, 75, 51, 2)
    model, seen = Mobile(spec, view=VIEW), []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _, inputs, __: seen.append(float(inputs[0].var((0, 2, 3)).mean())))
    model(images(spec, n=16))
    assert len(seen) == 22
    assert 0.2 < min(seen) < max(seen) < 5


def test_two_dimensional_positions_by_hand():
    found = sines(2, 3, 8)
    # Row 1, column 2 is the sixth patch; wavelengths 2 pi and 10,000 * 2 pi.
    angles = [2, 2e-4], [1, 1e-4]
    wanted = [f(a) for pair in angles for f in (math.sin, math.cos) for a in pair]
    assert found.shape == (6, 8)
    assert found[5].tolist() == pytest.approx(wanted, rel=1e-5)
    assert len(np.unique(found.numpy().round(6), axis=0)) == 6


def test_an_image_that_is_no_multiple_of_the_patch_is_continued_in_grey():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (2, 1, 6, 7), dtype=torch.uint8)
    model = VitSmall(ImageSpec(1, 6, 7, 2), view=VIEW, patch=4, dim=8, heads=2, layers=1).eval()
    assert model.positions.shape == (4, 8)
    whole = torch.zeros(2, 1, 8, 8)
    whole[:, :, :6, :7] = (pixels.float() - 127.5) * (2 / 127.5)
    seen = []
    model.patches.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(ImageBatch(pixels, None, None))
    torch.testing.assert_close(seen[0], whole)


def test_without_positions_a_vision_transformer_does_not_see_where_a_patch_is():
    torch.manual_seed(0)
    spec = ImageSpec(1, 8, 8, 2)
    pixels = torch.randint(0, 256, (1, 1, 8, 8), dtype=torch.uint8)
    turned = pixels.roll(4, dims=3)  # the patches of each row change places
    model = VitSmall(spec, view=VIEW, patch=4, dim=8, heads=2, layers=1).eval()
    one, other = (model(ImageBatch(image, None, None)) for image in (pixels, turned))
    assert not torch.allclose(one, other, atol=1e-4)
    model.positions.zero_()
    one, other = (model(ImageBatch(image, None, None)) for image in (pixels, turned))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvNext(ImageSpec(1, 28, 28, 2), view=VIEW, stem=8), r"stem=8 and 3 stages need images of 32 pixels"),
        (lambda: ConvNext(ImageSpec(3, 64, 64, 2), view=VIEW, blocks=[1]), r"blocks=\[1\] must be of one length"),
        (lambda: ConvNext(ImageSpec(3, 64, 64, 2), view=VIEW, kernel=4), r"kernel=4 must be odd"),
        (lambda: Mobile(ImageSpec(3, 64, 64, 2), view=VIEW, blocks=[1, 2]), r"blocks=\[1, 2\] must be of one length"),
        (lambda: VitSmall(ImageSpec(3, 64, 64, 2), view=VIEW, heads=5), r"heads=5 must divide model\.dim=96"),
        (lambda: VitSmall(ImageSpec(3, 64, 64, 2), view=VIEW, dim=6), r"a multiple of 4, and 6 is not"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_keys(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
