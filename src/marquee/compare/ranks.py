"""Several data sets: average ranks, whether they differ at all (Friedman), and which do (Nemenyi).

Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marquee.compare.groups import Block, one_for_each_model
from marquee.compare.statistics import ALPHA


@dataclass
class Ranks:
    """Models ranked over data sets, the best average first; rank 1 is best, and ties share their ranks.

    ranks[data set][model], average[model]; `differ` holds the pairs that Nemenyi's test tells apart.
    """

    data: list[str]
    models: list[str]
    ranks: list[list[float]]  # [data set][model]
    average: list[float]
    statistic: float | None  # Friedman's chi square, k - 1 degrees of freedom; None where all models tie everywhere
    p: float
    critical_difference: float
    differ: list[tuple[str, str]]  # (better, worse)


def rank_models(data: list[str], models: list[str], scores: np.ndarray) -> Ranks:
    """Friedman's and Nemenyi's tests of `scores` [data sets, models], where more is better.

    Needs at least 2 data sets and 3 models.
    """
    from scipy.stats import friedmanchisquare, rankdata

    ranks = rankdata(-scores, axis=1)
    average = ranks.mean(axis=0)
    order = np.argsort(average, kind="stable")
    statistic, p = None, 1.0
    if (ranks != ranks[:, :1]).any():
        found = friedmanchisquare(*scores.T)
        statistic, p = float(found.statistic), float(found.pvalue)
    distance = critical_difference(len(models), len(data))
    pairs = [(better, worse) for place, better in enumerate(order) for worse in order[place + 1 :]]
    apart = [pair for pair in pairs if p < ALPHA and average[pair[1]] - average[pair[0]] > distance]
    return Ranks(
        data,
        [models[index] for index in order],
        ranks[:, order].tolist(),
        average[order].tolist(),
        statistic,
        p,
        distance,
        [(models[better], models[worse]) for better, worse in apart],
    )


def critical_difference(models: int, data_sets: int) -> float:
    """Nemenyi's critical difference: average ranks further apart than this differ at 5 % (Demšar 2006, 3.2.2)."""
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - ALPHA, models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * data_sets)))


def rank_over_data(blocks: Sequence[Block], metrics: Sequence[str]) -> tuple[Ranks | None, list[str]]:
    """Models ranked over the data sets that share at least three of them; None where there are no two such data sets.

    A model stands for its best configuration on validation, a data set for its block with the most models: ranks over
    two protocols of one data set would count the same evidence twice. Also returns remarks.
    """
    scores: dict[str, dict[str, float]] = {}
    measured: dict[str, str] = {}
    notes = {}
    for block in blocks:
        metric = next((name for name in metrics if name in block.metrics()), block.monitor)
        direction = block.direction(metric)
        own: dict[str, float] = {}
        groups = one_for_each_model(block)[0].groups
        for group in groups:
            values = group.values(f"test/{metric}")
            if values and sum(other.model == group.model for other in groups) == 1:
                own[group.model] = float(np.mean(values)) * (-1 if direction == "min" else 1)
        name = str(block.manifest["data"]["name"])
        if direction is None or len(own) < 3:
            continue
        if name in scores:
            notes[name] = f"{name} counts once, by its block with the most models."
        if len(own) > len(scores.get(name, {})):
            scores[name], measured[name] = own, metric
    kept = list(scores)
    while len(kept) >= 2 and len(_shared(scores, kept)) < 3:
        kept.remove(max(kept, key=lambda name: len(_shared(scores, [other for other in kept if other != name]))))
    if len(kept) < 2:
        return None, []
    shared = _shared(scores, kept)
    models = [model for model in scores[kept[0]] if model in shared]
    remarks = [notes[name] for name in kept if name in notes]
    remarks += [f"{name} is left out: it shares too few models with the others." for name in scores if name not in kept]
    table = np.array([[scores[name][model] for model in models] for name in kept])
    return rank_models([f"{name} ({measured[name]})" for name in kept], models, table), remarks


def _shared(scores: dict[str, dict[str, float]], names: Sequence[str]) -> set[str]:
    return set.intersection(*(set(scores[name]) for name in names))
