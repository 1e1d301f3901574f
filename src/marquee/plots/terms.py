"""The most informative n-grams of a linear text model, as bars on both sides of zero."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from marquee.data.text.keywords import terms_of
from marquee.models.linear.terms import TermModel
from marquee.plots.figure import PALETTE, Figure, rounded, specification

SHOWN = 12  # of each side
MOST_CLASSES = 6  # with a figure each


def informative_terms(model: Any, data: Any) -> Figure | None:
    """Those of a model that has a weight for each n-gram of texts; None for others, and where n-grams are hashed."""
    if not isinstance(model, TermModel) or not len((found := model.term_weights())[0]):
        return None
    keys, weights = (tensor.cpu() for tensor in found)
    labels = list(data.spec.labels)
    kept = strongest(weights.numpy(), len(labels))  # of a million n-grams few need to be spelt
    terms = terms_of(keys[kept], data.vocabulary)
    return bars(terms, weights.numpy()[kept], labels)


def strongest(weights: np.ndarray, n_classes: int) -> np.ndarray:
    """Rows [at most 2 * SHOWN a class] with the largest and the smallest weight for a class, ascending."""
    columns = weights.T if n_classes > 2 else (weights[:, 1] - weights[:, 0])[None]
    ends = [order for column in columns for order in (np.argsort(column)[:SHOWN], np.argsort(column)[-SHOWN:])]
    return np.unique(np.concatenate(ends))


def bars(terms: Sequence[str], weights: np.ndarray, labels: Sequence[str]) -> Figure:
    """Of two classes the terms for the second and against it; of more, those for and against each of the first six.

    `weights` [terms, classes].
    """
    two = len(labels) == 2
    numbers = [1] if two else list(range(min(len(labels), MOST_CLASSES)))
    variants, rows = {}, {}
    for number in numbers:
        weight = weights[:, 1] - weights[:, 0] if two else weights[:, number]
        order = np.argsort(-weight, kind="stable")
        low = order[-SHOWN:] if len(order) > 2 * SHOWN else order[len(order) - len(order) // 2 :]
        chosen = np.r_[order[: min(SHOWN, len(order) - len(low))], low]
        name = f"terms-{number}"
        rows[name] = [
            {"term": terms[i], "weight": rounded(weight[i]), "place": place} for place, i in enumerate(chosen.tolist())
        ]
        variants[labels[number]] = _bars(name, f"Weight for {labels[number]}", [terms[i] for i in chosen])
    return Figure("terms", "Most informative n-grams", "Weights of the linear model.", variants, rows, "class")


def _bars(name: str, title: str, order: Sequence[str]) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData(name))
    y = alt.Y("term:N", sort=alt.SortField("place"), title=None, axis=alt.Axis(labelLimit=160, ticks=False))
    # Filled for the class and hollow against it: the sign is seen without colour, too.
    fill = alt.condition("datum.weight > 0", alt.value(PALETTE[0]), alt.value("white"))
    # Without descriptions of the bars: Vega takes a backslash in the title there for the beginning of a sign.
    bars = base.mark_bar(size=9, stroke=PALETTE[0], strokeWidth=1, aria=False).encode(
        alt.X("weight:Q", title=title), y, fill=fill
    )
    return specification(alt.layer(bars), height=alt.Step(14))
