"""From probabilities to decisions: thresholds chosen on validation, costs of errors, and when to ask a person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Criterion = Literal["accuracy", "f1", "balanced_accuracy"]


@dataclass(frozen=True)
class Decision:
    """How probabilities [n, classes] become predictions.

    values      single-label: a weight a class; the class with the largest weight * probability is predicted.
                multi-label: a threshold a label, which is predicted from that probability on
    multilabel  which of the two
    least       where the largest probability is below it, a person is asked; 0: never
    apart       single-label: the class of what belongs to none of the others, or None
    floor       `apart` is also predicted where every other class has a probability below this

    With the cost of missing a class as its weight the expected cost is least (Elkan 2001, "The Foundations of
    Cost-Sensitive Learning", IJCAI, equation 1, where the cost of an error depends on the true class alone). Weights
    (t, 1 - t) of two classes are a threshold t on the second.
    """

    values: tuple[float, ...]
    multilabel: bool = False
    least: float = 0.0
    apart: int | None = None
    floor: float = 0.0

    @classmethod
    def plain(cls, n_classes: int, multilabel: bool) -> "Decision":
        """The most probable class, or every label from 0.5 on."""
        return cls((0.5 if multilabel else 1.0,) * n_classes, multilabel)

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        """Class numbers int64 [n] (of equals the first), or a 0/1 matrix int64 [n, labels]."""
        values = np.asarray(self.values)
        if self.multilabel:
            return (probabilities >= values).astype(np.int64)
        found = (probabilities * values).argmax(axis=1)
        if self.apart is None:
            return found
        return np.where(others(probabilities, self.apart) < self.floor, self.apart, found)

    def asks(self, probabilities: np.ndarray) -> np.ndarray:
        """Which examples are for a person: bool [n]."""
        return probabilities.max(axis=1) < self.least

    def to_json(self) -> dict[str, Any]:
        content = {"values": list(self.values), "multilabel": self.multilabel, "least": self.least}
        return content if self.apart is None else {**content, "apart": self.apart, "floor": self.floor}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Decision":
        values, multilabel, least = tuple(content["values"]), bool(content["multilabel"]), float(content["least"])
        return cls(values, multilabel, least, content.get("apart"), float(content.get("floor", 0)))


def others(probabilities: np.ndarray, apart: int) -> np.ndarray:
    """The largest probability of a class that is not `apart`: [n]."""
    return np.delete(probabilities, apart, axis=1).max(axis=1)


def floor_for(
    targets: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, apart: int, by: Criterion | float
) -> float:
    """The confidence in a class of the others below which an example belongs to none of them.

    targets, predicted  class numbers int [n], `predicted` without a floor
    confidence          the largest probability of the others [n]
    by                  a share: so many of the examples of the others may be turned away; or what is to be largest, of
                        `apart` against all others: f1, accuracy, or the mean of both recalls
    """
    out = targets == apart
    if isinstance(by, str):
        doubt = np.where(predicted == apart, 1.0, 1 - confidence)
        return 1 - best_threshold(out, doubt, by)
    inside = np.sort(confidence[~out])
    return float(inside[min(int(by * len(inside)), len(inside) - 1)]) if len(inside) else 0.0


def scope_scores(targets: np.ndarray, predicted: np.ndarray, apart: int) -> dict[str, float]:
    """How well a class of what belongs to none of the others is told apart; what has no example is left out.

    `in_scope_accuracy` is the share of the others that are named rightly (Larson et al. 2019, EMNLP); recall,
    precision and F1 are those of `apart`.
    """
    out, said = targets == apart, predicted == apart
    hits = int((out & said).sum())
    found = {}
    if not out.all():
        found["in_scope_accuracy"] = float((predicted == targets)[~out].mean())
    if out.any():
        found["out_of_scope_recall"] = hits / int(out.sum())
        found["out_of_scope_precision"] = hits / max(int(said.sum()), 1)
        found["out_of_scope_f1"] = 2 * hits / (int(out.sum()) + int(said.sum()))
    return found


def best_threshold(positive: np.ndarray, scores: np.ndarray, by: Criterion) -> float:
    """The threshold from which on to say yes, so that accuracy, F1 of yes, or the mean of both recalls is largest.

    It lies midway between two neighbouring scores, so that it holds for scores a little different. Of equally good ones
    the nearest to 0.5 is taken. `positive` bool [n], `scores` [n] in 0 ... 1.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(positive[order])
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])  # equal scores are decided alike
    yes, hits = last + 1, hits[last]
    middle = (ranked[last] + np.r_[ranked[last[1:]], 0.0]) / 2
    # Saying no to all is a choice, too.
    yes, hits = np.r_[0, yes], np.r_[0, hits]
    thresholds = np.r_[(1 + ranked[0]) / 2 if ranked[0] < 1 else np.nextafter(1, 2), middle]
    n, positives = len(scores), int(positive.sum())
    negatives = n - positives
    if by == "accuracy":
        value = hits + (negatives - (yes - hits))
    elif by == "f1":
        value = 2 * hits / np.maximum(yes + positives, 1)
    else:
        value = hits / max(positives, 1) + (negatives - (yes - hits)) / max(negatives, 1)
    best = np.flatnonzero(np.isclose(value, value.max(), rtol=1e-12, atol=0))
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def confidence_for(probabilities: np.ndarray, share: float) -> float:
    """The largest probability below which the share of the examples lies that are the least certain."""
    confidence = np.sort(probabilities.max(axis=1))
    return float(confidence[min(int(round(share * len(confidence))), len(confidence) - 1)])


def coverage_curve(right: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage, and the accuracy on the most certain examples that it covers; both [distinct confidences], ascending.

    El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification", JMLR. Equally certain examples
    are covered together.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True])
    covered = last + 1
    return covered / len(right), np.cumsum(right[order])[last] / covered


def risk_coverage_area(right: np.ndarray, confidence: np.ndarray) -> float:
    """The mean share of errors over all coverages: 0 where nothing is wrong, small where the wrong is uncertain.

    Geifman, Uziel & El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation", ICLR, equation 3 (AURC). Of equally certain
    examples each counts as the mean of them.
    """
    order = np.argsort(-confidence, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(confidence[order]) != 0])
    sizes = np.diff(np.r_[first, len(right)])
    wrong = np.repeat(np.add.reduceat(1.0 - right[order], first) / sizes, sizes)
    return float((np.cumsum(wrong) / np.arange(1, len(right) + 1)).mean())


def error_rates(positive: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """`false_positive_rate`, the share of negatives that are flagged, and `false_negative_rate`, of positives that are
    not; what has no example is left out. Both bool [n]."""
    rates = {}
    if not positive.all():
        rates["false_positive_rate"] = float(flagged[~positive].mean())
    if positive.any():
        rates["false_negative_rate"] = float((~flagged[positive]).mean())
    return rates


def mean_cost(targets: np.ndarray, predicted: np.ndarray, costs: Sequence[float]) -> float:
    """The mean over examples of the cost of an error, which is that of the true class; int [n] both."""
    return float(np.where(targets == predicted, 0.0, np.asarray(costs)[targets]).mean())
