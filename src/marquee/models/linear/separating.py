"""Linear classifiers with an L2 penalty on sparse features, by L-BFGS."""

import logging
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

log = logging.getLogger(__name__)

Loss = Literal["squared_hinge", "logistic", "softmax"]


def separate(
    features: csr_array, wanted: np.ndarray, weights: np.ndarray, loss: Loss, c: float, max_iterations: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights [terms, columns] and biases [columns] that minimise |W|^2 / 2 + c * sum of weighted losses, and the mean
    of those losses.

    wanted   0 or 1, [texts, columns]
    weights  of each text in each column, [texts, columns]
    loss     squared_hinge, logistic: each column for itself, 1 against 0
             softmax: all columns together, one 1 in each row

    The biases are not penalised, as in scikit-learn.
    """
    columns = wanted.shape[1]
    if loss == "softmax":
        w, b, value = _minimise(features, _softmax(wanted, weights[:, :1]), columns, c, max_iterations)
        return w, b, value / len(wanted)
    slope = _squared_hinge if loss == "squared_hinge" else _logistic
    found = [
        _minimise(features, slope(wanted[:, k, None] * 2 - 1, weights[:, k, None]), 1, c, max_iterations)
        for k in range(columns)
    ]
    w, b, values = zip(*found, strict=True)
    return np.concatenate(w, axis=1), np.concatenate(b), sum(values) / wanted.size


Slope = Callable[[np.ndarray], tuple[float, np.ndarray]]  # the loss of margins [texts, columns], and its gradient


def _squared_hinge(sign: np.ndarray, weights: np.ndarray) -> Slope:
    def slope(margins: np.ndarray) -> tuple[float, np.ndarray]:
        short = np.maximum(1 - sign * margins, 0)
        return float((weights * short**2).sum()), -2 * weights * sign * short

    return slope


def _logistic(sign: np.ndarray, weights: np.ndarray) -> Slope:
    def slope(margins: np.ndarray) -> tuple[float, np.ndarray]:
        signed = sign * margins
        # 1 / (1 + e^m) by a function that does not overflow.
        return float((weights * np.logaddexp(0, -signed)).sum()), -weights * sign * (1 - np.tanh(signed / 2)) / 2

    return slope


def _softmax(wanted: np.ndarray, weights: np.ndarray) -> Slope:
    def slope(margins: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = margins - margins.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        value = (weights * (np.log(total) - (shifted * wanted).sum(axis=1, keepdims=True))).sum()
        return float(value), weights * (np.exp(shifted) / total - wanted)

    return slope


def _minimise(
    features: csr_array, slope: Slope, columns: int, c: float, max_iterations: int
) -> tuple[np.ndarray, np.ndarray, float]:
    terms = features.shape[1]
    transposed = features.T.tocsr()  # its rows are gathered, where a plain transpose would scatter
    last = 0.0

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        w, b = flat[: terms * columns].reshape(terms, columns), flat[terms * columns :]
        last, of_margins = slope(features @ w + b)
        of_w = w + c * (transposed @ of_margins)
        return 0.5 * float((w**2).sum()) + c * last, np.concatenate([of_w.ravel(), c * of_margins.sum(axis=0)])

    options = {"maxiter": max_iterations, "ftol": 1e-9, "gtol": 1e-4, "maxcor": 10}
    found = minimize(objective, np.zeros((terms + 1) * columns), jac=True, method="L-BFGS-B", options=options)
    if not found.success:
        log.info("L-BFGS ends after %d steps: %s", found.nit, found.message)
    last = slope(features @ found.x[: terms * columns].reshape(terms, columns) + found.x[terms * columns :])[0]
    return found.x[: terms * columns].reshape(terms, columns), found.x[terms * columns :], last
