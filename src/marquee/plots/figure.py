"""What a figure is: a Vega-Lite specification apart from its data, in colours that also read without colour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

# Okabe & Ito 2008, "Color Universal Design", without black (unseen on dark) and yellow (unseen on white).
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2, 1, 2, 1, 2], [1, 3], [12, 2]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
GREY = "#808080"
LONGEST_NAME = 50  # characters of a variant in the name of its file, which has room for 255 bytes


@dataclass
class Figure:
    """One figure. `variants` are its choices (a cost, a model), {name: Vega-Lite specification without data}."""

    name: str  # of its file
    title: str
    caption: str
    variants: dict[str, dict[str, Any]]
    rows: dict[str, list[dict[str, Any]]]  # by the names that the specifications give their data
    choice: str = ""  # what the variants are, where there are several
    block: int | None = None  # from 1
    notes: list[str] = field(default_factory=list)

    def stems(self) -> dict[str, str]:
        """The file of each variant, without its ending. Names that are written alike, as -1 and 1, are numbered."""
        if len(self.variants) == 1:
            return dict.fromkeys(self.variants, self.name)
        found: dict[str, str] = {}
        for place, variant in enumerate(self.variants, 1):
            stem = wanted = f"{self.name}-{file_name(variant)[:LONGEST_NAME].strip('-') or place}"
            number = 1
            while stem in found.values():
                number += 1
                stem = f"{wanted}-{number}"
            found[variant] = stem
        return found

    def rows_of(self, specification: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Only the data that a variant names."""
        return {name: rows for name, rows in self.rows.items() if name in _data_names(specification)}


def file_name(text: str) -> str:
    """A title as the name of a file: `ndcg@10 By class` is ndcg-10-by-class."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def _data_names(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["data"]["name"]} if isinstance(node.get("data"), dict) and "name" in node["data"] else set()
        return own.union(*map(_data_names, node.values()))
    return set().union(*map(_data_names, node)) if isinstance(node, list) else set()


def specification(chart: alt.LayerChart, height: Any = None) -> dict[str, Any]:
    """The chart as a dictionary without data and theme; `height` in pixels, or alt.Step for each row."""
    if height is not None:
        chart = chart.properties(height=height)
    content = chart.to_dict(validate=True)
    for key in ("config", "datasets"):
        content.pop(key, None)
    return content


def colours(order: Sequence[str]) -> alt.Scale:
    """The palette in this order, so that a configuration has one colour in all figures."""
    return cycled(order, PALETTE)


def cycled(order: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    """The values in this order, again from the first where there are too few."""
    return alt.Scale(domain=list(order), range=[values[index % len(values)] for index in range(len(order))])


def legend_of(order: Sequence[str], **further: Any) -> alt.Legend:
    """Below the chart, in two columns where the words are short."""
    longest = max(map(len, order), default=0)
    common = {"orient": "bottom", "columns": 1 if longest > 24 else 2, "labelLimit": 380, "symbolSize": 90,
              "symbolStrokeWidth": 2, "direction": "vertical"}  # fmt: skip
    return alt.Legend(**{**common, **further})


def rounded(value: float) -> float:
    """Six significant digits, so that pages and files stay small."""
    return float(f"{value:.6g}")
