"""Distances and neighbourhoods of pictures against second implementations and numbers by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.kid import poly_mmd

from marquee.errors import JobError
from marquee.metrics import pictures
from marquee.metrics.pictures import PictureEvaluator, Real, Scored
from marquee.tasks.image_generation import PictureBatch


def features(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.fixture(autouse=True)
def in_parts(monkeypatch):
    monkeypatch.setattr(pictures, "ROWS", 7)  # so that tables are cut


def test_the_kernel_distance_is_that_of_torchmetrics():
    real, made = features(40, 5, 1), features(33, 5, 2, 0.4)
    same = features(40, 5, 3)
    assert pictures.kid(real, same) == pytest.approx(float(poly_mmd(real.double(), same.double())), abs=1e-9)
    # Of unequal numbers, by the formula: means over pairs of two different images.
    kernel = lambda a, b: (a.double().numpy() @ b.double().numpy().T / 5 + 1) ** 3  # noqa: E731
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))  # noqa: E731
    wanted = off(kernel(real, real)) + off(kernel(made, made)) - 2 * kernel(real, made).mean()
    assert pictures.kid(real, made) == pytest.approx(wanted)


@pytest.mark.parametrize("n", [60, 6])
def test_the_frechet_distance_is_that_of_the_matrix_root(n):
    """By scipy.linalg.sqrtm; with fewer images than features, too."""
    real, made = features(50, 8, 1).double(), features(n, 8, 2, 0.3).double()
    a, b = (np.cov(part.numpy(), rowvar=False) for part in (real, made))
    shift = ((real.mean(0) - made.mean(0)) ** 2).sum().item()
    wanted = shift + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert pictures.fid(real.float(), made.float()) == pytest.approx(wanted, rel=1e-4)
    assert pictures.fid(real, real) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("origin", [0.0, 1000.0])
@pytest.mark.parametrize("copies", [1, 6])
def test_neighbourhoods_are_those_of_the_published_code(origin, copies):
    """A second implementation after the definitions of `prdc`: plain loops over all pairs.

    Far from the origin, too, and where more than k real images are copies of one, so that their balls are empty.
    """
    real, made, k = features(30, 3, 1, origin), features(25, 3, 2, origin + 0.7), 3
    real[:copies], made[: copies - 1] = real[0].clone(), real[0].clone()
    distance = lambda a, b: float(((a.double() - b.double()) ** 2).sum().sqrt())  # noqa: E731
    radius = lambda own: [sorted(distance(a, b) for b in own)[k] for a in own]  # noqa: E731  (the first is itself)
    r_real, r_made = radius(real), radius(made)
    table = [[distance(a, b) for b in made] for a in real]
    found = pictures.neighbours(real, made, k)
    inside = [[table[i][j] < r_real[i] for i in range(30)] for j in range(25)]
    assert found.precision == pytest.approx(np.mean([any(row) for row in inside]))
    assert found.density == pytest.approx(np.mean([sum(row) / k for row in inside]))
    assert found.recall == pytest.approx(np.mean([any(table[i][j] < r_made[j] for j in range(25)) for i in range(30)]))
    assert found.coverage.tolist() == [min(table[i]) < r_real[i] for i in range(30)]


@pytest.mark.parametrize("origin", [100.0, 3000.0])
def test_a_copy_is_at_distance_nought_and_others_at_their_own(origin):
    train = features(60, 4, 1, origin)  # far from the origin, where a shortcut through products loses digits
    made = torch.cat([train, train[5:6] + torch.tensor([0.0, 0.0, 0.125, 0.0])])
    assert pictures.nearest(made, train).tolist() == [*[0.0] * 60, pytest.approx(0.125, abs=1e-3)]


def test_a_collapsed_generator_shows_in_the_classes():
    """By hand: four classes alike often; of 100 samples 50, 47, 2 and 1."""
    real = np.repeat(np.arange(4), 25)
    made = np.repeat(np.arange(4), [50, 47, 2, 1])
    covered, entropy = pictures.modes(made, real, 4)
    assert covered == 0.5  # 2 and 1 are below a tenth of 25
    assert entropy == pytest.approx(-sum(p * np.log(p) for p in (0.5, 0.47, 0.02, 0.01)))
    assert pictures.modes(real, real, 4) == (1.0, pytest.approx(np.log(4)))
    assert pictures.modes(np.zeros(9, dtype=int), real, 4) == (0.25, 0.0)


def evaluated(parts, real, seen=None):
    evaluator = PictureEvaluator(real, 2)
    states = []
    for numbers in parts:
        one = PictureEvaluator(real, 2)
        batch = PictureBatch(None, None, torch.tensor(numbers))
        one.update(Scored(seen[numbers], torch.tensor(numbers) % 2, None, torch.tensor(numbers).double()), batch)
        states.append(one.state())
    return evaluator.compute(states)


def test_neither_batches_nor_processes_change_a_metric_and_units_are_the_real_images():
    real = Real(np.array([5, 3, 9, 7]), features(4, 3, 1), np.array([0, 1, 0, 1]), 2, features(9, 3, 4), 0.5)
    made = features(4, 3, 2)
    metrics, units = evaluated([[0, 1, 2, 3]], real, made)
    again, same = evaluated([[2, 3], [0], [1]], real, made)
    assert metrics == again and units.equals(same)
    assert units["image"].tolist() == [3, 5, 7, 9] and units["nats"].tolist() == [1, 0, 3, 2]
    assert metrics["nats"] == 1.5 and metrics["coverage"] == units["coverage"].mean()
    by_hand = torch.cdist(made, real.train).min(1).values.mean().item() / 0.5
    assert metrics["memorisation"] == pytest.approx(by_hand, rel=1e-5)
    copied = Real(real.rows, real.features, real.classes, 2, real.features, 0.0)
    assert "memorisation" not in evaluated([[0, 1, 2, 3]], copied, made)[0]  # a ratio to nought is none


def test_features_that_are_not_finite_end_the_run_with_a_word():
    evaluator = PictureEvaluator(Real(np.arange(2), features(2, 3, 1)), 1)
    with pytest.raises(JobError, match="not finite: the model has diverged"):
        evaluator.update(Scored(torch.full((2, 3), float("nan")), None), PictureBatch(None, None, torch.arange(2)))
