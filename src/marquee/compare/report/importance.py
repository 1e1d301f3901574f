"""How much of the validation metric's variance each hyperparameter explains alone (eta squared, one-way).

Eta squared is the sum of squares between the values of a key divided by the total (Cohen 1988, "Statistical Power
Analysis for the Behavioral Sciences", chapter 8). It knows no interactions, and with few runs chance alone gives
(levels - 1) / (runs - 1) on average, which is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marquee.compare.report.evidence import Recorded
from marquee.config.fingerprint import canonical

BINS = 4  # a number with more than twice as many distinct values is cut at its quartiles
LEAST = 4  # runs, below which nothing is said


@dataclass
class Importance:
    """Of one key: share in 0..1, `chance` what it would be on average if the key did nothing."""

    key: str
    share: float
    chance: float
    levels: int
    binned: bool
    n: int  # runs


def importance(runs: Sequence[Recorded], keys: Sequence[str]) -> list[Importance]:
    """The keys that vary among the runs that have a validation metric, the most important first."""
    known = [run for run in runs if run.validation is not None]
    values = np.array([run.validation for run in known], dtype=np.float64)
    if len(known) < LEAST or np.ptp(values) == 0:
        return []
    settings = [{**run.settings(), "seed": run.manifest.get("seed"), "model": run.manifest.get("model")}
                for run in known]  # fmt: skip
    found = []
    for key in dict.fromkeys(keys):
        levels, binned = _levels([entry.get(key) for entry in settings])
        count = len(set(levels))
        if 1 < count < len(known):  # a value of its own for every run explains all and says nothing
            share = eta_squared(values, levels)
            found.append(Importance(key, share, (count - 1) / (len(known) - 1), count, binned, len(known)))
    return sorted(found, key=lambda entry: (-entry.share, entry.key))


def eta_squared(values: np.ndarray, levels: Sequence[Any]) -> float:
    """Sum of squares between groups / total sum of squares. `values` [n] must vary."""
    mean = values.mean()
    names = np.array([str(level) for level in levels])
    between = sum(
        (names == name).sum() * (values[names == name].mean() - mean) ** 2 for name in dict.fromkeys(names.tolist())
    )
    return float(between / ((values - mean) ** 2).sum())


def _levels(content: Sequence[Any]) -> tuple[list[str], bool]:
    distinct = {canonical(value) for value in content}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in content)
    if numbers and len(distinct) > 2 * BINS:
        edges = np.quantile(np.array(content, dtype=np.float64), np.linspace(0, 1, BINS + 1)[1:-1])
        return [str(place) for place in np.searchsorted(edges, content, side="right")], True
    return [canonical(value) for value in content], False
