"""The charts as Vega-Lite: one specification for the page and for the files of a paper, data and colours apart.

Each function takes the name of its data and returns a specification. Colours and sizes come with a theme; series differ
by shape or dash besides their colour, or are labelled where they lie.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from marquee.compare.report.names import brief_setting, cost_title, setting_title

# Okabe & Ito 2008, "Color Universal Design", without black (unseen on dark) and yellow (unseen on white).
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2, 1, 2, 1, 2], [1, 3], [12, 2]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
GREY = "#808080"


def learning_curves(name: str, title: str, order: Sequence[str], shown: Sequence[str], last: int) -> dict[str, Any]:
    """Mean over seeds as lines with bands; rows have label, epoch, mean, low, high, seeds.

    `order` gives the colours, the same in all figures; `shown` are those of them that this one has.
    """
    base = alt.Chart(alt.NamedData(name))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if last <= 8 * step)
    whole = [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))
    epoch = alt.X("epoch:Q", title="Epoch", axis=alt.Axis(values=whole, format="d", grid=False, labelOverlap=True),
                  scale=alt.Scale(nice=False, zero=False))  # fmt: skip
    value = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(format=".4~g"))
    # All layers ask for one legend, of dashes at full strength; else the band's pale area would be its symbol.
    legend = _legend(
        order, symbolType="stroke", symbolSize=500, symbolOpacity=1, symbolFillColor="transparent", values=list(shown)
    )
    colour = alt.Color("label:N", title=None, scale=_colours(order), legend=legend)
    dash = alt.StrokeDash("label:N", title=None, scale=_cycled(order, DASHES), legend=legend)
    tips = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("epoch:Q"),
            alt.Tooltip("mean:Q", format=".4f"), alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"), alt.Tooltip("seeds:Q")]  # fmt: skip
    band = base.mark_area(opacity=0.18).encode(epoch, alt.Y("low:Q", title=title), alt.Y2("high:Q"), colour)
    lines = base.mark_line(strokeWidth=1.8, strokeCap="butt").encode(epoch, value, colour, dash, tooltip=tips)
    return _specification(alt.layer(band, lines))


def quality_cost(name: str, title: str, cost: str, data: Sequence[dict[str, Any]], references: int) -> dict[str, Any]:
    """A point for each configuration; `data` has label, model, mean, low, high, n, the costs, and front_<cost>."""
    models = list(dict.fromkeys(entry["model"] for entry in data))
    base = alt.Chart(alt.NamedData(name)).transform_filter(f"isValid(datum.{cost})")
    x = alt.X(f"{cost}:Q", **_cost_axis(cost, [entry[cost] for entry in data if entry[cost] is not None]))
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False, nice=True))
    colour = alt.Color("model:N", title=None, scale=_colours(models), legend=_legend(models))
    shape = alt.Shape("model:N", title=None, scale=_cycled(models, SHAPES), legend=_legend(models))
    tips = [alt.Tooltip("label:N", title="configuration"), alt.Tooltip("mean:Q", format=".4f"),
            alt.Tooltip(f"{cost}:Q", title=cost_title(cost), format=",.4~g"),
            alt.Tooltip("n:Q", title="seeds")]  # fmt: skip
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
    return _specification(alt.layer(*layers))


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


def parallel_rows(
    lines: Sequence[tuple[Any, float]], keys: Sequence[str], metric: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for the lines (label, axis, position in 0..1, score) and for the marks of each axis (axis, position, text).

    `lines` are (configuration, score). Values of a key lie evenly spaced in their order where there are at most six,
    else numbers lie linearly between the least and the most, or by their logarithms where they span two decades.
    """
    rows, marks = [], []
    scores = [score for _, score in lines]
    axes = [(setting_title(key), [row.differing.get(key) for row, _ in lines], key) for key in keys]
    axes.append((metric, scores, ""))
    for axis, values, key in axes:
        numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        distinct = sorted({_order(value): value for value in values}.items())
        if len(numbers) == len(values) and len(distinct) > 6 or not key:
            log = min(numbers) > 0 and max(numbers) > 100 * min(numbers)
            seen = [math.log10(value) if log else value for value in values]
            low, high = min(seen), max(seen)
            places = [(value - low) / ((high - low) or 1.0) for value in seen]
            middle = (low + high) / 2
            ticks = [
                (step, f"{10**value if log else value:.3g}") for step, value in ((0, low), (0.5, middle), (1, high))
            ]
        else:
            position = {order: place / max(1, len(distinct) - 1) for place, (order, _) in enumerate(distinct)}
            places = [position[_order(value)] for value in values]
            ticks = [(position[order], brief_setting(key, value)) for order, value in distinct]
            ticks = ticks if len(ticks) <= 12 else [ticks[0], ticks[-1]]
        marks += [{"axis": axis, "position": round(place, 4), "text": text} for place, text in ticks]
        rows += [
            {"label": row.label, "axis": axis, "position": round(place, 4), "score": float(f"{score:.6g}")}
            for (row, score), place in zip(lines, places, strict=True)
        ]
    return rows, marks


def _order(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))


def parallel_coordinates(name: str, metric: str) -> dict[str, Any]:
    """Lines through vertical axes; rows as `parallel_rows` gives them."""
    lines, marks = alt.Chart(alt.NamedData(name)), alt.Chart(alt.NamedData(f"{name}-marks"))
    axis = alt.X("axis:N", sort=None, title=None, scale=alt.Scale(type="point", padding=0.35),
                 axis=alt.Axis(domain=False, ticks=False, labelAngle=0, labelLimit=130, orient="top", grid=True,
                               gridOpacity=0.7, labelOverlap=False, labelExpr=_LAST_WORDS))  # fmt: skip
    position = alt.Y("position:Q", title=None, axis=None, scale=alt.Scale(domain=[0, 1], padding=8))
    scheme = alt.SchemeParams(name="viridis", extent=[0, 0.85])  # its last part is too pale for white paper
    colour = alt.Color("score:Q", title=metric, scale=alt.Scale(scheme=scheme),
                       legend=alt.Legend(orient="bottom", gradientLength=160, format=".3~g", tickCount=3))  # fmt: skip
    drawn = lines.mark_line(strokeWidth=1.6, opacity=0.75).encode(
        axis, position, colour, alt.Detail("label:N"),
        tooltip=[alt.Tooltip("label:N", title="configuration"), alt.Tooltip("score:Q", title=metric, format=".4f")],
    )  # fmt: skip
    halo = marks.mark_text(align="left", dx=5, strokeWidth=3, stroke="halo").encode(axis, position, alt.Text("text:N"))
    texts = marks.mark_text(align="left", dx=5).encode(axis, position, alt.Text("text:N"))
    return _specification(alt.layer(drawn, halo, texts))


_LAST_WORDS = "split(datum.label, '.')[length(split(datum.label, '.')) - 1]"


def importance(name: str) -> dict[str, Any]:
    """Bars of eta squared with a tick where chance lies; rows have key, share, chance, levels, n."""
    base = alt.Chart(alt.NamedData(name))
    key = alt.Y("key:N", sort=None, title=None, axis=alt.Axis(labelLimit=180, ticks=False, domain=False))
    share = alt.X("share:Q", title="Share of variance explained (eta squared)",
                  scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))  # fmt: skip
    tips = [alt.Tooltip("key:N"), alt.Tooltip("share:Q", format=".1%"), alt.Tooltip("chance:Q", format=".1%"),
            alt.Tooltip("levels:Q"), alt.Tooltip("n:Q", title="runs")]  # fmt: skip
    bars = base.mark_bar(color=PALETTE[0], size=13).encode(share, key, tooltip=tips)
    chance = base.mark_tick(color=PALETTE[1], thickness=2.5, size=20).encode(alt.X("chance:Q"), key)
    return _specification(alt.layer(bars, chance), height=alt.Step(24))


def grouped_bars(name: str, title: str, groups: Sequence[str], order: Sequence[str]) -> dict[str, Any]:
    """Horizontal bars, a group each, the configurations in one order; rows have group, label, mean, low, high, n."""
    base = alt.Chart(alt.NamedData(name))
    y = alt.Y("group:N", sort=list(groups), title=None, scale=alt.Scale(paddingInner=0.12, paddingOuter=0.06),
              axis=alt.Axis(labelLimit=150, ticks=False, domain=False, labelExpr=_TWO_LINES))  # fmt: skip
    offset = alt.YOffset("label:N", sort=list(order), scale=alt.Scale(domain=list(order), paddingInner=0.08))
    colour = alt.Color("label:N", title=None, scale=_colours(order), legend=None)
    tips = [alt.Tooltip("group:N"), alt.Tooltip("label:N", title="configuration"),
            alt.Tooltip("mean:Q", format=".4f"), alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"), alt.Tooltip("n:Q")]  # fmt: skip
    x = alt.X("mean:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    bars = base.mark_bar().encode(x, y, offset, colour, tooltip=tips)
    whiskers = base.mark_rule(strokeWidth=1.1).encode(alt.X("low:Q", title=title), alt.X2("high:Q"), y, offset)
    # The name stands at the end of its bar: no colour needs to be looked up.
    names = base.mark_text(align="left", dx=4).encode(alt.X("high:Q", title=title), y, offset, alt.Text("label:N"))
    height = len(groups) * (len(order) * 14 + 12)
    return _specification(alt.layer(bars, whiskers, names), height=height)


_TWO_LINES = "[split(datum.label, ' (n=')[0], 'n = ' + replace(split(datum.label, ' (n=')[1], ')', '')]"


def _specification(chart: alt.LayerChart, height: Any = None) -> dict[str, Any]:
    if height is not None:
        chart = chart.properties(height=height)
    content = chart.to_dict(validate=True)
    for key in ("config", "datasets"):
        content.pop(key, None)
    return content


def _colours(order: Sequence[str]) -> alt.Scale:
    return _cycled(order, PALETTE)


def _cycled(order: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(order), range=[values[index % len(values)] for index in range(len(order))])


def _legend(order: Sequence[str], **further: Any) -> alt.Legend:
    longest = max(map(len, order), default=0)
    common = {"orient": "bottom", "columns": 1 if longest > 24 else 2, "labelLimit": 380, "symbolSize": 90,
              "symbolStrokeWidth": 2, "direction": "vertical"}  # fmt: skip
    return alt.Legend(**{**common, **further})
