"""Intervals of a single run's metrics, by drawing its test examples again.

Efron 1979, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7(1); percentile intervals. What
depends on the confusion matrix alone is drawn as a multinomial over its cells, which is the same law at no cost.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from marquee.metrics.classification import auroc, average_precision, losses

DRAWS, RANKED_DRAWS = 2000, 200
LEVEL = 0.95
MOST_CELLS = 4_000_000  # of confusion matrices, drawn at once


def intervals(
    targets: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """95 % intervals by metric: accuracy, f1_macro, log_loss, and for two classes auroc and average_precision.

    Shapes as in `classification_metrics`. They tell how much another sample of examples would have changed the number;
    what another training run would have changed they do not tell.
    """
    n = len(targets)
    found = {"log_loss": _of_means(losses(targets, probabilities), rng)}
    if targets.ndim == 2:
        found["accuracy"] = _of_means((targets == predicted).mean(axis=1), rng)
        return dict(sorted(found.items()))
    k = probabilities.shape[1]
    cells = np.bincount(targets * k + predicted, minlength=k * k)
    # Of 1,000 classes all cells of all draws would take 16 GB: only those that hold something, and so many at once.
    held = np.flatnonzero(cells)
    true, guessed = np.divmod(held, k)
    at_once = max(1, MOST_CELLS // len(held))
    parts = []
    for first in range(0, DRAWS, at_once):
        drawn = rng.multinomial(n, cells[held] / n, size=min(at_once, DRAWS - first))
        right = np.where(true == guessed, drawn, 0)
        parts.append(np.stack([right.sum(axis=1) / n, _f1_macro(right, drawn, true, guessed, k)]))
    found["accuracy"], found["f1_macro"] = map(_ends, np.concatenate(parts, axis=1))
    if k == 2:
        positive = targets == 1
        values: dict[str, list[float]] = {"auroc": [], "average_precision": []}
        for _ in range(RANKED_DRAWS):
            rows = rng.integers(n, size=n)
            if positive[rows].any() and not positive[rows].all():
                values["auroc"].append(auroc(positive[rows], probabilities[rows, 1]))
                values["average_precision"].append(average_precision(positive[rows], probabilities[rows, 1]))
        found |= {name: _ends(of) for name, of in values.items() if of}
    return dict(sorted(found.items()))


def _f1_macro(right: np.ndarray, drawn: np.ndarray, true: np.ndarray, guessed: np.ndarray, k: int) -> np.ndarray:
    """Macro F1 [draws] of counts [draws, cells], a cell for (true, guessed); classes that are nowhere do not count.

    right  the counts of the cells that are right, 0 in the others
    """
    of_true, of_guessed = (
        csr_array((np.ones(len(column)), (np.arange(len(column)), column)), (len(column), k))
        for column in (true, guessed)
    )
    hit, both = right @ of_true, drawn @ of_true + drawn @ of_guessed
    f1 = np.divide(2.0 * hit, both, out=np.zeros(both.shape), where=both > 0)
    return f1.sum(axis=1) / np.maximum((both > 0).sum(axis=1), 1)


def _of_means(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Of the mean of `values` [n]. Examples of equal value are drawn together where there are few such values."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 100:
        return _ends(rng.multinomial(len(values), counts / len(values), size=DRAWS) @ distinct / len(values))
    rows = (values[rng.integers(len(values), size=len(values))].mean() for _ in range(DRAWS // 4))
    return _ends(np.fromiter(rows, dtype=np.float64))


def _ends(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
