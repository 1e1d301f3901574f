"""How classifiers are judged: one pass over the probabilities of all units, in float64.

`targets` are class numbers int [n] (binary, multi-class) or a 0/1 matrix [n, labels] (multi-label); `probabilities` are
[n, classes]. A single-label prediction is the most probable class (the first of equals), a label is predicted at 0.5.
The definitions are scikit-learn's, and the tests compare with it. They are computed here and not by torchmetrics
because they are wanted once, exactly, from joined arrays, where torchmetrics updates a state for each batch.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.decisions import Decision, error_rates, mean_cost, risk_coverage_area, scope_scores
from marquee.metrics.evaluator import Evaluator
from marquee.metrics.groups import Groups, with_gap

log = logging.getLogger(__name__)

# What every run records, beside the metrics of single classes.
METRICS = (
    "accuracy", "f1_macro", "f1_micro", "auroc", "average_precision", "log_loss", "calibration_error",
    "risk_coverage_area",
)  # fmt: skip
BINS = 15  # of the calibration error, as in Guo et al.
MOST_CLASSES = 20  # whose F1, precision and recall are recorded one by one, where there are more than two
EPSILON = float(np.finfo(np.float32).eps)  # probabilities come from float32, so nothing smaller can be told from 0


@dataclass(frozen=True)
class Judged:
    """By what, beside the metrics of every run, predictions are judged.

    decision  makes predictions of probabilities; None: the most probable class, labels from 0.5 on
    positive  class numbers that are to be flagged; without them there are no rates of false alarms
    costs     of missing each class [classes]
    groups    by attribute: examples, by row number, whose scores are told apart
    apart     the class of what belongs to none of the others, for the metrics of scope; or None
    """

    decision: Decision | None = None
    positive: tuple[int, ...] = ()
    costs: tuple[float, ...] = ()
    groups: Mapping[str, Groups] = field(default_factory=dict)
    apart: int | None = None


class ClassificationEvaluator(Evaluator):
    """Collects probabilities [batch, classes] of batches that have `labels` and `index`.

    The per-unit table has a row an example: example (its row number), target, predicted, correct (multi-label: the
    share of labels that are right), loss (natural log; multi-label: mean over labels), `asked` (where a decision leaves
    some to a person: whether this one is), and `p(<label>)` for each class.
    """

    def __init__(self, labels: Sequence[str], multilabel: bool = False, judged: Judged | None = None):
        self.labels = list(labels)
        self.multilabel = multilabel
        self.judged = judged or Judged()
        self.decision = self.judged.decision or Decision.plain(len(self.labels), multilabel)
        self._seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, scores: Tensor, batch: Any) -> None:
        if not bool(scores.isfinite().all()):
            raise JobError(
                "The model gave NaN or infinite probabilities. Lower the learning rate (optimizer.lr=...), clip "
                "gradients (trainer.gradient_clip_val=1) or use trainer.precision=32."
            )
        columns = (batch.index, batch.labels, scores.float())
        self._seen.append(tuple(column.detach().cpu().numpy() for column in columns))

    def state(self) -> dict[str, np.ndarray]:
        if self._seen:
            index, targets, probabilities = (np.concatenate(column) for column in zip(*self._seen, strict=True))
        else:  # a process that had no unit to evaluate
            n = len(self.labels)
            index, probabilities = np.zeros(0, dtype=np.int64), np.zeros((0, n), dtype=np.float32)
            targets = np.zeros((0, n), dtype=np.float32) if self.multilabel else np.zeros(0, dtype=np.int64)
        return {"index": index, "targets": targets, "probabilities": probabilities}

    def joined(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers, targets and probabilities of all states, by row number."""
        joined = {name: np.concatenate([state[name] for state in states]) for name in states[0]}
        order = np.argsort(joined["index"], kind="stable")
        return joined["index"][order], joined["targets"][order], joined["probabilities"][order]

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        index, targets, probabilities = self.joined(states)
        predicted = self.decision.predict(probabilities)
        metrics = classification_metrics(targets, probabilities, self.labels, predicted)
        metrics |= self._judged(index, targets, probabilities, predicted)
        return metrics, self._units(index, targets, probabilities, predicted)

    def _judged(
        self, index: np.ndarray, targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray
    ) -> dict[str, float]:
        """What only these settings ask for."""
        found: dict[str, float] = {}
        right = (predicted == targets) if targets.ndim == 1 else (predicted == targets).mean(axis=1)
        if self.judged.costs:
            found["cost"] = mean_cost(targets, predicted, self.judged.costs)
        if self.decision.least > 0:
            answered = ~self.decision.asks(probabilities)
            found["coverage"] = float(answered.mean())
            if answered.any():
                found["accuracy_covered"] = float(right[answered].mean())
        if self.judged.apart is not None:
            found |= scope_scores(targets, predicted, self.judged.apart)
        positive, flagged = (np.isin(column, self.judged.positive) for column in (targets, predicted))
        if self.judged.positive:
            found |= error_rates(positive, flagged)
        for attribute, (names, of_row) in self.judged.groups.items():
            inside = [(name, of_row[index] == place) for place, name in enumerate(names)]
            inside = [(name, rows) for name, rows in inside if rows.any()]
            found |= with_gap("accuracy", attribute, [(name, float(right[rows].mean())) for name, rows in inside])
            if self.judged.positive:
                rates = [(name, error_rates(positive[rows], flagged[rows])) for name, rows in inside]
                for rate in ("false_positive_rate", "false_negative_rate"):
                    known = [(name, of[rate]) for name, of in rates if rate in of]
                    found |= with_gap(rate, attribute, known)
        return found

    def _units(
        self, index: np.ndarray, targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray
    ) -> pd.DataFrame:
        names = np.array(self.labels, dtype=object)
        if self.multilabel:
            columns = {"target": _joined(targets, names), "predicted": _joined(predicted, names)}
            correct = (predicted == targets).mean(axis=1)
        else:
            columns = {"target": names[targets], "predicted": names[predicted]}
            correct = (predicted == targets).astype(np.float64)
        columns |= {"correct": correct, "loss": losses(targets, probabilities)}
        if self.decision.least > 0:
            columns["asked"] = self.decision.asks(probabilities)
        columns |= {f"p({name})": probabilities[:, i] for i, name in enumerate(self.labels)}
        return pd.DataFrame({"example": index, **columns})


def classification_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str] | None = None,
    predicted: np.ndarray | None = None,
) -> dict[str, float]:
    """All metrics by name. `precision`, `recall` and `f1` alone are those of the second class of two; of more classes
    (up to MOST_CLASSES, and of labels) each has its own, as in `f1[hate]`.

    accuracy is the share of right classes (multi-label: of right labels; `subset_accuracy` of rows that are right
    throughout). What is undefined, such as the AUROC of a class that does not occur, is left out, with a logged note.
    `predicted` are decisions of another kind than the most probable class.
    """
    multilabel = targets.ndim == 2
    predicted = predictions(probabilities, multilabel) if predicted is None else predicted
    right = predicted == targets
    metrics = {"accuracy": float(right.mean())}
    if multilabel:
        metrics["subset_accuracy"] = float(right.all(axis=1).mean())
    metrics |= precision_recall_f1(targets, predicted, probabilities.shape[1], labels)
    metrics |= ranking_metrics(targets, probabilities, labels)
    metrics["log_loss"] = float(losses(targets, probabilities).mean())
    metrics["calibration_error"] = calibration_error(targets, probabilities)
    if not multilabel:
        metrics["risk_coverage_area"] = risk_coverage_area(right.astype(np.float64), probabilities.max(axis=1))
    return metrics


def predictions(probabilities: np.ndarray, multilabel: bool) -> np.ndarray:
    """Class numbers [n], or a 0/1 matrix [n, labels]."""
    return (probabilities >= 0.5).astype(np.int64) if multilabel else probabilities.argmax(axis=1)


def losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log loss of each unit [n], natural logarithm, probabilities clipped to [eps, 1 - eps] (float32's eps).

    Multi-label: the mean over labels of the binary log loss.
    """
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    if targets.ndim == 1:
        return -np.log(p[np.arange(len(p)), targets])
    return -np.where(targets > 0, np.log(p), np.log1p(-p)).mean(axis=1)


def precision_recall_f1(
    targets: np.ndarray, predicted: np.ndarray, n_classes: int, labels: Sequence[str] | None = None
) -> dict[str, float]:
    """Macro: the mean over classes; micro: from counts added up over classes. 0 where nothing is predicted or true.

    Classes that are neither true nor predicted anywhere do not count in a single-label macro mean; each label of a
    multi-label task does. (scikit-learn, `precision_recall_fscore_support`, zero_division=0.)
    """
    if targets.ndim == 1:
        hit = np.bincount(targets[targets == predicted], minlength=n_classes)
        true, guessed = (np.bincount(column, minlength=n_classes) for column in (targets, predicted))
        counted = (true + guessed) > 0
    else:
        hit, true, guessed = ((a > 0).sum(axis=0) for a in (targets * predicted, targets, predicted))
        counted = np.ones(n_classes, dtype=bool)
    of_class = {
        "precision": _ratio(hit, guessed),
        "recall": _ratio(hit, true),
        "f1": _ratio(2 * hit, true + guessed),
    }
    total = {
        "precision": _ratio(hit.sum(), guessed.sum()),
        "recall": _ratio(hit.sum(), true.sum()),
        "f1": _ratio(2 * hit.sum(), true.sum() + guessed.sum()),
    }
    metrics = {f"{name}_macro": float(values[counted].mean()) for name, values in of_class.items()}
    metrics |= {f"{name}_micro": float(value) for name, value in total.items()}
    if targets.ndim == 1 and n_classes == 2:
        metrics |= {name: float(values[1]) for name, values in of_class.items()}
    elif labels and n_classes <= MOST_CLASSES:
        metrics |= {
            f"{name}[{label}]": float(values[number])
            for name, values in of_class.items()
            for number, label in enumerate(labels)
            if counted[number]
        }
    return metrics


def ranking_metrics(
    targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str] | None = None
) -> dict[str, float]:
    """`auroc` and `average_precision`: of the second class of two, else the mean over classes, one against the rest.

    A class without a positive or without a negative unit has no AUROC, one without a positive no average precision:
    it is left out of the mean.
    """
    n_classes = probabilities.shape[1]
    classes = [1] if targets.ndim == 1 and n_classes == 2 else range(n_classes)
    values: dict[str, list[float]] = {"auroc": [], "average_precision": []}
    undefined = []
    for number in classes:
        positive = targets[:, number] > 0 if targets.ndim == 2 else targets == number
        if positive.any() and not positive.all():
            values["auroc"].append(auroc(positive, probabilities[:, number]))
        else:
            undefined.append(labels[number] if labels else str(number))
        if positive.any():
            values["average_precision"].append(average_precision(positive, probabilities[:, number]))
    if undefined:
        log.info("auroc is undefined for, and leaves out, classes with one kind of unit: %s", ", ".join(undefined))
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting one half.

    Hanley & McNeil 1982; computed from midranks (Mann & Whitney 1947). `positive` bool [n], `scores` [n].
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    return float((midranks[inverse][positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """The sum over thresholds of (recall gained) * precision, without interpolation; equal scores are one threshold.

    scikit-learn, `average_precision_score`. `positive` bool [n], `scores` [n].
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.r_[ranked[1:] != ranked[:-1], True]  # the last of each run of equal scores
    hits, seen = hits[last], np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / seen).sum() / hits[-1])


def calibration_error(targets: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the prediction: the mean |confidence - accuracy| over 15 equal-width bins, weighted
    by their size; each bin takes its upper edge.

    Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks", ICML, equation 3. Multi-label: each
    label of each unit is a prediction of its own, with confidence max(p, 1 - p).
    """
    predicted = predictions(probabilities, targets.ndim == 2)
    right = (predicted == targets).astype(np.float64).ravel()
    p = probabilities.astype(np.float64)
    confidence = p.max(axis=1) if targets.ndim == 1 else np.where(predicted > 0, p, 1 - p).ravel()
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    bin_ = np.searchsorted(edges, confidence, side="left")
    gap = np.bincount(bin_, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def _ratio(part: Any, whole: Any) -> Any:
    return np.divide(part, whole, out=np.zeros_like(np.asarray(whole, dtype=np.float64)), where=np.asarray(whole) > 0)


def _joined(matrix: np.ndarray, names: np.ndarray) -> list[str]:
    return ["|".join(names[row > 0]) for row in matrix]
