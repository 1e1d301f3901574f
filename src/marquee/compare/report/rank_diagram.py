"""The critical-difference diagram of Demšar 2006, figure 1: models on an axis of average ranks, joined where equal."""

from typing import Any

import altair as alt

from marquee.compare.ranks import Ranks
from marquee.compare.results import Comparison
from marquee.compare.statistics import ALPHA
from marquee.plots.figure import Figure

ROW = 20  # pixels between two names
TOP = 46  # of the axis


def rank_figure(comparison: Comparison) -> Figure:
    """The diagram with what it says in words; `comparison.ranks` must be there."""
    ranks = comparison.ranks
    assert ranks is not None
    p = "p < 0.001" if ranks.p < 0.001 else f"p = {ranks.p:.3f}"
    said = f"Friedman chi-square {ranks.statistic:.2f}, {p}" if ranks.statistic is not None else "all tie"
    caption = (
        f"After Demšar 2006: average ranks over {len(ranks.data)} data sets, 1 is best; {said}."
        f" Models joined by a bar are not told apart by Nemenyi's test at 5 % (critical difference "
        f"{ranks.critical_difference:.2f})."
    )
    if ranks.p >= 0.05:
        caption += " Friedman's test shows no difference at all, so all models are joined."
    spec, rows = rank_diagram("ranks", ranks)
    return Figure("critical-difference", "Critical-difference diagram", caption, {"ranks": spec}, rows,
                  notes=comparison.rank_notes)  # fmt: skip


def rank_diagram(name: str, ranks: Ranks) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The diagram as a specification and its rows; rank 1 is on the left, where the better half is named."""
    count = len(ranks.models)
    joined = cliques(ranks)
    half = (count + 1) // 2
    first = TOP + 16 + 9 * len(joined)
    lines: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []

    def line(x: float, y: float, x2: float, y2: float, width: float = 1.2) -> None:
        lines.append({"x": x, "y": y, "x2": x2, "y2": y2, "width": width})

    def text(x: float, y: float, words: str, align: str) -> None:
        texts.append({"x": x, "y": y, "text": words, "align": align})

    line(1, TOP, count, TOP)
    for rank in range(1, count + 1):
        line(rank, TOP - 6, rank, TOP)
        text(rank, TOP - 13, str(rank), "center")
    width = min(ranks.critical_difference, count - 1)
    line(1, 14, 1 + width, 14, 1.5)
    for end in (1, 1 + width):
        line(end, 10, end, 18, 1.5)
    cut = "" if width == ranks.critical_difference else ", longer than the axis"
    text(1 + width / 2, 5, f"CD = {ranks.critical_difference:.2f}{cut}", "center")
    for place, (better, worse) in enumerate(joined):
        height = TOP + 9 + 9 * place
        line(ranks.average[better] - 0.04, height, ranks.average[worse] + 0.04, height, 4)
    margin = 0.12 * max(1, count - 1)
    for place, (model, average) in enumerate(zip(ranks.models, ranks.average, strict=True)):
        left = place < half
        row = place if left else count - 1 - place
        height, end = first + ROW * row, 1 - margin if left else count + margin
        line(average, TOP, average, height)
        line(average, height, end, height)
        words = f"{model}  {average:.2f}" if left else f"{average:.2f}  {model}"
        text(end, height, words, "right" if left else "left")
    height = first + ROW * half
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[1, count], nice=False, zero=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, height], reverse=True, nice=False))
    layers: list[Any] = [
        alt.Chart(alt.NamedData(f"{name}-lines")).mark_rule(strokeCap="butt")
        .encode(x, y, alt.X2("x2:Q"), alt.Y2("y2:Q"), strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None))
    ]  # fmt: skip
    for align, dx in (("right", -4), ("left", 4), ("center", 0)):
        layers.append(
            alt.Chart(alt.NamedData(f"{name}-texts")).mark_text(align=align, dx=dx, baseline="middle")
            .encode(x, y, alt.Text("text:N")).transform_filter(f"datum.align == '{align}'")
        )  # fmt: skip
    specification = alt.layer(*layers).properties(height=height).configure_view(stroke=None).to_dict()
    specification.pop("config", None)
    return specification, {f"{name}-lines": lines, f"{name}-texts": texts}


def cliques(ranks: Ranks) -> list[tuple[int, int]]:
    """(first, last) of the longest runs of neighbouring models that are not told apart; single models are none."""
    count = len(ranks.models)
    if ranks.p >= ALPHA:
        return [(0, count - 1)]
    found: list[tuple[int, int]] = []
    for first in range(count):
        last = first
        while last + 1 < count and ranks.average[last + 1] - ranks.average[first] <= ranks.critical_difference:
            last += 1
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found
