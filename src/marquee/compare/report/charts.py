"""The charts of a comparison as Vega-Lite: one specification for the page and for files, data and colours apart.

Each chart is a function that takes the name of its data and returns a specification. The colours of text and lines, and
the size, come with the page or the file; series differ by shape or dash besides their colour, or are labelled where
they lie.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from marquee.compare.report.names import cost_title
from marquee.plots.figure import DASHES, GREY, PALETTE, SHAPES, colours, cycled, legend_of, specification


def scores(name: str, title: str, rows: Sequence[dict[str, Any]], dots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Horizontal bars from zero, a dot for each repetition, and a line where the best possible score is known.

    `rows`, from the top: label (a newline breaks it), kind (model, baseline, oracle), mean, low and high (of the line
    on a bar, or null), end (where the text stands), text, n. `dots`, the data of `<name>-dots`: label, of, value.
    """
    base = alt.Chart(alt.NamedData(name))
    order = [row["label"] for row in rows]
    lines = max(label.count("\n") + 1 for label in order)
    words = "split(datum.label, '\\n')"
    # Vega centres the first line of a label on its bar; the whole label shall be.
    raised = [{"test": f"length({words}) == {count}", "value": 6 - 6 * count} for count in range(2, lines + 1)]
    axis = {"labelLimit": 0, "ticks": False, "domain": False, "labelExpr": words}
    axis |= {"labelOffset": {"condition": raised, "value": 0}} if raised else {}
    y = alt.Y("label:N", sort=order, title=None, axis=axis)
    x = alt.X("mean:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    colours_of = alt.Scale(domain=["model", "baseline", "oracle"], range=[PALETTE[0], GREY, PALETTE[1]])
    pale = [{"test": "datum.kind == 'baseline'", "value": 0.6}, {"test": "datum.kind == 'oracle'", "value": 0.5}]
    tips = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("mean:Q", format=".4f"),
            alt.Tooltip("low:Q", format=".4f"), alt.Tooltip("high:Q", format=".4f"),
            alt.Tooltip("n:Q")]  # fmt: skip
    ceiling = base.mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=PALETTE[1]).encode(alt.X("mean:Q", title=title))
    bars = base.mark_bar(size=13).encode(
        x, y, alt.Color("kind:N", scale=colours_of, legend=None), tooltip=tips, opacity={"condition": pale, "value": 1}
    )
    layers = [ceiling.transform_filter("datum.kind == 'oracle'"), bars]
    if any(row["low"] is not None for row in rows):
        line = base.mark_rule(strokeWidth=1.2).encode(alt.X("low:Q", title=title), alt.X2("high:Q"), y)
        layers.append(line.transform_filter("isValid(datum.low)"))
    if dots:
        marks = alt.Chart(alt.NamedData(f"{name}-dots")).mark_point(
            filled=True, size=26, opacity=1, color="halo", stroke=GREY, strokeWidth=1
        )
        own = [alt.Tooltip("of:N", title="of"), alt.Tooltip("value:Q", format=".4f")]
        layers.append(marks.encode(alt.X("value:Q", title=title), y, tooltip=own))
    texts = base.encode(alt.X("end:Q", title=title), y, alt.Text("text:N"))
    for stroke in ({"stroke": "halo", "strokeWidth": 3}, {}):  # a number may lie on the line of the best possible
        layers.append(texts.mark_text(align="left", dx=6, **stroke))
    return specification(alt.layer(*layers), height=alt.Step(max(22, 14 * lines + 6)))


def learning_curves(
    name: str, title: str, order: Sequence[str], shown: Sequence[str], last: int, runs: str
) -> dict[str, Any]:
    """Lines of the mean over `runs` (seeds, folds), with bands; rows have label, epoch, mean, low, high, n.

    `order` gives the colours, the same in all figures; `shown` are those of them that this one has.
    """
    base = alt.Chart(alt.NamedData(name))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if last <= 8 * step)
    whole = [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))
    epoch = alt.X("epoch:Q", title="Epoch", axis=alt.Axis(values=whole, format="d", grid=False, labelOverlap=True),
                  scale=alt.Scale(nice=False, zero=False))  # fmt: skip
    value = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(format=".4~g"))
    # All layers ask for one legend, of dashes at full strength; else the band's pale area would be its symbol.
    legend = legend_of(
        order, symbolType="stroke", symbolSize=500, symbolOpacity=1, symbolFillColor="transparent", values=list(shown)
    )
    colour = alt.Color("label:N", title=None, scale=colours(order), legend=legend)
    dash = alt.StrokeDash("label:N", title=None, scale=cycled(order, DASHES), legend=legend)
    tips = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("epoch:Q"),
            alt.Tooltip("mean:Q", format=".4f"), alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"), alt.Tooltip("n:Q", title=runs)]  # fmt: skip
    band = base.mark_area(opacity=0.18).encode(epoch, alt.Y("low:Q", title=title), alt.Y2("high:Q"), colour)
    lines = base.mark_line(strokeWidth=1.8, strokeCap="butt").encode(epoch, value, colour, dash, tooltip=tips)
    return specification(alt.layer(band, lines))


def quality_cost(
    name: str, title: str, cost: str, data: Sequence[dict[str, Any]], references: int, repetitions: str
) -> dict[str, Any]:
    """A point for each configuration over its cost.

    `data` has label, model, mean, low, high, n, the costs and front_<cost>; `references` is how many lines
    `<name>-lines` has;
    `repetitions` (seeds, draws) what a mean is over.
    """
    models = list(dict.fromkeys(entry["model"] for entry in data))
    base = alt.Chart(alt.NamedData(name)).transform_filter(f"isValid(datum.{cost})")
    x = alt.X(f"{cost}:Q", **_cost_axis(cost, [entry[cost] for entry in data if entry[cost] is not None]))
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False, nice=True))
    colour = alt.Color("model:N", title=None, scale=colours(models), legend=legend_of(models))
    shape = alt.Shape("model:N", title=None, scale=cycled(models, SHAPES), legend=legend_of(models))
    tips = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("mean:Q", format=".4f"),
            alt.Tooltip(f"{cost}:Q", title=cost_title(cost), format=",.4~g"),
            alt.Tooltip("n:Q", title=repetitions)]  # fmt: skip
    front = (
        base.mark_line(interpolate="step-after", strokeWidth=1.2, color=GREY)
        .encode(x, y, order=alt.Order(f"{cost}:Q"))
        .transform_filter(f"datum.front_{cost}")
    )
    whiskers = base.mark_rule(strokeWidth=1).encode(x, alt.Y("low:Q", title=title), alt.Y2("high:Q"), colour)
    marks = base.mark_point(filled=True, size=70, opacity=0.9).encode(x, y, colour, shape, tooltip=tips)
    layers = [front, whiskers, marks] if len(data) <= 60 else [front, marks]
    if references:
        lines = alt.Chart(alt.NamedData(f"{name}-lines"))
        layers.insert(0, lines.mark_rule(strokeDash=[4, 3], color=GREY).encode(alt.Y("mean:Q", title=title)))
        for side, align in (("width", "right"), (0, "left")):
            named = lines.encode(alt.Y("mean:Q", title=title), alt.Text("label:N")).transform_filter(
                f"datum.side == '{align}'"
            )
            for stroke in ({"stroke": "halo", "strokeWidth": 3}, {}):  # names may lie on the next line
                layers.append(named.mark_text(align=align, baseline="bottom", dx=3 if side == 0 else 0, dy=-2, x=side,
                                              color=GREY, fontStyle="italic", **stroke))  # fmt: skip
    return specification(alt.layer(*layers))


def _cost_axis(cost: str, values: Sequence[float]) -> dict[str, Any]:
    """Title, scale and axis: logarithmic where the values span more than a decade; zeros then have a place, too."""
    least, most = min(values), max(values)
    positive = [value for value in values if value > 0]
    format_ = ".3~s" if cost == "parameters" else ",.4~r"  # without a precision Vega rounds by the step
    if cost == "best_epoch" or not positive or most / min(positive) < 10 and least > 0:
        scale = alt.Scale(zero=False, nice=True, padding=14)
        axis = alt.Axis(grid=False, format=format_, tickCount=5, labelOverlap=True)
        return {"title": cost_title(cost), "scale": scale, "axis": axis}
    ends = math.floor(math.log10(min(positive))), math.ceil(math.log10(most))
    ticks = [float(f"1e{power}") for power in range(ends[0], ends[1] + 1)]
    if least > 0:
        scale = alt.Scale(type="log", domain=[least / 1.3, most * 1.3], nice=False)
    else:
        scale = alt.Scale(type="symlog", constant=min(positive) / 10, domain=[0, most * 1.5], nice=False, padding=10)
        ticks = [0.0, *ticks]
    words = f"datum.value == 0 ? '0' : format(datum.value, '{format_}')"
    axis = alt.Axis(grid=False, labelExpr=words, values=ticks, labelOverlap=True)
    return {"title": f"{cost_title(cost)}, log scale", "scale": scale, "axis": axis}
