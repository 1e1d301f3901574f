"""What the hyperparameters of a sweep do: the values of each configuration, and how much each key explains.

Importance is eta squared, one-way: the sum of squares between the values of a key divided by the total (Cohen 1988,
"Statistical Power Analysis for the Behavioral Sciences", chapter 8), of the validation metric over runs. It knows no
interactions, and with few runs chance alone gives (levels - 1) / (runs - 1) on average, which is reported beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt
import numpy as np

from marquee.compare.report.evidence import Evidence, Recorded
from marquee.compare.report.names import brief_setting, metric_title, setting_title
from marquee.compare.results import BlockResult
from marquee.config.fingerprint import canonical
from marquee.plots.figure import PALETTE, Figure, rounded, specification

MOST_LINES, MOST_AXES = 200, 10
BINS = 4  # a number with more than twice as many distinct values is cut at its quartiles
LEAST = 4  # runs, below which nothing is said


# Parallel coordinates -------------------------------------------------------------------------------------------------


def parallel_figure(block: BlockResult, evidence: Evidence) -> list[Figure]:
    """Parallel coordinates, a choice for each model of which at least three configurations differ."""
    variants, rows, notes = {}, {}, []
    for model in dict.fromkeys(row.model for row in block.configurations):
        members = [row for row in block.configurations if row.model == model]
        keys = list(dict.fromkeys(key for row in members for key in row.differing))
        scored = [(run, evidence.of(run)) for run in members]
        scored = [(row, runs) for row, runs in scored if any(run.validation is not None for run in runs)]
        if len(scored) < 3 or not keys:
            continue
        lines = []
        for row, runs in scored[:MOST_LINES]:
            known = [run.validation for run in runs if run.validation is not None]
            lines.append((row, sum(known) / len(known)))
        monitor = f"validation {metric_title(scored[0][1][0].monitor)}"
        name = f"parallel-{len(variants) + 1}"
        axes, marks = parallel_rows(lines, keys[:MOST_AXES], metric_title(scored[0][1][0].monitor))
        rows[name], rows[f"{name}-marks"] = axes, marks
        variants[model] = parallel_coordinates(name, monitor)
        if len(lines) < len(scored):
            notes.append(f"{model}: the first {len(lines)} of {len(scored)} configurations are drawn.")
        if len(keys) > MOST_AXES:
            notes.append(f"{model}: the first {MOST_AXES} of {len(keys)} keys that differ are drawn.")
    if not variants:
        return []
    caption = (
        "A line for each configuration, through its values of the keys that differ, to its validation metric (mean "
        "over runs), which also colours it. A key's values lie in their order: evenly spaced where there are at most "
        "six, else from the least to the most, by their logarithms where they span two decades."
    )
    return [Figure("parallel-coordinates", "Hyperparameters that differ", caption, variants, rows, "Model",
                   notes=notes)]  # fmt: skip


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
    return specification(alt.layer(drawn, halo, texts))


_LAST_WORDS = "split(datum.label, '.')[length(split(datum.label, '.')) - 1]"


# Importance -----------------------------------------------------------------------------------------------------------


def importance_figure(block: BlockResult, evidence: Evidence) -> list[Figure]:
    """Bars of `importance`, a choice for all models together and for each of them."""
    variants, rows, notes = {}, {}, []
    models = list(dict.fromkeys(row.model for row in block.configurations))
    families = {model: [row for row in block.configurations if row.model == model] for model in models}
    if len(models) > 1:
        families = {"all models": block.configurations, **families}
    for family, members in families.items():
        keys = ["model", "seed"] if family == "all models" else ["seed"]
        if family != "all models":
            keys += list(dict.fromkeys(key for row in members for key in row.differing))
        found = importance([run for row in members for run in evidence.of(row)], keys)
        if not found or all(entry.key == "seed" for entry in found):
            continue
        name = f"importance-{len(variants) + 1}"
        rows[name] = [
            {**asdict(entry), "share": rounded(entry.share), "chance": rounded(entry.chance),
             "key": setting_title(entry.key) + (f" (cut in {BINS})" if entry.binned else "")}
            for entry in found[:15]
        ]  # fmt: skip
        variants[family] = importance_bars(name)
        notes.append(f"{family}: n = {found[0].n} runs.")
    if not variants:
        return []
    caption = (
        "Eta squared, one-way: the share of the validation metric's variance over runs that the values of a key "
        "explain alone. It knows no interactions, and keys that were varied together share what they explain. Tick: "
        "what chance alone gives on average with so many values and runs. Numbers with many values are cut at their "
        "quartiles; keys with a value of their own for each run are left out."
    )
    return [Figure("importance", "Importance of hyperparameters", caption, variants, rows, "Runs of", notes=notes)]


@dataclass
class Importance:
    """The importance of one key: eta squared in 0..1, and what it would be on average if the key did nothing."""

    key: str
    share: float
    chance: float
    levels: int
    binned: bool
    n: int  # runs


def importance(runs: Sequence[Recorded], keys: Sequence[str]) -> list[Importance]:
    """The keys that vary among the runs that have a validation metric, the most important first."""
    known = [run for run in runs if run.validation is not None]
    values = np.array([run.validation for run in known], dtype=np.float64)
    if len(known) < LEAST or np.ptp(values) == 0:
        return []
    settings = [{**run.settings(), "seed": run.manifest.get("seed"), "model": run.manifest.get("model")}
                for run in known]  # fmt: skip
    found = []
    for key in dict.fromkeys(keys):
        levels, binned = _levels([entry.get(key) for entry in settings])
        count = len(set(levels))
        if 1 < count < len(known):  # a value of its own for every run explains all and says nothing
            share = eta_squared(values, levels)
            found.append(Importance(key, share, (count - 1) / (len(known) - 1), count, binned, len(known)))
    return sorted(found, key=lambda entry: (-entry.share, entry.key))


def eta_squared(values: np.ndarray, levels: Sequence[Any]) -> float:
    """The sum of squares between levels / the total sum of squares, of `values` [n], which must vary."""
    mean = values.mean()
    names = np.array([str(level) for level in levels])
    between = sum(
        (names == name).sum() * (values[names == name].mean() - mean) ** 2 for name in dict.fromkeys(names.tolist())
    )
    return float(between / ((values - mean) ** 2).sum())


def _levels(content: Sequence[Any]) -> tuple[list[str], bool]:
    distinct = {canonical(value) for value in content}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in content)
    if numbers and len(distinct) > 2 * BINS:
        edges = np.quantile(np.array(content, dtype=np.float64), np.linspace(0, 1, BINS + 1)[1:-1])
        return [str(place) for place in np.searchsorted(edges, content, side="right")], True
    return [canonical(value) for value in content], False


def importance_bars(name: str) -> dict[str, Any]:
    """Bars of eta squared with a tick where chance lies; rows have key, share, chance, levels, n."""
    base = alt.Chart(alt.NamedData(name))
    key = alt.Y("key:N", sort=None, title=None, axis=alt.Axis(labelLimit=180, ticks=False, domain=False))
    share = alt.X("share:Q", title="Share of variance explained (eta squared)",
                  scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))  # fmt: skip
    tips = [alt.Tooltip("key:N"), alt.Tooltip("share:Q", format=".1%"), alt.Tooltip("chance:Q", format=".1%"),
            alt.Tooltip("levels:Q"), alt.Tooltip("n:Q", title="runs")]  # fmt: skip
    bars = base.mark_bar(color=PALETTE[0], size=13).encode(share, key, tooltip=tips)
    chance = base.mark_tick(color=PALETTE[1], thickness=2.5, size=20).encode(alt.X("chance:Q"), key)
    return specification(alt.layer(bars, chance), height=alt.Step(24))
