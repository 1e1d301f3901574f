"""Models that make pictures beside plain PyTorch loops of the same networks, on posters of 32 by 32 pixels.

The networks here are built of torch.nn alone, as one would write them for speed: nothing of Marquee's models. Batches
are ready before the clock starts, and are those that Marquee makes.
"""

from collections.abc import Callable
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.measure import Benchmark, Measured, cpu_seconds
from benchmarks.training import batch_of, compare
from benchmarks.workspace import Workspace

SMALL = ["task=image_generation", "data.height=32", "data.width=32"]


def pixels(images: Tensor) -> Tensor:
    return images.to(torch.float32, memory_format=torch.channels_last).sub_(127.5).mul_(1 / 127.5)


def adversaries(task: Any, steps: int | None) -> Callable[[int], float]:
    """A DCGAN with hinge loss, spectral normalisation and a running mean of the generator: two Adams."""
    view, data, seed = task.model.view, task.data, task.seed
    latent, widths = task.model.noise[0], (32, 64, 128)
    generator = nn.Sequential(
        nn.Linear(latent, widths[2] * 16, bias=False), nn.Unflatten(1, (widths[2], 4, 4)),
        nn.BatchNorm2d(widths[2]), nn.ReLU(True), nn.ConvTranspose2d(widths[2], widths[1], 4, 2, 1, bias=False),
        nn.BatchNorm2d(widths[1]), nn.ReLU(True), nn.ConvTranspose2d(widths[1], widths[0], 4, 2, 1, bias=False),
        nn.BatchNorm2d(widths[0]), nn.ReLU(True), nn.ConvTranspose2d(widths[0], 3, 4, 2, 1), nn.Tanh(),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    judge = nn.Sequential(
        spectral_norm(nn.Conv2d(3, widths[0], 4, 2, 1)), nn.LeakyReLU(0.2, True),
        spectral_norm(nn.Conv2d(widths[0], widths[1], 4, 2, 1)), nn.LeakyReLU(0.2, True),
        spectral_norm(nn.Conv2d(widths[1], widths[2], 4, 2, 1)), nn.LeakyReLU(0.2, True),
        nn.Flatten(), spectral_norm(nn.Linear(widths[2] * 16, 1)),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    mean = deepcopy(generator)
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.9), fused=True) for net in (judge, generator)]
    averaged, weights = list(mean.parameters()), list(generator.parameters())

    def epoch(number: int) -> float:
        batches = list(islice(view.train_batches(data, seed, number), steps))
        start = cpu_seconds()
        for batch in batches:
            real = pixels(batch.images)
            made = generator(torch.randn(len(real), latent))
            loss = F.relu(1 - judge(real)).mean() + F.relu(1 + judge(made.detach())).mean()
            adams[0].zero_grad()
            loss.backward()
            adams[0].step()
            judge.requires_grad_(False)
            adams[1].zero_grad()
            (-judge(made).mean()).backward()
            adams[1].step()
            judge.requires_grad_(True)
            with torch.no_grad():
                torch._foreach_lerp_(averaged, weights, 0.001)
        return cpu_seconds() - start

    return epoch


def autoencoder(task: Any, steps: int | None) -> Callable[[int], float]:
    """Two gated layers each way, values by a discretised logistic distribution."""
    view, data, seed = task.model.view, task.data, task.seed
    latent, width, size = task.model.noise[0], 500, 3 * 32 * 32
    inside = nn.Sequential(
        nn.Flatten(), nn.Linear(size, 2 * width), nn.GLU(), nn.Linear(width, 2 * width), nn.GLU(),
        nn.Linear(width, 2 * latent),
    )  # fmt: skip
    outside = nn.Sequential(
        nn.Linear(latent, 2 * width), nn.GLU(), nn.Linear(width, 2 * width), nn.GLU(), nn.Linear(width, size)
    )
    log_scale = nn.Parameter(torch.full((3, 1), -2.0))
    adam = torch.optim.Adam([*inside.parameters(), *outside.parameters(), log_scale], 1e-3, fused=True)

    def epoch(number: int) -> float:
        batches = list(islice(view.train_batches(data, seed, number), steps))
        start = cpu_seconds()
        for batch in batches:
            values = batch.images.float()
            given = values / 127.5 - 1
            mean, log_variance = inside(given).chunk(2, dim=1)
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
            off = (given.flatten(2) - outside(z).unflatten(1, (3, -1))) / log_scale.exp()
            half = 1 / (255 * log_scale.exp())
            upper, lower = off + half, off - half
            inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
            seen = values.flatten(2)
            told = torch.where(seen < 1, F.logsigmoid(upper), torch.where(seen > 254, F.logsigmoid(-lower), inner))
            loss = divergence - told.sum(dim=(1, 2)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return cpu_seconds() - start

    return epoch


def dcgan(space: Workspace) -> Measured:
    return compare(space, "posters", adversaries, *SMALL, "model=gan/dcgan", *batch_of(space), steps=20)


def vae(space: Workspace) -> Measured:
    words = ["model=autoencoder/vae", "model.likelihood=8-bit", "model.view.batch_size=64"]
    return compare(space, "posters", autoencoder, *SMALL, *words, *batch_of(space), steps=20)


BENCHMARKS = [
    Benchmark("dcgan_epoch", "ratio", 1.1, "CPU s/20 steps", "hand-written loop", dcgan),
    Benchmark("vae_epoch", "ratio", 1.1, "CPU s/20 steps", "hand-written loop", vae),
]
