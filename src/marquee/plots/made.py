"""What a run that makes pictures leaves to look at: a sheet of them beside real ones, and walks through its noise."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from marquee.data.images.dataset import ImageData
from marquee.files import replacing
from marquee.inference.pictures import AT_ONCE, Pictures, sheet
from marquee.models.pictures import classes_of, noise_of

SHOWN = 64
WALKS = 4
LARGE = 56  # pixels that a picture's shorter side is enlarged to at least


def write_made(folder: Path, data: ImageData, predictor: Pictures) -> None:
    """`samples.png`, `real.png` (of the test part, for comparison) and `walk.png`."""
    _save(folder / "samples.png", np.stack([made.content for made in predictor.generate(SHOWN, 1)]))
    _save(folder / "real.png", np.asarray(data.images[data.parts["test"][:SHOWN]]))
    model = predictor.model
    ends = torch.arange(2 * WALKS)
    noise = noise_of(model, 1, ends)
    classes = classes_of(predictor.shares, 1, ends)[:WALKS].repeat_interleave(AT_ONCE) if model.conditional else None
    paths = walk(noise[:WALKS], noise[WALKS:], AT_ONCE)
    _save(folder / "walk.png", predictor.of_noise(paths.flatten(0, 1), classes).numpy(), AT_ONCE)


def walk(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Noise [n, steps, ...] from `start` to `end` [n, ...] on a great circle, where noise has its usual length.

    White 2016, "Sampling Generative Networks", section 2.
    """
    a, b = start.flatten(1), end.flatten(1)
    cosine = torch.cosine_similarity(a, b).clamp(-0.9999, 0.9999)
    angle = cosine.acos()[:, None, None]
    share = torch.linspace(0, 1, steps)[None, :, None]
    paths = (((1 - share) * angle).sin() * a[:, None] + (share * angle).sin() * b[:, None]) / angle.sin()
    return paths.reshape(len(start), steps, *start.shape[1:])


def _save(file: Path, images: np.ndarray, columns: int | None = None) -> None:
    scale = max(1, -(-LARGE // min(images.shape[2:])))
    large = images.repeat(scale, axis=2).repeat(scale, axis=3)
    with replacing(file) as temporary:
        Image.fromarray(sheet(large, columns)).save(temporary, "PNG")
