"""The figures of a comparison: what each shows, in words and as rows, before anything is drawn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from marquee.compare.report import charts
from marquee.compare.report.breakdown import group_figures
from marquee.compare.report.charts import Figure, file_name, rounded
from marquee.compare.report.evidence import Evidence, Recorded, to_draw
from marquee.compare.report.hyperparameters import importance_figure, parallel_figure
from marquee.compare.report.names import brief_labels, cost_title, metric_title
from marquee.compare.report.rank_diagram import rank_figure
from marquee.compare.results import COSTS, BlockResult, Comparison, Configuration, MetricResult

MOST_DRAWN = 8  # configurations in a figure that has a colour for each
MOST_POINTS = 100  # of a curve


def figures(comparison: Comparison, evidence: Evidence) -> list[Figure]:
    """Every figure that the runs hold something for, block by block."""
    found = []
    for number, block in enumerate(comparison.blocks, start=1):
        chosen = _briefly(to_draw(block, evidence, MOST_DRAWN))
        left = _left(len(block.configurations), len(chosen))
        made = _curves(evidence, chosen, left)
        for result in block.metrics:
            made += _costs(block, result)
        made += [*parallel_figure(block, evidence), *importance_figure(block, evidence)]
        made += group_figures(block, evidence, chosen, left)
        several = len(comparison.blocks) > 1
        for figure in made:
            prefix = f"block{number}-" if several else ""
            figure.rows = {f"{prefix}{name}": rows for name, rows in figure.rows.items()}
            figure.variants = {name: _renamed(spec, prefix) for name, spec in figure.variants.items()}
            figure.name, figure.block = prefix + figure.name, number
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


def _curves(evidence: Evidence, chosen: Sequence[Configuration], notes: list[str]) -> list[Figure]:
    """Validation metric and training loss by epoch, where any run has more than one."""
    monitor = next((run.monitor for row in chosen for run in evidence.of(row)), "")
    wanted = [
        ("validation-curves", f"validation/{monitor}", f"Validation {metric_title(monitor)}"),
        ("training-loss", "train/loss", "Training loss"),
    ]
    found = []
    for name, column, title in wanted:
        bands = [_band(row, evidence.of(row), column) for row in chosen]
        last = max((band[-1]["epoch"] for band in bands if band), default=1)
        if last == 1:
            continue
        level = name == "validation-curves"  # a closed form has one value, which the others can be held against
        rows = [entry for band in bands for entry in (_level(band, last) if len(band) == 1 and level else band)
                if len(band) > 1 or level]  # fmt: skip
        caption = (
            f"{title} by epoch. Line: mean over seeds; band: the lowest to the highest seed. A seed that stopped early "
            "is in the mean only up to its last epoch. "
            + ("Models that are fitted in one epoch are level lines." if level else "Models of one epoch are left out.")
        )
        order = [row.label for row in chosen]
        shown = [label for label in order if any(entry["label"] == label for entry in rows)]
        spec = charts.learning_curves(name, title, order, shown, last)
        found.append(Figure(name, f"{title} by epoch", caption, {title: spec}, {name: rows}, notes=notes))
    return found


def _band(row: Configuration, runs: Sequence[Recorded], column: str) -> list[dict[str, Any]]:
    """Mean and range over seeds at each epoch, thinned to at most MOST_POINTS."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch, value in run.curve(column):
            values.setdefault(epoch, []).append(value)
    epochs = sorted(values)
    if len(epochs) > MOST_POINTS:
        epochs = sorted({epochs[round(i * (len(epochs) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)})
    return [
        {"label": row.label, "epoch": epoch, "mean": rounded(sum(values[epoch]) / len(values[epoch])),
         "low": rounded(min(values[epoch])), "high": rounded(max(values[epoch])), "seeds": len(values[epoch])}
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
    variants = {cost_title(cost): charts.quality_cost(name, title, cost, data, len(references))
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
