"""Intervals of a single run's metrics, by drawing its test examples again.

Efron 1979, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7(1); percentile intervals. What
depends on the confusion matrix alone is drawn as a multinomial over its cells, which is the same law at no cost.
"""

from collections.abc import Sequence

import numpy as np

from marquee.metrics.classification import auroc, average_precision, losses

DRAWS, RANKED_DRAWS = 2000, 200
LEVEL = 0.95


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
    drawn = rng.multinomial(n, cells / n, size=DRAWS).reshape(DRAWS, k, k)
    found["accuracy"] = _ends(np.trace(drawn, axis1=1, axis2=2) / n)
    found["f1_macro"] = _ends(f1_macro_of(drawn))
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


def f1_macro_of(confusion: np.ndarray) -> np.ndarray:
    """Macro F1 [draws] of confusion matrices [draws, true, predicted]; classes that are nowhere do not count."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    both = confusion.sum(axis=2) + confusion.sum(axis=1)
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
