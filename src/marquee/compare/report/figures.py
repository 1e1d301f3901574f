"""The figures of a comparison: what each shows, in words and as rows, before anything is drawn."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from marquee.compare.report import charts
from marquee.compare.report.breakdown import group_figures
from marquee.compare.report.evidence import Evidence, Recorded, to_draw
from marquee.compare.report.hyperparameters import importance_figure, parallel_figure
from marquee.compare.report.names import brief_labels, cost_title, metric_title
from marquee.compare.report.rank_diagram import rank_figure
from marquee.compare.results import COSTS, BlockResult, Comparison, Configuration, MetricResult, Score
from marquee.plots.figure import Figure, file_name, rounded
from marquee.runs.listing import number

MOST_ROWS = 30  # configurations in a figure that has a row for each
MOST_DRAWN = 8  # and in one that has a colour for each
MOST_POINTS = 100  # of a curve


def figures(comparison: Comparison, evidence: Evidence) -> list[Figure]:
    """Every figure that the runs hold something for, block by block."""
    found = []
    for place, block in enumerate(comparison.blocks, start=1):
        chosen = _briefly(to_draw(block, evidence, MOST_DRAWN))
        left = _left(len(block.configurations), len(chosen))
        made = [*_scores(block, evidence), *_curves(block, evidence, chosen, left)]
        for result in block.metrics:
            made += _costs(block, result)
        made += [*parallel_figure(block, evidence), *importance_figure(block, evidence)]
        made += group_figures(block, evidence, chosen, left)
        several = len(comparison.blocks) > 1
        for figure in made:
            prefix = f"block{place}-" if several else ""
            figure.rows = {f"{prefix}{name}": rows for name, rows in figure.rows.items()}
            figure.variants = {name: _renamed(spec, prefix) for name, spec in figure.variants.items()}
            figure.name, figure.block = prefix + figure.name, place
        found += made
    if comparison.ranks is not None:
        found.append(rank_figure(comparison))
    return found


def _renamed(spec: Any, prefix: str) -> Any:
    """The specification with the names of its data prefixed."""
    if isinstance(spec, dict):
        return {
            key: {"name": prefix + value["name"]} if key == "data" and "name" in value else _renamed(value, prefix)
            for key, value in spec.items()
        }
    return [_renamed(value, prefix) for value in spec] if isinstance(spec, list) else spec


def _scores(block: BlockResult, evidence: Evidence) -> list[Figure]:
    """Test scores beside baselines and oracle, a figure for each metric, that which the runs were watched by first."""
    chosen = to_draw(block, evidence, MOST_ROWS)
    names = {row.label: _wrapped(brief.label) for row, brief in zip(chosen, _briefly(chosen), strict=True)}
    monitor = next((run.monitor for row in chosen for run in evidence.of(row)), "")
    found = []
    for result in sorted(block.metrics, key=lambda result: result.metric != monitor):
        ceiling = "best possible" if result.direction else "oracle"
        shown = [score for score in result.scores if score.kind != "model" or score.label in names]
        shown.sort(key=lambda score: score.mean, reverse=result.direction != "min")
        bars = [_bar(ceiling if score.kind == "oracle" else names.get(score.label, score.label), score)
                for score in shown]  # fmt: skip
        several = {score.label for score in shown if len(score.values) > 1}
        dots = [{"label": names[score.label], "of": name, "value": rounded(value)}
                for score in shown if score.label in several
                for name, value in zip(score.repetitions, score.values, strict=True)]  # fmt: skip
        drawn = sum(bar["kind"] == "model" for bar in bars)
        if not drawn:
            continue
        name, title = "scores-" + file_name(result.metric), metric_title(result.metric)
        rows = {name: bars, **({f"{name}-dots": dots} if dots else {})}
        spec = charts.scores(name, f"{title} (dots: {block.repetition}s)" if dots else title, bars, dots)
        found.append(Figure(name, f"Test {title} on {block.title}", _scores_caption(block, result, bars, dots),
                            {title: spec}, rows, notes=_left(len(result.models), drawn)))  # fmt: skip
    return found


def _bar(label: str, score: Score) -> dict[str, Any]:
    """A row of the scores: `low` and `high` only where there is one repetition, since more are drawn as dots."""
    interval = score.interval if score.interval_over == "units" else None
    low, high = map(rounded, interval) if interval else (None, None)
    ends = [score.mean, *(score.values if score.kind == "model" else []), *([] if high is None else [high])]
    return {"label": label, "kind": score.kind, "mean": rounded(score.mean), "low": low, "high": high,
            "end": rounded(max(ends)), "text": number(score.mean), "n": len(score.values)}  # fmt: skip


def _scores_caption(block: BlockResult, result: MetricResult, bars: list[dict], dots: list[dict]) -> str:
    kinds = {bar["kind"] for bar in bars}
    parts = [
        f"Test {metric_title(result.metric)} of each configuration{', the best on top' if result.direction else ''}."
    ]
    if dots:
        parts.append(f"Bar: mean over {block.repetition}s; dot: one {block.repetition}.")
    if any(bar["low"] is not None for bar in bars):
        parts.append(f"Line on a bar: 95 % interval over {block.unit}, where there is one {block.repetition}.")
    if "baseline" in kinds:
        parts.append("Grey: baselines.")
    if "oracle" in kinds:
        what = "the best score that any model could reach, which is known here" if result.direction else "the oracle"
        parts.append(f"Dashed line: {what}.")
    return " ".join(parts)


def _wrapped(label: str) -> str:
    """On as many lines as a label needs beside its bar."""
    return "\n".join(textwrap.wrap(label, 36)) or label


def _curves(block: BlockResult, evidence: Evidence, chosen: Sequence[Configuration], notes: list[str]) -> list[Figure]:
    """Validation metric and training loss by epoch, where any run has more than one."""
    monitor = next((run.monitor for row in chosen for run in evidence.of(row)), "")
    wanted = [
        ("validation-curves", f"validation/{monitor}", f"Validation {metric_title(monitor)}"),
        ("training-loss", "train/loss", "Training loss"),
    ]
    found, one = [], block.one_run
    for name, column, title in wanted:
        bands = [_band(row, evidence.of(row), column) for row in chosen]
        last = max((band[-1]["epoch"] for band in bands if band), default=1)
        if last == 1:
            continue
        level = name == "validation-curves"  # a closed form has one value, which the others can be held against
        rows = [entry for band in bands for entry in (_level(band, last) if len(band) == 1 and level else band)
                if len(band) > 1 or level]  # fmt: skip
        caption = (
            f"{title} by epoch. Line: mean over {one}s; band: the lowest to the highest {one}. A {one} that stopped "
            "early is in the mean only up to its last epoch. "
            + ("Models that are fitted in one epoch are level lines." if level else "Models of one epoch are left out.")
        )
        order = [row.label for row in chosen]
        shown = [label for label in order if any(entry["label"] == label for entry in rows)]
        spec = charts.learning_curves(name, title, order, shown, last, f"{one}s")
        found.append(Figure(name, f"{title} by epoch", caption, {title: spec}, {name: rows}, notes=notes))
    return found


def _band(row: Configuration, runs: Sequence[Recorded], column: str) -> list[dict[str, Any]]:
    """Mean and range over the runs of a row at each epoch, thinned to at most MOST_POINTS."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch, value in run.curve(column):
            values.setdefault(epoch, []).append(value)
    epochs = sorted(values)
    if len(epochs) > MOST_POINTS:
        epochs = sorted({epochs[round(i * (len(epochs) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)})
    return [
        {"label": row.label, "epoch": epoch, "mean": rounded(sum(values[epoch]) / len(values[epoch])),
         "low": rounded(min(values[epoch])), "high": rounded(max(values[epoch])), "n": len(values[epoch])}
        for epoch in epochs
    ]  # fmt: skip


def _level(band: list[dict[str, Any]], last: int) -> list[dict[str, Any]]:
    return [{**band[0], "epoch": 1}, {**band[0], "epoch": last}]


def _costs(block: BlockResult, result: MetricResult) -> list[Figure]:
    """Quality against cost, a choice for each cost that is known."""
    rows = {row.label: row for row in block.configurations}
    data = []
    for score in result.models:
        row = rows[score.label]
        low, high = score.interval or (score.mean, score.mean)
        data.append({"label": row.label, "model": row.model, "mean": rounded(score.mean), "low": rounded(low),
                     "high": rounded(high), "n": len(score.values), **row.costs()})  # fmt: skip
    known = [cost for cost in COSTS if len({entry[cost] for entry in data} - {None}) > (cost != "fit_seconds")]
    sign = -1 if result.direction == "min" else 1
    for cost in known:
        for entry in data:
            entry[f"front_{cost}"] = result.direction is not None and _on_front(entry, data, cost, sign)
    others = sorted((score for score in result.scores if score.kind != "model"), key=lambda score: score.mean)
    # Names on either side in turn: baselines often lie close together.
    references = [{"label": score.label.removeprefix("baseline/"), "mean": rounded(score.mean),
                   "side": ("right", "left")[place % 2]} for place, score in enumerate(others)]  # fmt: skip
    if not known:
        return []
    if "fit_seconds" in known:  # the cost that the table's front is drawn by comes first
        known = ["fit_seconds", *(cost for cost in known if cost != "fit_seconds")]
    name = "quality-cost-" + file_name(result.metric)
    title = metric_title(result.metric)
    variants = {cost_title(cost): charts.quality_cost(name, title, cost, data, len(references), f"{block.repetition}s")
                for cost in known}  # fmt: skip
    caption = (
        f"Test {title} against what it costs, a mark for each configuration, with its 95 % interval. Stepped line: the "
        "front, where no other is both better and cheaper. Dashed: baselines and, where the truth is known, the oracle."
    )
    return [Figure(name, f"{title} against cost", caption, variants, {name: data, f"{name}-lines": references},
                   choice="Cost")]  # fmt: skip


def _on_front(entry: dict[str, Any], others: list[dict[str, Any]], cost: str, sign: int) -> bool:
    if entry[cost] is None:
        return False
    return not any(
        other[cost] is not None and other[cost] <= entry[cost] and sign * (other["mean"] - entry["mean"]) >= 0
        and (other[cost] < entry[cost] or other["mean"] != entry["mean"])
        for other in others
    )  # fmt: skip


def _briefly(rows: Sequence[Configuration]) -> list[Configuration]:
    brief = brief_labels([row.label for row in rows])
    return [replace(row, label=brief[row.label]) for row in rows]


def _left(of_all: int, drawn: int) -> list[str]:
    if drawn == of_all:
        return []
    return [f"{drawn} of {of_all} configurations are drawn: the best of each model on validation, then the next best."]
