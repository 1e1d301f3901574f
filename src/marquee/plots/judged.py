"""How a classifier was judged, drawn: confusion, ROC and precision-recall curves, calibration, accuracy by coverage.

`targets` and `predicted` are class numbers int [n] or 0/1 matrices [n, labels]; `probabilities` are [n, labels].
"""

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import numpy as np

from marquee.metrics.classification import BINS, auroc, average_precision, calibration_error
from marquee.metrics.decisions import coverage_curve, risk_coverage_area
from marquee.plots.figure import DASHES, GREY, PALETTE, Figure, colours, cycled, legend_of, rounded, specification

MOST_CLASSES = 20  # in a confusion matrix
MOST_CURVES = 6  # in one figure: as many as there are colours
MOST_POINTS = 200  # of a curve

UNIT = alt.Scale(domain=[0, 1], nice=False)


def judged_figures(
    targets: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> list[Figure]:
    """Every figure that there is something for."""
    made = [confusion(targets, predicted, labels)] if targets.ndim == 1 else []
    made += [*curves(targets, probabilities, labels), calibration(targets, probabilities)]
    if targets.ndim == 1:
        made.append(coverage(predicted == targets, probabilities))
    return made


def confusion(targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> Figure:
    """Counts of (true, predicted), shaded by the share of the true class; of many classes the most frequent."""
    counts = np.bincount(targets * len(labels) + predicted, minlength=len(labels) ** 2).reshape(len(labels), -1)
    kept = np.sort(np.argsort(-counts.sum(1), kind="stable")[:MOST_CLASSES])
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        {"true": labels[i], "predicted": labels[j], "count": int(counts[i, j]), "share": rounded(share[i, j])}
        for i in kept
        for j in kept
    ]
    order = [labels[i] for i in kept]
    base = alt.Chart(alt.NamedData("confusion"))
    x = alt.X("predicted:N", sort=order, title="predicted", axis=alt.Axis(labelAngle=0 if len(order) < 5 else -45))
    y = alt.Y("true:N", sort=order, title="true")
    shade = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range=["#ffffff", "#222222"]), legend=None)
    cells = base.mark_rect(stroke="#999", strokeWidth=0.5).encode(x, y, shade)
    ink = alt.condition("datum.share > 0.5", alt.value("white"), alt.value("#111"))
    size = 12 if len(order) <= 6 else 9 if len(order) <= 12 else 6
    texts = base.mark_text(fontSize=size).encode(x, y, alt.Text("count:Q", format=","), color=ink)
    left = f"; the {len(kept)} most frequent of {len(labels)} classes" if len(kept) < len(labels) else ""
    return Figure(
        "confusion", "Confusion matrix", f"Test examples by true and predicted class, shaded by the share of the true "
        f"class{left}.", {"all": specification(alt.layer(cells, texts))}, {"confusion": rows},
    )  # fmt: skip


def curves(targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> list[Figure]:
    """ROC and precision-recall curves: of the second class of two, else of the most frequent, each against the rest."""
    if targets.ndim == 1 and len(labels) == 2:
        numbers = [1]
    else:
        matrix = targets if targets.ndim == 2 else np.eye(len(labels))[targets]
        numbers = sorted(np.argsort(-matrix.sum(0), kind="stable")[:MOST_CURVES].tolist())
    roc, pr = [], []
    for number in numbers:
        positive = targets[:, number] > 0 if targets.ndim == 2 else targets == number
        if positive.any() and not positive.all():
            scores = probabilities[:, number]
            roc.append((f"{labels[number]} (AUC {auroc(positive, scores):.3f})", *_roc(positive, scores)))
            area = average_precision(positive, scores)
            pr.append((f"{labels[number]} (AP {area:.3f})", *_precision_recall(positive, scores)))
    if not roc:
        return []
    left = len(labels) - len(numbers) if len(labels) > 2 or targets.ndim == 2 else 0
    remark = f" The {len(numbers)} most frequent of {len(labels)} classes." if left else ""
    chance = [{"x": 0, "y": 0}, {"x": 1, "y": 1}]
    return [
        _lines("roc", "ROC curve", "False positive rate", "True positive rate", roc,
               f"Each threshold is a point; the dotted line is chance.{remark}", chance),
        _lines("precision-recall", "Precision-recall curve", "Recall", "Precision", pr,
               f"Each threshold is a point.{remark}", []),
    ]  # fmt: skip


def _roc(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hits, seen = _cumulated(positive, scores)
    return np.r_[0, (seen - hits) / (~positive).sum()], np.r_[0, hits / positive.sum()]


def _precision_recall(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hits, seen = _cumulated(positive, scores)
    return hits / positive.sum(), hits / seen


def _cumulated(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and examples from each threshold on; equal scores are one threshold."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.diff(scores[order]) != 0, True]
    return np.cumsum(positive[order])[last], np.flatnonzero(last) + 1


def _lines(
    name: str,
    title: str,
    x: str,
    y: str,
    found: Sequence[tuple[str, np.ndarray, np.ndarray]],
    caption: str,
    reference: Sequence[dict[str, float]],
) -> Figure:
    rows = []
    for label, across, up in found:
        at = np.unique(np.linspace(0, len(across) - 1, MOST_POINTS).round().astype(int))
        rows += [
            {"label": label, "x": rounded(a), "y": rounded(b), "place": place}
            for place, (a, b) in enumerate(zip(across[at].tolist(), up[at].tolist(), strict=True))
        ]
    order = [label for label, *_ in found]
    legend = legend_of(order, symbolType="stroke", symbolSize=500)
    base = alt.Chart(alt.NamedData(name))
    across, up = alt.X("x:Q", title=x, scale=UNIT), alt.Y("y:Q", title=y, scale=UNIT)
    line = base.mark_line(strokeWidth=1.8, strokeCap="butt", interpolate="linear").encode(
        across, up, alt.Color("label:N", title=None, scale=colours(order), legend=legend),
        alt.StrokeDash("label:N", title=None, scale=cycled(order, DASHES), legend=legend), order="place:Q",
    )  # fmt: skip
    layers: list[Any] = [line]
    datasets = {name: rows}
    if reference:
        datasets[f"{name}-chance"] = list(reference)
        chance = alt.Chart(alt.NamedData(f"{name}-chance"))
        layers.insert(0, chance.mark_line(color=GREY, strokeDash=[2, 3], strokeWidth=1).encode(across, up))
    return Figure(name, title, caption, {"all": specification(alt.layer(*layers))}, datasets)


def calibration(targets: np.ndarray, probabilities: np.ndarray) -> Figure:
    """The share of right predictions over the confidence in them, by bins; its gap is the calibration error."""
    if targets.ndim == 1:
        confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    else:
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
        right = ((probabilities >= 0.5) == (targets > 0)).ravel()
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence.astype(np.float64), side="left")
    size = np.bincount(place, minlength=BINS)
    mean: Callable[[np.ndarray], np.ndarray] = lambda of: np.bincount(place, of, BINS) / np.maximum(size, 1)  # noqa: E731
    x, y = mean(confidence.astype(np.float64)), mean(right.astype(np.float64))
    rows = [{"confidence": rounded(x[i]), "right": rounded(y[i]), "n": int(size[i])} for i in np.flatnonzero(size)]
    base = alt.Chart(alt.NamedData("calibration"))
    lowest = min(0.9, float(np.floor(10 * min(confidence.min(), y[size > 0].min())) / 10))
    scale = alt.Scale(domain=[lowest, 1], nice=False)
    across = alt.X("confidence:Q", title="Confidence (mean of a bin)", scale=scale)
    up = alt.Y("right:Q", title="Share that is right", scale=scale)
    ideal = alt.Chart(alt.NamedData("calibration-ideal")).mark_line(color=GREY, strokeDash=[2, 3], strokeWidth=1)
    points = base.mark_point(filled=True, opacity=0.9, color=PALETTE[0]).encode(
        across, up, alt.Size("n:Q", scale=alt.Scale(range=[15, 220]), legend=None))  # fmt: skip
    layers = [
        ideal.encode(across, up),
        base.mark_line(color=PALETTE[0], strokeWidth=1.2).encode(across, up),
        points,
    ]
    error = calibration_error(targets, probabilities)
    return Figure(
        "calibration", f"Calibration (expected error {error:.3f})",
        f"Predictions in {BINS} bins by confidence, sized by their number; on the dotted line it is what it says.",
        {"all": specification(alt.layer(*layers))},
        {"calibration": rows, "calibration-ideal": [{"confidence": at, "right": at} for at in (lowest, 1)]},
    )  # fmt: skip


def coverage(right: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Accuracy on the share of examples that the model is most certain of; the others would go to a person."""
    confidence = probabilities.max(axis=1)
    covered, accuracy = coverage_curve(right.astype(np.float64), confidence)
    # The first few examples say nothing: one of them wrong would be an accuracy of 0.
    kept = covered >= min(0.02, covered[-1])
    area = risk_coverage_area(right.astype(np.float64), confidence)
    figure = _lines("coverage", f"Accuracy by coverage (mean risk {area:.3f})", "Share that the model decides",
                    "Accuracy on these", [("", covered[kept], accuracy[kept])],
                    "The least certain examples are left to a person first.", [])  # fmt: skip
    chart = figure.variants["all"]
    low = min(0.95, float(np.floor(20 * accuracy[kept].min()) / 20))
    if kept.sum() == 1:  # all are equally certain, and a line would need two points
        chart["layer"][0]["mark"]["point"] = True
    for layer in chart["layer"]:
        layer["encoding"]["y"]["scale"] = {"domain": [low, 1], "nice": False}
        layer["encoding"]["color"]["legend"] = layer["encoding"]["strokeDash"]["legend"] = None
    return figure
