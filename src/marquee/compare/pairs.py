"""Paired tests between the configurations of a block, over the users or examples that all of them were tested on."""

import numpy as np

from marquee.compare import statistics
from marquee.compare.collect import Block
from marquee.compare.results import MetricResult, PairedTest, Score
from marquee.compare.units import Units
from marquee.seeding import numpy_generator


def compare_pairs(block: Block, results: list[MetricResult], units: Units) -> int:
    """Fill in the tests, the winners, and the interval over units where there is one seed; returns how many tests.

    All tests of a block are one family for Holm: every metric, against the best and against the reference.
    """
    number = {group.label: index for index, group in enumerate(block.groups)}
    pairs: list[tuple[MetricResult, Score, str]] = []
    differences: list[np.ndarray] = []
    alone: list[Score] = []
    own: list[np.ndarray] = []
    for result in results:
        values = units.values.get(result.metric, {})
        columns = {score.label: values[number[score.label]] for score in result.models if number[score.label] in values}
        models = [score for score in result.models if score.label in columns]
        for other in dict.fromkeys([result.best, result.reference]):
            for score in models:
                mirrored = other == result.reference and score.label == result.best
                if other in columns and score.label != other and not mirrored:
                    pairs.append((result, score, other))
                    differences.append(columns[score.label] - columns[other])
        alone += [score for score in models if len(score.values) == 1]
        own += [columns[score.label] for score in models if len(score.values) == 1]
    if not len(units.ids) or not (pairs or alone):
        return 0
    generator = numpy_generator(0, "compare")
    intervals = statistics.bootstrap_intervals(np.stack(differences + own, axis=1), generator).T.tolist()
    for score, interval in zip(alone, intervals[len(pairs) :], strict=True):
        score.interval, score.interval_over = tuple(interval), "units"
    if pairs:
        _fill(pairs, np.stack(differences, axis=1), intervals[: len(pairs)], generator)
    for result in results:
        _complete(result)
    return len(pairs)


def _fill(pairs: list, differences: np.ndarray, intervals: list, generator: np.random.Generator) -> None:
    p = statistics.sign_flip_p(differences, statistics.flips_for(len(pairs)), generator)
    corrected = statistics.holm(p)
    results = {id(result): result for result, _, _ in pairs}
    seeds = {(key, score.label): score.values for key, result in results.items() for score in result.models}
    for index, (result, score, other) in enumerate(pairs):
        column = differences[:, index]
        size = statistics.effect(column)
        better, worse = (size.below, size.above) if result.direction == "min" else (size.above, size.below)
        test = PairedTest(
            other, float(column.mean()), tuple(intervals[index]), float(p[index]), float(corrected[index]),
            bool(corrected[index] < statistics.ALPHA), size.standardised, better, worse,
            statistics.welch_p(np.array(score.values), np.array(seeds[id(result), other])),
        )  # fmt: skip
        if other == result.best:
            score.against_best = test
        if other == result.reference:
            score.against_reference = test


def _complete(result: MetricResult) -> None:
    """The best against the reference (the same test, seen from the other side), and whether the best has won."""
    by_label = {score.label: score for score in result.models}
    best, reference = by_label.get(result.best), by_label.get(result.reference)
    if best is not None and reference is not None and reference.against_best is not None:
        test = reference.against_best
        low, high = test.interval
        best.against_reference = PairedTest(
            reference.label, -test.difference, (-high, -low), test.p, test.p_holm, test.significant,
            None if test.effect is None else -test.effect, test.worse, test.better, test.p_seeds,
        )  # fmt: skip
    rivals = [score for score in result.models if score is not best]
    if rivals and all(score.against_best is not None and score.against_best.significant for score in rivals):
        result.winner = result.best
