"""Intervals and paired tests.

Over units, pairs are compared by resampling and not by ranks: of the usual tests, Wilcoxon's and the sign test call too
many differences significant where there are thousands of users (Ihemelandu & Ekstrand 2023, "Inference at Scale",
SIGIR), and they test something else than the difference of the means that the table shows (Smucker, Allan & Carterette
2007, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation", CIKM).

All pairs share their resamples, so that a block of 500 configurations is two matrix products. SciPy's `bootstrap` and
`permutation_test` resample one pair at a time, which would take minutes; the tests compare with them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ALPHA = 0.05
RESAMPLES = 2000  # of the bootstrap; the ends of a 95 % interval then vary by about a twentieth of its width
FLIPS = 9999  # at least; see `flips_for`
EXACT = 13  # up to 2^13 sign patterns are counted out
_CELLS = 4_000_000  # of one chunk of resamples: 16 MB


def seed_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of >= 2 seeds, by Student's t with n - 1 degrees of freedom."""
    from scipy.special import stdtrit

    n = len(values)
    half = stdtrit(n - 1, 1 - ALPHA / 2) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


def welch_p(one: np.ndarray, other: np.ndarray) -> float | None:
    """Two-sided p of Welch's t test between the seeds of two configurations.

    None where one of them has a single seed, or where neither varies (closed forms).
    """
    from scipy.special import stdtr

    if min(len(one), len(other)) < 2:
        return None
    shares = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    if sum(shares) == 0:
        return None
    t = abs(one.mean() - other.mean()) / np.sqrt(sum(shares))
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1))
    return float(2 * stdtr(freedom, -t))


def bootstrap_intervals(columns: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """95 % percentile intervals of the means of `columns` [units, columns], rows drawn together: [2, columns].

    Efron 1979; with the differences of pairs as columns this is the paired bootstrap.
    """
    n = len(columns)
    values = columns.astype(np.float32)
    means = []
    for size in _chunks(RESAMPLES, n):
        drawn = generator.integers(0, n, (size, n), dtype=np.int64)
        drawn += n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts.astype(np.float32) @ values / n)
    return np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2], axis=0)


def flips_for(tests: int) -> int:
    """The number of sign patterns to draw: the smallest p, times the number of tests, must still be below 0.05."""
    return max(FLIPS, 40 * tests)


def sign_flip_p(differences: np.ndarray, flips: int, generator: np.random.Generator) -> np.ndarray:
    """Two-sided p of the hypothesis that the mean of each column of `differences` [units, pairs] is zero.

    Fisher's randomisation test: under it, either sign of a difference is as likely. p = (1 + patterns at least as
    extreme) / (1 + flips); with <= 13 differences that are not zero all patterns are counted instead.
    """
    n, pairs = differences.shape
    total = differences.sum(axis=0)
    size = np.abs(differences).sum(axis=0)
    values = differences.astype(np.float32)
    bound = np.abs(total) - 1e-5 * size  # sums of equal patterns differ by rounding
    extreme = np.zeros(pairs, dtype=np.int64)
    for chunk in _chunks(flips, n):
        bits = np.frombuffer(generator.bytes(-(-chunk * n // 8)), dtype=np.uint8)
        kept = np.unpackbits(bits, count=chunk * n).reshape(chunk, n).astype(np.float32)
        extreme += (np.abs(2 * (kept @ values) - total) >= bound).sum(axis=0)
    p = (1 + extreme) / (1 + flips)
    for pair in np.flatnonzero((differences != 0).sum(axis=0) <= EXACT):
        p[pair] = _exact_p(differences[:, pair])
    return p


def _exact_p(differences: np.ndarray) -> float:
    own = differences[differences != 0]
    patterns = (np.arange(2 ** len(own))[:, None] >> np.arange(len(own))) & 1
    sums = (2 * patterns - 1) @ own if len(own) else np.zeros(1)
    return float((np.abs(sums) >= np.abs(own.sum()) - 1e-12 * np.abs(own).sum()).mean())


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Holm 1979): the smallest p times m, the next times m - 1, ..., never decreasing."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


class Effect(NamedTuple):
    """The size of a difference over units: standardised mean, shares of units (0 to 1) above and below zero."""

    standardised: float | None
    above: float
    below: float


def effect(differences: np.ndarray) -> Effect:
    """Cohen's d of the differences [units] of a pair (mean / standard deviation; None where they do not vary)."""
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    standardised = float(differences.mean()) / spread if spread > 0 else None
    return Effect(standardised, float((differences > 0).mean()), float((differences < 0).mean()))


def _chunks(total: int, width: int) -> Iterator[int]:
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
