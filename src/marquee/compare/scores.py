"""Each configuration's score and cost, beside baselines and oracle."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marquee.compare.collect import Block, Group
from marquee.compare.results import MEASURED_COSTS, Configuration, MetricResult, Score
from marquee.compare.statistics import seed_interval


def configuration(group: Group) -> Configuration:
    """What a row is and what it cost."""
    manifests = [run.manifest for run in group.runs]
    # The clock of a resumed run goes on where it stopped, since manifests have a cost; before, it began anew.
    timed = [manifest for manifest in manifests if manifest.get("cost") or not manifest.get("resumed")]
    seconds = [(manifest.get("durations") or {}).get("fit") for manifest in timed]
    epochs = [manifest.get("best_epoch") for manifest in manifests]
    return Configuration(
        label=group.label,
        model=group.model,
        differing=group.differing,
        runs=[run.folder.name for run in group.runs],
        seeds=[manifest["seed"] for manifest in manifests],
        parameters=group.manifest.get("parameters"),
        fit_seconds=_mean(seconds),
        best_epoch=_mean(epochs),
        **{name: _mean([(manifest.get("cost") or {}).get(name) for manifest in manifests]) for name in MEASURED_COSTS},
    )


def scores(block: Block, metric: str, configurations: Sequence[Configuration], reference: Group | None) -> MetricResult:
    """The scores of one metric; the tests are filled in later."""
    direction = block.direction(metric)
    models, costs = [], {}
    for group, row in zip(block.groups, configurations, strict=True):
        values = group.values(f"test/{metric}")
        if values:
            models.append(_score(group.label, "model", values))
            costs[group.label] = row.fit_seconds
    sign = -1 if direction == "min" else 1
    models.sort(key=lambda score: -sign * score.mean)
    for score in models:
        score.pareto = direction is not None and _on_front(score, models, costs, sign)
    others = [_score(name, kind, values) for name, kind, values in _references(block, metric)]
    return MetricResult(
        metric,
        direction,
        models + sorted(others, key=lambda score: (score.kind == "oracle", -sign * score.mean)),
        best=models[0].label if direction is not None and models else None,
        winner=None,
        reference=reference.label if reference is not None else None,
    )


def _score(label: str, kind: str, values: Sequence[float]) -> Score:
    array = np.array(values, dtype=np.float64)
    score = Score(label, kind, [float(value) for value in values], float(array.mean()))
    if kind == "model" and len(array) > 1:
        score.sd = float(array.std(ddof=1))
        score.interval, score.interval_over = seed_interval(array), "seeds"
    return score


def _references(block: Block, metric: str) -> list[tuple[str, str, list[float]]]:
    """Baselines and oracle: their mean over the block's runs, which `remarks` says where they are not all the same."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in block.runs:
        for name, values in (run.manifest.get("baselines") or {}).items():
            if (values or {}).get(metric) is not None:
                label = name if name.startswith("baseline/") else f"baseline/{name}"
                found.setdefault((label, "baseline"), []).append(values[metric])
        oracle = (run.manifest.get("oracle") or {}).get(metric)
        if oracle is not None:
            found.setdefault(("oracle (ceiling)", "oracle"), []).append(oracle)
    return [(label, kind, [float(np.mean(values))]) for (label, kind), values in found.items()]


def _on_front(score: Score, models: Sequence[Score], costs: dict[str, float | None], sign: int) -> bool:
    """Whether no other is at least as good and as fast, and better in one of the two."""
    own = costs[score.label]
    if own is None:
        return False
    for other in models:
        seconds = costs[other.label]
        if seconds is None or other is score:
            continue
        gain = sign * (other.mean - score.mean)
        if gain >= 0 and seconds <= own and (gain > 0 or seconds < own):
            return False
    return True


def _mean(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
