"""Intervals and paired tests.

Over units, pairs are compared by resampling and not by ranks: of the usual tests, Wilcoxon's and the sign test call too
many differences significant where there are thousands of users (Ihemelandu & Ekstrand 2023, "Inference at Scale",
SIGIR), and they test something else than the difference of the means that the table shows (Smucker, Allan & Carterette
2007, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation", CIKM).

All pairs share their resamples: a matrix product of the patterns and the columns gives the sums of every pair. All
pairs of 20 configurations over 6,040 users take a fifth of a second, of 500 some 10 s. SciPy's `bootstrap` and
`permutation_test` resample one pair at a time and would not know how the pairs hang together; the tests compare with
them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ALPHA = 0.05
RESAMPLES = 2000  # of the bootstrap; the ends of a 95 % interval then vary by about a twentieth of its width
FLIPS = 9999  # at most, see `patterns_of`; the smallest p is then 0.0001, also after the correction
EXACT = 13  # up to 2^13 sign patterns are counted out
_PAIRS = 250_000_000  # tested in all patterns together: some 3 s
_CELLS = 4_000_000  # of one chunk of resamples: 16 or 32 MB


def spread(values: np.ndarray) -> float:
    """Standard deviation with n - 1; 0 where >= 2 values are one, or differ by no more than rounding does.

    The mean of three times 0.1 is not 0.1, so NumPy's is no 0; whatever is divided by it would look beyond doubt.
    """
    found = float(values.std(ddof=1))
    return found if found > 1e-9 * np.abs(values).max() else 0.0


def seed_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of >= 2 seeds, by Student's t with n - 1 degrees of freedom."""
    from scipy.special import stdtrit

    n = len(values)
    half = stdtrit(n - 1, 1 - ALPHA / 2) * spread(values) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


def welch_p(one: np.ndarray, other: np.ndarray) -> float | None:
    """Two-sided p of Welch's t test between the seeds of two configurations.

    None where one of them has a single seed, or where neither varies (closed forms).
    """
    from scipy.special import stdtr

    if min(len(one), len(other)) < 2:
        return None
    shares = spread(one) ** 2 / len(one), spread(other) ** 2 / len(other)
    if sum(shares) == 0:
        return None
    t = abs(one.mean() - other.mean()) / np.sqrt(sum(shares))
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1))
    return float(2 * stdtr(freedom, -t))


def paired_p(differences: np.ndarray) -> float | None:
    """Two-sided p of Student's t test of >= 2 paired differences; None where they do not vary."""
    from scipy.special import stdtr

    n, deviation = len(differences), spread(differences)
    return float(2 * stdtr(n - 1, -abs(differences.mean()) / deviation * np.sqrt(n))) if deviation > 0 else None


def bootstrap_intervals(columns: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """95 % percentile intervals of the means of `columns` [units, columns], rows drawn together: [2, columns].

    Efron 1979; with the differences of pairs as columns this is the paired bootstrap.
    """
    n = len(columns)
    centre = columns.mean(axis=0)
    values = (columns - centre).astype(np.float32)  # float32 has seven digits: they shall be those of the spread
    means = []
    for size in _chunks(RESAMPLES, n):
        drawn = generator.integers(0, n, (size, n), dtype=np.int64)
        drawn += n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts.astype(np.float32) @ values / n)
    bounds = centre + np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return np.clip(bounds, columns.min(axis=0), columns.max(axis=0))  # no mean lies outside, whatever rounding says


def sign_flips(
    values: np.ndarray, pairs: np.ndarray, flips: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p of each pair of columns of `values` [units, columns] having one mean, as it is and corrected.

    `pairs` [pairs, 2] names the columns. Both results are [pairs] and never 0.

    Fisher's randomisation test: of equal columns, either sign of a unit's difference is as likely. p is
    (1 + patterns at least as extreme) / (1 + flips); up to 13 units all patterns are counted instead.

    Corrected: each pattern flips a unit in all pairs at once, so the patterns know how the pairs hang together. A pair
    is held against the largest studentised difference of any pair that is no more significant than itself, in the same
    pattern: the step-down maxT of Westfall & Young 1993, "Resampling-Based Multiple Testing", algorithm 4.1; that it
    keeps the family-wise error: Romano & Wolf 2005, "Exact and Approximate Stepdown Methods for Multiple Hypothesis
    Testing", JASA 100. Where `pairs` are all pairs, it does not matter that a column was picked for being the best, as
    with Tukey's honest differences (Carterette 2012, "Multiple Testing in Statistical Analysis of Systems-Based
    Information Retrieval Experiments", TOIS 30).
    """
    values = np.asfortranarray(values)
    total, size, square = np.array([_sums(values[:, i] - values[:, j]) for i, j in pairs]).T
    # |sum| / root of the sum of squares: flips leave the squares as they are, so it rises and falls with |t|.
    scale = np.sqrt(np.where(square > 0, square, 1.0))
    order = np.argsort(np.abs(total) / scale, kind="stable")
    one, other = pairs[order].T
    scale = scale[order, None]
    least = (np.abs(total) - 1e-9 * size)[order, None] / scale  # sums of equal patterns differ by rounding
    alone, jointly, patterns = np.zeros(len(pairs), dtype=np.int64), np.zeros(len(pairs), dtype=np.int64), 0
    whole = values.sum(axis=0)[:, None]
    for kept in _patterns(len(values), len(pairs), flips, generator):
        sums = 2 * (values.T @ kept.T.astype(np.float64)) - whole  # [columns, patterns]
        if patterns == 0:
            found, minus = np.empty((2, len(pairs), len(kept)))  # once: to allocate takes longer than to compute
        found, minus = found[:, : len(kept)], minus[:, : len(kept)]
        np.take(sums, one, axis=0, out=found, mode="clip")  # `clip` spares a copy; no index is out of range
        np.take(sums, other, axis=0, out=minus, mode="clip")
        found -= minus
        np.abs(found, out=found)
        found /= scale
        alone += np.count_nonzero(found >= least, axis=1)
        jointly += np.count_nonzero(np.maximum.accumulate(found, axis=0, out=found) >= least, axis=1)
        patterns += len(kept)
    seen_too = int(len(values) > EXACT)  # the pattern that was seen, which is among all patterns already
    p, corrected = (alone + seen_too) / (patterns + seen_too), (jointly + seen_too) / (patterns + seen_too)
    corrected = np.maximum.accumulate(corrected[::-1])[::-1]
    back = np.argsort(order, kind="stable")
    return p[back], corrected[back]


def _sums(differences: np.ndarray) -> tuple[float, float, float]:
    """The sum of the differences, of their sizes, and of their squares."""
    return differences.sum(), np.abs(differences).sum(), differences @ differences


def patterns_of(units: int, pairs: int) -> int:
    """The number of sign patterns that so many units are tested with: fewer than FLIPS from about 220 columns on."""
    return 2**units if units <= EXACT else min(FLIPS, max(FLIPS // 10, _PAIRS // max(pairs, 1)))


def _patterns(units: int, pairs: int, flips: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Which units keep their sign, 0 or 1 [patterns, units]: all patterns of few units, else `flips` random ones."""
    if units <= EXACT:
        yield (np.arange(2**units)[:, None] >> np.arange(units)) & 1
        return
    for chunk in _chunks(flips, max(units, pairs)):
        bits = np.frombuffer(generator.bytes(-(-chunk * units // 8)), dtype=np.uint8)
        yield np.unpackbits(bits, count=chunk * units).reshape(chunk, units)


class Effect(NamedTuple):
    """The size of a difference over units: standardised mean, shares of units (0 to 1) above and below zero."""

    standardised: float | None
    above: float
    below: float


def effect(differences: np.ndarray) -> Effect:
    """Cohen's d of the differences [units] of a pair (mean / standard deviation; None where they do not vary)."""
    deviation = spread(differences) if len(differences) > 1 else 0.0
    standardised = float(differences.mean()) / deviation if deviation > 0 else None
    return Effect(standardised, float((differences > 0).mean()), float((differences < 0).mean()))


def _chunks(total: int, width: int) -> Iterator[int]:
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
