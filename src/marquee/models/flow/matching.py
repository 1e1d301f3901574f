"""Flow matching: a small U-Net learns the speed at which noise moves to images, along straight lines."""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.models.pictures import ImageModel, shape_of, to_pixels

Widths = Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]
FREQUENCIES = 16  # sines and cosines each that tell the network the time


class FlowMatching(ImageModel):
    """Images are where noise arrives after the time from 0 to 1, at the speed that the network tells.

    Lipman et al. 2023, "Flow Matching for Generative Modeling", ICLR; straight lines x_t = (1 - t) noise + t image,
    whose speed is image - noise (Liu et al. 2023, "Flow Straight and Fast", ICLR). The loss is the mean squared error
    of the speed at a random time.

    channels  of the stages; each but the first halves the sides
    patch     pixels a side that the first layer takes together; time falls with its square
    solver    how speeds are added up: euler asks the network once a step, midpoint twice
    steps     of the solver
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        channels: Widths = [64, 128],  # noqa: B006  (never mutated)
        patch: Annotated[int, Ge(1)] = 2,
        solver: Literal["euler", "midpoint"] = "midpoint",
        steps: Annotated[int, Ge(1)] = 10,
    ):
        super().__init__()
        self.view, self.noise, self.solver, self.steps = view, shape_of(spec), solver, steps
        self.network = UNet(spec.channels, list(channels), patch)
        self.to(memory_format=torch.channels_last)

    def loss(self, batch: ImageBatch) -> Tensor:
        images = as_float(batch.images, 1.0)
        noise = torch.randn_like(images)
        time = torch.rand(len(images), device=images.device)
        moved = torch.lerp(noise, images, time[:, None, None, None])
        return F.mse_loss(self.network(moved, time).float(), images - noise)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        place = noise.contiguous(memory_format=torch.channels_last)
        step = 1 / self.steps
        for number in range(self.steps):
            time = noise.new_full((len(noise),), number * step)
            speed = self.network(place, time).float()
            if self.solver == "midpoint":
                speed = self.network(place + speed * (step / 2), time + step / 2).float()
            place = place + speed * step
        return to_pixels(place)


class UNet(nn.Module):
    """Down and up again, with what each stage saw on the way down handed across; any image size.

    Ronneberger, Fischer & Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI.
    """

    def __init__(self, colours: int, channels: list[int], patch: int):
        super().__init__()
        self.patch = patch
        told = 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.first = nn.Conv2d(colours * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(Block(width, width, told) for width in channels)
        self.halve = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.middle = Block(channels[-1], channels[-1], told)
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.up = nn.ModuleList(Block(2 * width, width, told) for width in channels)
        self.last = nn.Sequential(
            _norm(channels[0]), nn.SiLU(), nn.Conv2d(channels[0], colours * patch**2, 3, padding=1)
        )
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        """The speed, in the shape of the images [n, colours, height, width], at `time` [n] from 0 to 1."""
        height, width = images.shape[2:]
        short = (-height % self.patch, -width % self.patch)
        maps = F.pixel_unshuffle(F.pad(images, (0, short[1], 0, short[0])), self.patch)
        waves = time[:, None] * (math.pi * 2 ** torch.linspace(0, 6, FREQUENCIES, device=time.device))
        told = self.time(torch.cat([waves.sin(), waves.cos()], dim=1))
        maps = self.first(maps.contiguous(memory_format=torch.channels_last))
        seen = []
        for place, block in enumerate(self.down):
            maps = block(self.halve[place - 1](maps) if place else maps, told)
            seen.append(maps)
        maps = self.middle(maps, told)
        for place in reversed(range(len(self.up))):
            maps = self.up[place](torch.cat([maps, seen[place]], dim=1), told)
            if place:
                maps = F.interpolate(self.widen[place - 1](maps), size=seen[place - 1].shape[2:], mode="nearest")
        return F.pixel_shuffle(self.last(maps), self.patch)[..., :height, :width]


class Block(nn.Module):
    """Two convolutions beside a way around them; the time shifts and scales what is between."""

    def __init__(self, before: int, after: int, told: int):
        super().__init__()
        self.inside = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.told = nn.Linear(told, 2 * after)
        self.norm = _norm(after)
        self.outside = nn.Conv2d(after, after, 3, padding=1)
        self.around = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, maps: Tensor, told: Tensor) -> Tensor:
        shift, scale = self.told(told)[:, :, None, None].chunk(2, dim=1)
        inside = self.norm(self.inside(maps)) * (1 + scale) + shift
        return self.around(maps) + self.outside(F.silu(inside))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
