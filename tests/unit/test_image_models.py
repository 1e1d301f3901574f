"""Image models: shapes, sizes that do not fit, memory layout, and learning."""

import pytest
import torch

from marquee.data.images.views import ImageBatch, ImageBatches
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.cnn.poster import PosterCnn
from marquee.models.cnn.resnet_small import ResNetSmall

VIEW = ImageBatches()
MODELS = {
    "poster": lambda spec: PosterCnn(spec, view=VIEW, channels=[4, 8, 8], dense=16),
    "resnet_small": lambda spec: ResNetSmall(spec, view=VIEW, width=8, blocks=1),
}


def images(spec, n=6):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (n, spec.channels, spec.height, spec.width), dtype=torch.uint8, generator=generator
    )  # fmt: skip
    return ImageBatch(pixels, torch.arange(n) % spec.n_classes, torch.arange(n))


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 50, 34), (3, 17, 8)])
@pytest.mark.parametrize("name", MODELS)
def test_logits_have_a_row_an_image_and_every_weight_learns(name, size):
    spec = ImageSpec(*size, n_classes=3)
    model = MODELS[name](spec)
    logits = model(images(spec))
    assert logits.shape == (6, 3)
    torch.nn.functional.cross_entropy(logits, images(spec).labels).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


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


@pytest.mark.parametrize("name", MODELS)
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
    with torch.autocast("cpu", torch.bfloat16):
        logits = MODELS[name](spec)(images(spec))
    assert bool(logits.isfinite().all())
