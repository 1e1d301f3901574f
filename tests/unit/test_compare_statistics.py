"""Intervals, tests and corrections against SciPy, against published tables, and by hand."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from marquee.compare import statistics
from marquee.compare.ranks import critical_difference, rank_models
from marquee.compare.results import MetricResult, Score
from marquee.compare.scores import compare_pairs
from marquee.compare.statistics import (
    FLIPS,
    bootstrap_intervals,
    effect,
    paired_p,
    seed_interval,
    sign_flips,
    welch_p,
)
from marquee.compare.units import Units


def generator():
    return np.random.default_rng(1)


def sign_flip_p(differences, flips, generator):
    """Uncorrected p of each column of differences: its pair with a column of zeros."""
    n, count = differences.shape
    pairs = np.array([(index, count) for index in range(count)])
    return sign_flips(np.c_[differences, np.zeros(n)], pairs, flips, generator)[0]


def all_pairs(count):
    return np.array(list(itertools.combinations(range(count), 2)))


def test_the_interval_over_seeds_is_students():
    # By hand: mean 3, sd 1, n 3, t(0.975, 2) = 4.302653.
    low, high = seed_interval(np.array([2.0, 3.0, 4.0]))
    assert (low, high) == pytest.approx((3 - 4.302653 / 3**0.5, 3 + 4.302653 / 3**0.5), abs=1e-6)
    values = np.array([0.31, 0.29, 0.35, 0.30])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert seed_interval(values) == pytest.approx(expected)


def test_the_test_between_seeds_is_welchs():
    one, other = np.array([0.31, 0.29, 0.35, 0.30]), np.array([0.28, 0.27])
    assert welch_p(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert welch_p(one, other[:1]) is None
    assert welch_p(np.ones(2), np.zeros(2)) is None


@pytest.mark.parametrize("n", [3, 6, 7])
def test_what_differs_by_rounding_only_does_not_vary(n):
    """The mean of three times 0.1 is 0.10000000000000002: a spread that is not 0 to NumPy, and would make p 1e-46."""
    same = np.full(n, 0.1)
    assert welch_p(same, np.full(n, 0.2)) is None
    assert paired_p(np.array([0.4, 0.5, 0.6]) - np.array([0.1, 0.2, 0.3])) is None
    assert effect(same).standardised is None
    assert seed_interval(same) == (same.mean(), same.mean())


def test_the_bootstrap_interval_is_scipys():
    columns = generator().exponential(size=(300, 2))
    found = bootstrap_intervals(columns, generator())
    assert found.shape == (2, 2)
    for column, interval in zip(columns.T, found.T, strict=True):
        theirs = stats.bootstrap((column,), np.mean, method="percentile", n_resamples=5000, rng=2).confidence_interval
        width = theirs.high - theirs.low
        assert interval == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)


def test_the_bootstrap_interval_moves_with_the_values_however_large_they_are():
    values = generator().random((2000, 1)) * 0.01
    here = bootstrap_intervals(values, generator())
    assert bootstrap_intervals(values + 1000, generator()) == pytest.approx(here + 1000, abs=1e-8)


def test_the_bootstrap_does_not_depend_on_how_rows_are_chunked(monkeypatch):
    columns = generator().random((50, 1))
    whole = bootstrap_intervals(columns, generator())
    monkeypatch.setattr("marquee.compare.statistics._CELLS", 50 * 64)
    assert bootstrap_intervals(columns, generator()) == pytest.approx(whole)


def test_few_pairs_are_counted_out_by_hand():
    # Of the 8 sign patterns of (1, 2, 3) only +++ and --- reach a sum of 6.
    assert sign_flip_p(np.array([[1.0], [2.0], [3.0]]), FLIPS, generator()) == pytest.approx([2 / 8])
    # Zeros take no sides: they change nothing.
    assert sign_flip_p(np.array([[1.0], [0.0], [2.0], [3.0]]), FLIPS, generator()) == pytest.approx([2 / 8])
    assert sign_flip_p(np.zeros((5, 1)), FLIPS, generator()) == pytest.approx([1.0])


def test_sign_flips_agree_with_scipys_permutation_test():
    differences = generator().normal(size=(10, 1))
    theirs = stats.permutation_test((differences[:, 0],), np.sum, permutation_type="samples").pvalue
    assert sign_flip_p(differences, FLIPS, generator()) == pytest.approx([theirs])
    many = generator().normal(0.12, size=(200, 3))
    for column, p in zip(many.T, sign_flip_p(many, FLIPS, generator()), strict=True):
        theirs = stats.permutation_test((column,), np.sum, permutation_type="samples", n_resamples=9999, rng=3).pvalue
        assert p == pytest.approx(theirs, abs=4 * (theirs * (1 - theirs) / 9999) ** 0.5 + 1e-3)
        assert p == pytest.approx(stats.ttest_1samp(column, 0).pvalue, abs=0.03)


def test_p_is_never_zero_however_many_pairs_it_is_corrected_for():
    # All units agree, so no random pattern is as extreme as what was seen, which counts itself.
    certain = np.ones((100, 1)) * np.arange(40)
    p, corrected = sign_flips(certain, all_pairs(40), FLIPS, generator())
    assert p == pytest.approx(np.full(780, 1 / 10_000))
    assert corrected == pytest.approx(np.full(780, 1 / 10_000))


def test_the_correction_counts_patterns_whose_largest_difference_is_as_large_by_a_second_implementation():
    """Westfall & Young's step-down maxT, written out: every pattern, every pair, t of the flipped differences."""
    values = generator().normal(size=(9, 4)) + [0.0, 0.1, 0.6, 1.5]
    pairs = all_pairs(4)
    differences = [values[:, i] - values[:, j] for i, j in pairs]

    def t(signs):
        flipped = [signs * difference for difference in differences]
        return [abs(each.mean()) / (each.std(ddof=1) / 9**0.5) for each in flipped]

    seen = t(np.ones(9))
    order = sorted(range(len(pairs)), key=lambda pair: -seen[pair])
    flipped = [t(np.array(signs)) for signs in itertools.product((1, -1), repeat=9)]
    expected, before = [0.0] * len(pairs), 0.0
    for place, pair in enumerate(order):
        largest = [max(pattern[other] for other in order[place:]) for pattern in flipped]
        before = max(before, float(np.mean([value >= seen[pair] - 1e-9 for value in largest])))
        expected[pair] = before
    assert sign_flips(values, pairs, FLIPS, generator())[1] == pytest.approx(expected)


def test_a_single_pair_needs_no_correction_and_equal_columns_are_never_told_apart():
    values = generator().normal(size=(50, 1)) + np.array([0.0, 0.0])
    values[:, 1] += generator().normal(0.1, 1, 50)
    p, corrected = sign_flips(values, all_pairs(2), FLIPS, generator())
    assert p == pytest.approx(corrected)
    p, corrected = sign_flips(values[:, [0, 0]], all_pairs(2), FLIPS, generator())
    assert (p[0], corrected[0]) == (1.0, 1.0)


def test_the_correction_does_not_depend_on_how_patterns_are_chunked(monkeypatch):
    values = generator().normal(size=(40, 5))
    whole = sign_flips(values, all_pairs(5), 960, generator())
    monkeypatch.setattr("marquee.compare.statistics._CELLS", 40 * 64)
    assert np.array(sign_flips(values, all_pairs(5), 960, generator())) == pytest.approx(np.array(whole))


def claims(values):
    """Whether a table of these models [units, models] says of any that it is significantly worse than the best."""
    names = [str(index) for index in range(values.shape[1])]
    rows = [
        Score(name, "model", [float(mean)], float(mean)) for name, mean in zip(names, values.mean(axis=0), strict=True)
    ]
    best = max(rows, key=lambda score: score.mean).label
    block = SimpleNamespace(groups=[SimpleNamespace(label=name) for name in names])
    units = Units(np.arange(len(values)), {"ndcg@10": dict(enumerate(values.T))})
    compare_pairs(block, [MetricResult("ndcg@10", "max", rows, best, None, None)], units)
    return any(row.against_best is not None and row.against_best.significant for row in rows)


def test_of_ten_equal_models_the_best_looking_is_called_better_in_one_table_of_twenty(monkeypatch):
    """Holm over the nine pairs with the best, which was picked on the same users, says so in one table of seven."""
    monkeypatch.setattr(statistics, "FLIPS", 999)
    monkeypatch.setattr(statistics, "RESAMPLES", 2)
    draw = generator()
    said = [claims(draw.random((60, 1)) + draw.normal(0, 0.2, (60, 10))) for _ in range(400)]
    # Expected 20; four standard deviations of the binomial (4.4) more are 37, and Holm's would be 60.
    assert 4 <= sum(said) <= 37


def test_equal_sums_count_as_extreme_though_they_round_differently():
    # 14 thirds up and 2 down: a pattern is as extreme where at least 14 signs agree, so p is the binomial test's.
    differences = np.r_[np.full(14, 1 / 3), np.full(2, -1 / 3)][:, None]
    exact = stats.binomtest(14, 16).pvalue
    p = sign_flip_p(differences, 99_999, generator())[0]
    assert p == pytest.approx(exact, abs=4 * (exact / 99_999) ** 0.5)


def test_where_nothing_differs_one_in_twenty_is_called_significant():
    p = sign_flip_p(generator().normal(size=(60, 400)), 999, generator())
    assert 0.02 < (p < 0.05).mean() < 0.09


def test_effect_by_hand():
    # Mean 0.5; squared deviations .25 .25 .25 2.25 1 add up to 4, so the standard deviation is 1.
    standardised, above, below = effect(np.array([1.0, 0.0, 1.0, -1.0, 1.5]))
    assert standardised == pytest.approx(0.5)
    assert (above, below) == (0.6, 0.2)
    assert effect(np.array([0.2, 0.2])).standardised is None


def test_critical_differences_are_demsars():
    # Demšar 2006, table 5a: q(0.05) is 2.343 for 3, 2.569 for 4 and 3.164 for 10 classifiers; his example with 4
    # algorithms on 14 data sets has CD 1.25 (section 3.2.4).
    assert critical_difference(3, 6) == pytest.approx(2.343 * (12 / 36) ** 0.5, abs=1e-3)
    assert critical_difference(10, 20) == pytest.approx(3.164 * (110 / 120) ** 0.5, abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_agree_with_scipys_friedman_and_name_who_differs():
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.7, 0.2], [0.9, 0.6, 0.3], [0.7, 0.5, 0.4], [0.6, 0.3, 0.1]])
    ranks = rank_models(list("vwxyz"), ["a", "b", "c"], scores)
    assert ranks.average == [1, 2, 3]
    assert ranks.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    # CD = 2.343 * sqrt(12 / 30) = 1.48, so only the first and the last differ.
    assert ranks.critical_difference == pytest.approx(1.482, abs=1e-3)
    assert ranks.differ == [("a", "c")]


def test_ties_share_a_rank():
    ranks = rank_models(["x", "y"], ["a", "b", "c"], np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.5]]))
    assert ranks.ranks == [[1.5, 1.5, 3.0], [2.0, 2.0, 2.0]]
    assert rank_models(["x", "y"], ["a", "b", "c"], np.ones((2, 3))).p == 1.0
