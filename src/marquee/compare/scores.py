"""Each configuration's score and cost, beside baselines and oracle, and the paired tests between configurations.

The tests are over the users or examples that all configurations of a block were tested on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marquee.compare import statistics
from marquee.compare.groups import Block, Group
from marquee.compare.results import MEASURED_COSTS, Configuration, MetricResult, PairedTest, Score
from marquee.compare.units import Units
from marquee.seeding import numpy_generator


def configuration(group: Group) -> Configuration:
    """The row of a group: its settings, seeds and runs, and costs averaged over runs."""
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
        seeds=group.seeds,
        draws=group.draws,
        parameters=group.manifest.get("parameters"),
        fit_seconds=_mean(seconds),
        best_epoch=_mean(epochs),
        **{name: _mean([(manifest.get("cost") or {}).get(name) for manifest in manifests]) for name in MEASURED_COSTS},
    )


def scores(block: Block, metric: str, configurations: Sequence[Configuration], reference: Group | None) -> MetricResult:
    """Mean, spread and interval of each configuration by one metric, beside baselines and oracle, the best first.

    The tests are filled in by `compare_pairs`.
    """
    direction = block.direction(metric)
    models, costs = [], {}
    for group, row in zip(block.groups, configurations, strict=True):
        values = group.repetitions(f"test/{metric}")
        if values:
            models.append(_score(group.label, "model", list(values.values()), list(values)))
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


def _score(label: str, kind: str, values: Sequence[float], repetitions: Sequence[str] = ()) -> Score:
    array = np.array(values, dtype=np.float64)
    score = Score(label, kind, [float(value) for value in values], float(array.mean()), repetitions=list(repetitions))
    if kind == "model" and len(array) > 1:
        score.sd = statistics.spread(array)
        over = "draws" if repetitions[0].startswith("draw") else "seeds"
        score.interval, score.interval_over = statistics.seed_interval(array), over
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


# Paired tests ---------------------------------------------------------------------------------------------------------


def compare_pairs(block: Block, results: list[MetricResult], units: Units) -> int:
    """Test every configuration against the best and the reference; returns the number of pairs in their family.

    Fills in the tests, the winners, and the interval over units of configurations with one seed.

    The best is chosen on what is tested, so any two configurations might have been the pair: p is corrected over all
    pairs of all metrics of the block. Where there is no best, only the pairs with the reference count.
    """
    number = {group.label: index for index, group in enumerate(block.groups)}
    columns: list[np.ndarray] = []
    family: list[tuple[int, int]] = []  # pairs of columns
    shown: dict[tuple[int, int], tuple[MetricResult, Score, str]] = {}
    alone: dict[int, Score] = {}
    for result in results:
        values = units.values.get(result.metric, {})
        models = [score for score in result.models if number[score.label] in values]
        place = {score.label: len(columns) + index for index, score in enumerate(models)}
        columns += [values[number[score.label]] for score in models]
        alone |= {place[score.label]: score for score in models if len(score.values) == 1}
        for other in dict.fromkeys([result.best, result.reference]):
            for score in models if other in place else ():
                mirrored = other == result.reference and score.label == result.best
                if score.label != other and not mirrored:
                    shown[place[score.label], place[other]] = (result, score, other)
        ends = place if result.best is not None else [result.reference] if result.reference in place else []
        family += dict.fromkeys(
            tuple(sorted((place[one], place[other]))) for one in ends for other in place if one != other
        )
    if not len(units.ids) or not (shown or alone):
        return 0
    generator = numpy_generator(0, "compare")
    differences = [columns[one] - columns[other] for one, other in shown]
    own = [columns[index] for index in alone]
    intervals = statistics.bootstrap_intervals(np.stack(differences + own, axis=1), generator).T.tolist()
    for score, interval in zip(alone.values(), intervals[len(shown) :], strict=True):
        score.interval, score.interval_over = tuple(interval), "units"
    if not shown:
        return 0
    flips = statistics.patterns_of(len(units.ids), len(family))
    found = statistics.sign_flips(np.stack(columns, axis=1), np.array(family), flips, generator)
    tested = dict(zip(family, zip(*found, strict=True), strict=True))
    for (pair, entry), column, interval in zip(shown.items(), differences, intervals, strict=False):
        _fill(*entry, column, tuple(interval), *tested[min(pair), max(pair)])
    for result in results:
        _complete(result)
    return len(family)


def _fill(
    result: MetricResult, score: Score, other: str, column: np.ndarray, interval: tuple[float, float], p: float,
    corrected: float,
) -> None:  # fmt: skip
    size = statistics.effect(column)
    better, worse = (size.below, size.above) if result.direction == "min" else (size.above, size.below)
    rival = next(entry for entry in result.models if entry.label == other)
    test = PairedTest(
        other, float(column.mean()), interval, float(p), float(corrected), bool(corrected < statistics.ALPHA),
        size.standardised, better, worse, _p_of_repetitions(score, rival),
    )  # fmt: skip
    if other == result.best:
        score.against_best = test
    if other == result.reference:
        score.against_reference = test


def _p_of_repetitions(score: Score, other: Score) -> float | None:
    """t between two scores' repetitions: paired by draw, for a draw is as hard for both; seeds are not pairs.

    None between draws and seeds: seeds of one draw do not vary as draws do.
    """
    one, two = (dict(zip(each.repetitions, each.values, strict=False)) for each in (score, other))
    if {score.interval_over, other.interval_over} == {"draws", "seeds"}:
        return None
    if one.keys() == two.keys() and score.interval_over == "draws":
        return statistics.paired_p(np.array([one[draw] - two[draw] for draw in one]))
    return statistics.welch_p(np.array(score.values), np.array(other.values))


def _complete(result: MetricResult) -> None:
    """The best against the reference (the same test, seen from the other side), and whether the best has won."""
    by_label = {score.label: score for score in result.models}
    best, reference = by_label.get(result.best), by_label.get(result.reference)
    if best is not None and reference is not None and reference.against_best is not None:
        test = reference.against_best
        low, high = test.interval
        best.against_reference = PairedTest(
            reference.label, -test.difference, (-high, -low), test.p, test.p_corrected, test.significant,
            None if test.effect is None else -test.effect, test.worse, test.better, test.p_seeds,
        )  # fmt: skip
    rivals = [score for score in result.models if score is not best]
    if rivals and all(score.against_best is not None and score.against_best.significant for score in rivals):
        result.winner = result.best
