"""Pixels of nothing but noise: what any model of images must beat."""

import math

import torch
from torch import Tensor

from marquee.data.label_view import AllLabels, LabelBatch
from marquee.data.spec import ImageSpec
from marquee.models.pictures import ImageModel, shape_of


class Noise(ImageModel):
    """Each value uniform between black and white, independent of all others. It learns nothing.

    Of binary pixels it says that 0 and 1 are equally likely, log 2 nats each.
    """

    max_epochs = 1

    def __init__(self, spec: ImageSpec, *, view: AllLabels):
        super().__init__()
        self.view, self.noise = view, shape_of(spec)
        self.likelihood = "binary" if spec.channels == 1 else None

    def fit(self, batch: LabelBatch) -> None:
        """Nothing is learnt."""

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        uniform = (1 + torch.erf(noise / math.sqrt(2))) / 2  # a normal number's own rank
        return (256 * uniform).floor().clamp(0, 255).to(torch.uint8)

    def log_weights(self, pixels: Tensor, samples: int) -> Tensor:
        return pixels.new_full((1, len(pixels)), -pixels[0].numel() * math.log(2))
