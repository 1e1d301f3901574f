"""What makes pictures: the base of the models, the noise that they make them of, and the 0/1 pixels of likelihoods."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from marquee.data.images.views import ImageBatch
from marquee.data.spec import ImageSpec
from marquee.models.base import Model
from marquee.seeding import derive

Step = Callable[[str, Tensor], None]  # one update of a learner's parameters by its loss


class ImageModel(Model):
    """Makes new images of noise, and of classes where it is conditional.

    noise        the shape of what one image is made of: standard normal numbers
    conditional  whether `generate` takes classes
    learners     parts that have an optimiser each and take turns in `learn`; empty: one loss for all
    likelihood   what `log_weights` is the likelihood of: `binary` pixels, `8-bit` ones, or None where it has none
    """

    noise: tuple[int, ...]
    conditional: bool = False
    learners: ClassVar[tuple[str, ...]] = ()
    likelihood: str | None = None

    @abstractmethod
    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images uint8 [n, channels, height, width] of noise [n, *self.noise] and classes int64 [n]."""

    def loss(self, batch: ImageBatch) -> Tensor:
        """The mean training loss of a batch (scalar), where there are no `learners`."""
        raise NotImplementedError

    def learn(self, batch: ImageBatch, step: Step) -> dict[str, Tensor]:
        """Train on a batch by `step`, once or more for each of the `learners`; the losses of each, by name."""
        raise NotImplementedError

    def log_weights(self, pixels: Tensor, samples: int) -> Tensor:
        """log p(x, z) - log q(z | x) of so many z for each image, [samples, n]; one row, log p(x), where it is exact.

        pixels  float32 [n, channels, height, width]: 0 or 1 where the likelihood is binary, else 0 ... 255
        """
        raise NotImplementedError


def bound(log_weights: Tensor) -> Tensor:
    """The bound in nats [n] of log weights [k, n]: -log of their mean (Burda et al. 2016, eq. 8); k = 1 is the ELBO."""
    return math.log(len(log_weights)) - log_weights.logsumexp(dim=0)


def to_pixels(values: Tensor) -> Tensor:
    """Values from -1 to 1 as uint8; what lies beyond is cut."""
    return values.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def noise_of(model: ImageModel, seed: int, numbers: Tensor) -> Tensor:
    """Standard normal noise [n, *model.noise] of the samples with these numbers (int64 [n]).

    Each number of it is a function of the seed, the sample and the place alone, so neither how many samples are asked
    for nor the batch they stand in changes one of them.
    """
    size = math.prod(model.noise)
    first, second = (_uniform(derive(seed, "picture", half), numbers.numpy(), -(-size // 2)) for half in (0, 1))
    # Box & Muller 1958: two uniform numbers make two normal ones.
    radius, angle = np.sqrt(-2 * np.log1p(-first)), 2 * math.pi * second
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :size]
    return torch.from_numpy(normal.astype(np.float32)).reshape(-1, *model.noise)


def classes_of(shares: Tensor, seed: int, numbers: Tensor) -> Tensor:
    """The class int64 [n] of the samples with these numbers, drawn by the `shares` of the classes."""
    drawn = torch.from_numpy(_uniform(derive(seed, "picture class"), numbers.numpy(), 1)[:, 0])
    edges = shares.double().cumsum(0) / shares.double().sum()
    return torch.searchsorted(edges, drawn, right=True).clamp(max=len(shares) - 1)


def binarised(images: Tensor, index: Tensor, key: int) -> Tensor:
    """uint8 pixels as 0 or 1 (float32): 1 with probability pixel / 255, by (key, row number, place) alone."""
    drawn = _uniform(key, index.cpu().numpy(), images[0].numel())
    return (images.float() > 255 * torch.from_numpy(drawn).to(images.device).reshape(images.shape)).float()


def class_shares(data: Any) -> Tensor:
    """How many training images have each class, float32 [n_classes]."""
    labels = np.asarray(data.labels[data.parts["train"]])
    counts = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels, minlength=data.spec.n_classes)
    return torch.from_numpy(counts.astype(np.float32))


def shape_of(spec: ImageSpec) -> tuple[int, int, int]:
    """The shape of one image."""
    return spec.channels, spec.height, spec.width


def _uniform(key: int, numbers: np.ndarray, size: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 [n, size]: splitmix64 (Steele, Lea & Flood 2014) of key, number and place."""
    with np.errstate(over="ignore"):
        place = numbers.astype(np.uint64)[:, None] * np.uint64(size) + np.arange(1, size + 1, dtype=np.uint64)
        state = np.uint64(key) + place * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)
