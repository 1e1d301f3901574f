"""The most informative n-grams of a linear text model, as bars on both sides of zero."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from marquee.plots.figure import PALETTE, Figure, rounded, specification

SHOWN = 12  # of each side
MOST_CLASSES = 6  # with a figure each


def informative_terms(terms: Sequence[str], weights: np.ndarray, labels: Sequence[str]) -> Figure | None:
    """Of two classes those for the second and against it; of more, those for and against each of the first six.

    `weights` [terms, classes]; None where there are no terms, as of hashed ones.
    """
    if not len(terms):
        return None
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
    bars = base.mark_bar(size=9, stroke=PALETTE[0], strokeWidth=1).encode(alt.X("weight:Q", title=title), y, fill=fill)
    return specification(alt.layer(bars), height=alt.Step(14))
