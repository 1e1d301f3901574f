"""How near generated pictures come to real ones, by their features: distances of distributions, and neighbours.

Features are float32 [n, d] of any extractor; which it was belongs to the protocol, because values under two extractors
have nothing to do with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator

ROWS = 1000  # of a table of distances at once: 40 MB against 10,000
SAME = 1e-13  # of the sum of two squared lengths: closer than float32 can tell
COVERED = 0.1  # share of its frequency among real images from which on a class counts as covered


class Scored(NamedTuple):
    """What is known of a batch of samples, and of the images that they stand beside."""

    features: Tensor  # float32 [batch, d], of the samples
    classes: Tensor | None  # int64 [batch], what the extractor takes the samples for
    elbo: Tensor | None = None  # float [batch], nats of the images
    nats: Tensor | None = None  # float [batch], likewise, by importance sampling


@dataclass(frozen=True)
class Real:
    """The real images that samples are held against.

    rows      int64 [n], their row numbers in the data set
    features  float32 [n, d]
    classes   int64 [n], what the extractor takes them for; None where it knows none
    n_classes that it knows
    train     float32 [images, d], features of all that was trained on; None where memorisation is not measured
    away      the mean distance of the real images to the nearest of `train`; 0 where all are copies, and then
              memorisation is not measured either
    """

    rows: np.ndarray
    features: Tensor
    classes: np.ndarray | None = None
    n_classes: int = 0
    train: Tensor | None = None
    away: float = 0.0


def kid(real: Tensor, made: Tensor) -> float:
    """Kernel distance: the unbiased estimate of the squared MMD under the kernel (x y / d + 1)^3, over all pairs.

    Binkowski et al. 2018, "Demystifying MMD GANs", ICLR, eq. 4. It may be negative where both are alike.
    """
    real, made = real.double(), made.double()

    def total(a: Tensor, b: Tensor, same: bool) -> float:
        summed = 0.0
        for start in range(0, len(a), ROWS):
            kernel = (a[start : start + ROWS] @ b.T / a.shape[1] + 1) ** 3
            summed += float(kernel.sum()) - (float(kernel.diagonal(start).sum()) if same else 0.0)
        return summed / (len(a) * (len(b) - same))

    return total(real, real, True) + total(made, made, True) - 2 * total(real, made, False)


def fid(real: Tensor, made: Tensor) -> float:
    """Frechet distance of two normal distributions with the means and covariances of the features.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule ...", NIPS, eq. 6. It is biased upwards, the more
    the fewer images there are: values at different n are not comparable.
    """
    means, roots, traces = [], [], 0.0
    for features in (real.double(), made.double()):
        mean = features.mean(dim=0)
        centred = (features - mean) / max(len(features) - 1, 1) ** 0.5
        means.append(mean)
        roots.append(centred)
        traces += float(centred.square().sum())
    # tr (A B)^(1/2) with A = X'X and B = Y'Y is the sum of the singular values of X Y', whatever the rank.
    a, b = (_triangle(root) for root in roots)
    common = float(torch.linalg.svdvals(a @ b.T).sum())
    return float((means[0] - means[1]).square().sum()) + traces - 2 * common


def _triangle(x: Tensor) -> Tensor:
    """R [min(n, d), d] with R'R = X'X, so that tables are no larger than features are long."""
    return torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x


def distances_of(a: Tensor, b: Tensor) -> Tensor:
    """Float64 [len(a), len(b)]; exactly 0 between copies, wherever the origin lies."""
    a, b = a.double(), b.double()
    sizes = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    squares = torch.addmm(sizes, a, b.T, alpha=-2)
    # What is left of a difference below the resolution of float32 is rounding, which would tell copies apart.
    return squares.masked_fill_(squares < SAME * sizes, 0).sqrt_()


def radii(features: Tensor, k: int) -> Tensor:
    """The distance of each [n] to its k-th nearest neighbour among the others."""
    parts = []
    for start in range(0, len(features), ROWS):
        distances = distances_of(features[start : start + ROWS], features)
        rows = torch.arange(len(distances))
        distances[rows, rows + start] = -1.0  # itself comes first, whatever rounding says
        parts.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(parts)


class Neighbours(NamedTuple):
    """Which real images and samples lie within each other's neighbourhoods."""

    precision: float
    recall: float
    density: float
    coverage: np.ndarray  # bool [real images]


def neighbours(real: Tensor, made: Tensor, k: int) -> Neighbours:
    """Precision and recall (Kynkaanniemi et al. 2019, NeurIPS), density and coverage (Naeem et al. 2020, ICML).

    A neighbourhood is the ball around an image that reaches to its k-th nearest among its own kind.

    precision  share of the samples that lie in the ball of a real image
    recall     share of the real images that lie in the ball of a sample
    density    balls of real images that a sample lies in, divided by k, on average; may exceed 1
    coverage   share of the real images whose ball holds a sample
    """
    around_real, around_made = radii(real, k), radii(made, k)
    inside = torch.zeros(len(made))
    recalled, covered = [], []
    for start in range(0, len(real), ROWS):
        distances = distances_of(real[start : start + ROWS], made)
        within = distances < around_real[start : start + ROWS, None]
        inside += within.sum(dim=0)
        covered.append(within.any(dim=1))
        recalled.append((distances < around_made).any(dim=1))
    return Neighbours(
        float((inside > 0).float().mean()),
        float(torch.cat(recalled).float().mean()),
        float(inside.mean()) / k,
        torch.cat(covered).numpy(),
    )


def nearest(features: Tensor, among: Tensor) -> Tensor:
    """The distance of each [n] to the nearest `among` others; exactly 0 for a copy."""
    parts = []
    middle = among.mean(dim=0)
    features, among = features - middle, among - middle  # far from the origin products would leave no digits
    for start in range(0, len(features), ROWS):
        here = features[start : start + ROWS]
        near = torch.cdist(here, among).argmin(dim=1)
        # Once more without the shortcut through a product, which leaves a little where nothing should be.
        parts.append((here - among[near]).norm(dim=1))
    return torch.cat(parts)


def modes(classes: np.ndarray, real: np.ndarray, n_classes: int) -> tuple[float, float]:
    """Share of the real images' classes that are covered, and the entropy of the samples' classes in nats.

    A class is covered where its share of the samples is at least a tenth of its share of the real images. A generator
    that has collapsed makes few classes: both fall.
    """
    made, wanted = (np.bincount(part, minlength=n_classes) / len(part) for part in (classes, real))
    there = wanted > 0
    shares = made[made > 0]
    return float((made[there] >= COVERED * wanted[there]).mean()), float(-(shares * np.log(shares)).sum())


class PictureEvaluator(Evaluator):
    """Samples against real images; a unit is a real image.

    real        what samples are held against
    neighbours  k of the neighbourhoods
    """

    def __init__(self, real: Real, k: int):
        self.real, self.k = real, k
        self.parts: list[dict[str, np.ndarray]] = []

    def update(self, scores: Scored, batch: Any) -> None:
        if not bool(scores.features.isfinite().all()):
            raise JobError("The features of generated images are not finite: the model has diverged.")
        arrays = {"number": batch.number, **scores._asdict()}
        self.parts.append({name: value.cpu().numpy() for name, value in arrays.items() if value is not None})

    def state(self) -> dict[str, np.ndarray]:
        return (
            {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]} if self.parts else {}
        )

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        states = [state for state in states if state]
        joined = {name: np.concatenate([state[name] for state in states]) for name in states[0]}
        order = np.argsort(joined["number"], kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
        # Fewer than all where the test is cut (trainer.limit_test_batches).
        number, made = joined["number"], torch.from_numpy(joined["features"])
        rows, real = self.real.rows[number], self.real.features[torch.from_numpy(number)]
        k = min(self.k, len(real) - 1, len(made) - 1)
        near = neighbours(real, made, k)
        metrics = {
            "kid": kid(real, made), "fid": fid(real, made), "precision": near.precision, "recall": near.recall,
            "density": near.density, "coverage": float(near.coverage.mean()),
        }  # fmt: skip
        if "classes" in joined:
            found = modes(joined["classes"], self.real.classes[number], self.real.n_classes)
            metrics["modes"], metrics["class_entropy"] = found
        away = nearest(real, made).numpy().astype(np.float64)
        metrics["nearest"] = float(away.mean())
        if self.real.train is not None and self.real.away > 0:  # else all real images are copies: there is no ratio
            metrics["memorisation"] = float(nearest(made, self.real.train).mean()) / self.real.away
        units = {"image": rows, "coverage": near.coverage.astype(np.float64), "nearest": away}
        for name in ("elbo", "nats"):
            if name in joined:
                units[name] = joined[name].astype(np.float64)
                metrics[name] = float(units[name].mean())
        table = pd.DataFrame(units).sort_values("image", kind="stable").reset_index(drop=True)
        return metrics, table
