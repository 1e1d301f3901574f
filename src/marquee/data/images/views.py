"""Batches of images, gathered from the memory map and augmented as whole tensors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.dataset import ExampleView
from marquee.data.images.dataset import ImageData
from marquee.seeding import derive, numpy_generator


class ImageBatch(NamedTuple):
    """Images with their labels and where they stand."""

    images: Tensor  # uint8 [batch, channels, height, width]
    labels: Tensor  # int64 [batch]; float32 [batch, classes] when multi-label, or when images are mixed
    index: Tensor  # int64 [batch], the image's row number in the data set


def as_float(images: Tensor, limit: float = 2.0) -> Tensor:
    """uint8 pixels as float32 from -limit to limit, channels last, as convolutions on CPUs and tensor cores prefer."""
    return images.to(torch.float32, memory_format=torch.channels_last).sub_(127.5).mul_(limit / 127.5)


@dataclass(frozen=True, kw_only=True)
class ImageBatches(ExampleView):
    """Every image once an epoch, in random order, and augmented where that is asked for.

    An image's augmentation is a pure function of (seed, epoch, row number), so neither batch size nor the number of
    processes changes it. Evaluation sees the images as they are.

    batch_size  images a training step
    flip        mirror half of the images left to right
    crop        shift by up to so many pixels each way; the border is repeated
    rotate      turn by up to so many degrees each way about the centre; the border is repeated
    scale       height and width change by up to this share, each by its own
    jitter      brightness and contrast change by up to this share each
    erase       share of images in which a rectangle (2 to 40 % of the area, sides from 3:10 to 10:3) takes on the
                image's mean colour (Zhong et al. 2020, "Random Erasing Data Augmentation", AAAI)
    mixup       alpha of Beta(alpha, alpha), by which each image and its label are mixed with those of the next one in
                the epoch's order (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", ICLR); 0: not mixed
    """

    batch_size: Annotated[int, Ge(1)] = 64
    flip: bool = False
    crop: Annotated[int, Ge(0)] = 0
    rotate: Annotated[float, Interval(ge=0, le=180)] = 0.0
    scale: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    jitter: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    erase: Annotated[float, Interval(ge=0, le=1)] = 0.0
    mixup: Annotated[float, Ge(0)] = 0.0

    def steps(self, data: ImageData) -> int:
        return -(-len(data.parts["train"]) // self.batch_size)

    def train_batches(self, data: ImageData, seed: int, epoch: int) -> Iterator[ImageBatch]:
        index = numpy_generator(seed, "image batches", epoch).permutation(data.parts["train"])
        key = derive(seed, "augmentation", epoch)
        if self.mixup:
            shares = numpy_generator(seed, "mixup", epoch).beta(self.mixup, self.mixup, len(index))
            index = np.append(index, index[0])  # the last one's next
        for start in range(0, len(index) - bool(self.mixup), self.batch_size):
            stop = min(start + self.batch_size, len(index) - bool(self.mixup))
            batch = self.batch(data, index[start : stop + bool(self.mixup)])
            batch = batch._replace(images=self.augment(batch.images, batch.index, key))
            if self.mixup:
                share = torch.from_numpy(shares[start:stop].astype(np.float32))
                batch = mixed(batch, share, data.spec.n_classes)
            yield batch

    def batch(self, data: ImageData, index: np.ndarray) -> ImageBatch:
        images = torch.from_numpy(np.take(data.images, index, axis=0))
        return ImageBatch(images, torch.from_numpy(data.labels[index]), torch.from_numpy(index))

    def augment(self, images: Tensor, index: Tensor, key: int) -> Tensor:
        """Move, jitter and erase [batch, channels, height, width]; `key` stands for (seed, epoch)."""
        if self.flip or self.crop:
            images = self._move(images, index, key)
        if self.rotate or self.scale:
            images = self._turn(images, index, key)
        if self.jitter:
            contrast, brightness = (
                (1 + self.jitter * (2 * uniform(key, index, stream) - 1))[:, None, None, None] for stream in (3, 4)
            )
            # The mean grey of each image stays where contrast leaves it, and brightness scales the outcome.
            pixels = images.float()
            grey = pixels.mean(dim=(1, 2, 3), keepdim=True)
            images = ((pixels - grey) * contrast + grey).mul_(brightness).round_().clamp_(0, 255).to(torch.uint8)
        if self.erase:
            images = self._erase(images, index, derive(key, "erase"))
        return images

    def _move(self, images: Tensor, index: Tensor, key: int) -> Tensor:
        height, width = images.shape[2:]
        span = 2 * self.crop + 1
        down, right = ((uniform(key, index, stream) * span).long() - self.crop for stream in (0, 1))
        rows = (torch.arange(height) + down[:, None]).clamp_(0, height - 1)
        columns = (torch.arange(width) + right[:, None]).clamp_(0, width - 1)
        if self.flip:
            mirrored = uniform(key, index, 2) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        # One gather for both: first whole rows, then the pixels within them.
        images = images.gather(2, rows[:, None, :, None].expand_as(images))
        return images.gather(3, columns[:, None, None, :].expand_as(images))

    def _turn(self, images: Tensor, index: Tensor, key: int) -> Tensor:
        height, width = images.shape[2:]
        angle, tall, wide = (2 * uniform(key, index, stream) - 1 for stream in (5, 6, 7))
        angle = angle * (self.rotate * math.pi / 180)
        tall, wide = 1 / (1 + self.scale * tall), 1 / (1 + self.scale * wide)
        zero, sine, cosine = torch.zeros_like(angle), angle.sin(), angle.cos()
        # Where each pixel of the outcome comes from, in units of half a side, in which a turn has to know the sides.
        across = torch.stack([cosine * wide, sine * wide * (height / width), zero], dim=1)
        down = torch.stack([-sine * tall * (width / height), cosine * tall, zero], dim=1)
        grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
        pixels = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return pixels.round_().to(torch.uint8)

    def _erase(self, images: Tensor, index: Tensor, key: int) -> Tensor:
        height, width = images.shape[2:]
        chosen, area, aspect, top, left = (uniform(key, index, stream) for stream in range(5))
        area = (0.02 + 0.38 * area) * (height * width)
        aspect = torch.exp((2 * aspect - 1) * math.log(10 / 3))
        tall = (area * aspect).sqrt().round().clamp(1, height)
        wide = (area / aspect).sqrt().round().clamp(1, width)
        top, left = (top * (height - tall + 1)).floor(), (left * (width - wide + 1)).floor()
        rows, columns = torch.arange(height), torch.arange(width)
        rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
        columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
        hidden = rows[:, None, :, None] & columns[:, None, None, :] & (chosen < self.erase)[:, None, None, None]
        colour = images.float().mean(dim=(2, 3), keepdim=True).round_().to(torch.uint8)
        return torch.where(hidden, colour, images)


def mixed(batch: ImageBatch, share: Tensor, n_classes: int) -> ImageBatch:
    """Each of the first n images, to its `share` (float32 [n]), with the one that follows it; the batch has n + 1.

    Labels become float32 [n, classes].
    """
    n, labels = len(share), batch.labels
    if labels.ndim == 1:
        labels = F.one_hot(labels, n_classes).float()
    pixels = batch.images.float()
    images = torch.lerp(pixels[1:], pixels[:-1], share[:, None, None, None]).round_().to(torch.uint8)
    return ImageBatch(images, torch.lerp(labels[1:], labels[:-1], share[:, None]), batch.index[:n])


def uniform(key: int, index: Tensor, stream: int) -> Tensor:
    """One number in [0, 1) for each index (float32): a counter-based generator, so that none depends on another.

    splitmix64 of Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
    """
    with np.errstate(over="ignore"):
        state = np.uint64(key) + (index.numpy().astype(np.uint64) * np.uint64(8) + np.uint64(stream + 1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    # 24 bits: more would round up to 1.0 in float32.
    return torch.from_numpy((state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24))
