"""The figures of a comparison: what each shows, in words and as rows, before anything is drawn."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from marquee.compare.report import charts
from marquee.compare.report.breakdown import breakdowns
from marquee.compare.report.evidence import Evidence, Recorded, to_draw
from marquee.compare.report.importance import BINS, importance
from marquee.compare.report.names import brief_labels, cost_title, metric_title, setting_title
from marquee.compare.report.rank_diagram import rank_diagram
from marquee.compare.results import COSTS, BlockResult, Comparison, Configuration, MetricResult

MOST_CURVES, MOST_POINTS, MOST_BARS, MOST_LINES, MOST_AXES = 8, 100, 8, 200, 10


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

    def rows_of(self, specification: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Only the data that a variant names."""
        return {name: rows for name, rows in self.rows.items() if name in _data_names(specification)}


def file_name(text: str) -> str:
    """`ndcg@10 By class` is ndcg-10-by-class."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def figures(comparison: Comparison, evidence: Evidence) -> list[Figure]:
    """Every figure that the runs hold something for, block by block."""
    found = []
    for number, block in enumerate(comparison.blocks, start=1):
        made = [*_curves(block, evidence)]
        for result in block.metrics:
            made += _costs(block, result)
        made += [*_parallel(block, evidence), *_importance(block, evidence), *_groups(block, evidence)]
        several = len(comparison.blocks) > 1
        for figure in made:
            prefix = f"block{number}-" if several else ""
            figure.rows = {f"{prefix}{name}": rows for name, rows in figure.rows.items()}
            figure.variants = {name: _renamed(spec, prefix) for name, spec in figure.variants.items()}
            figure.name, figure.block = prefix + figure.name, number
        found += made
    if comparison.ranks is not None:
        found.append(_ranks(comparison))
    return found


def _renamed(spec: Any, prefix: str) -> Any:
    """The specification with the names of its data prefixed."""
    if isinstance(spec, dict):
        return {
            key: {"name": prefix + value["name"]} if key == "data" and "name" in value else _renamed(value, prefix)
            for key, value in spec.items()
        }
    return [_renamed(value, prefix) for value in spec] if isinstance(spec, list) else spec


def _curves(block: BlockResult, evidence: Evidence) -> list[Figure]:
    chosen = _briefly(to_draw(block, evidence, MOST_CURVES))
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
        found.append(Figure(name, f"{title} by epoch", caption, {title: spec}, {name: rows},
                            notes=_left(len(block.configurations), len(chosen))))  # fmt: skip
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
        {"label": row.label, "epoch": epoch, "mean": _round(sum(values[epoch]) / len(values[epoch])),
         "low": _round(min(values[epoch])), "high": _round(max(values[epoch])), "seeds": len(values[epoch])}
        for epoch in epochs
    ]  # fmt: skip


def _level(band: list[dict[str, Any]], last: int) -> list[dict[str, Any]]:
    return [{**band[0], "epoch": 1}, {**band[0], "epoch": last}]


def _costs(block: BlockResult, result: MetricResult) -> list[Figure]:
    rows = {row.label: row for row in block.configurations}
    data = []
    for score in result.models:
        row = rows[score.label]
        low, high = score.interval or (score.mean, score.mean)
        data.append({"label": row.label, "model": row.model, "mean": _round(score.mean), "low": _round(low),
                     "high": _round(high), "n": len(score.values), **row.costs()})  # fmt: skip
    known = [cost for cost in COSTS if len({entry[cost] for entry in data} - {None}) > (cost != "fit_seconds")]
    sign = -1 if result.direction == "min" else 1
    for cost in known:
        for entry in data:
            entry[f"front_{cost}"] = result.direction is not None and _on_front(entry, data, cost, sign)
    others = sorted((score for score in result.scores if score.kind != "model"), key=lambda score: score.mean)
    # Names on either side in turn: baselines often lie close together.
    references = [{"label": score.label.removeprefix("baseline/"), "mean": _round(score.mean),
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


def _parallel(block: BlockResult, evidence: Evidence) -> list[Figure]:
    """A choice for each model of which at least three configurations differ."""
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
        axes, marks = charts.parallel_rows(lines, keys[:MOST_AXES], metric_title(scored[0][1][0].monitor))
        rows[name], rows[f"{name}-marks"] = axes, marks
        variants[model] = charts.parallel_coordinates(name, monitor)
        if len(lines) < len(scored):
            notes.append(f"{model}: the first {len(lines)} of {len(scored)} configurations are drawn.")
        if len(keys) > MOST_AXES:
            notes.append(f"{model}: the first {MOST_AXES} of {len(keys)} keys that differ are drawn.")
    if not variants:
        return []
    caption = (
        "A line for each configuration, through its values of the keys that differ, to its validation metric (mean "
        "over seeds), which also colours it. A key's values lie in their order: evenly spaced where there are at most "
        "six, else from the least to the most, by their logarithms where they span two decades."
    )
    return [Figure("parallel-coordinates", "Hyperparameters that differ", caption, variants, rows, "Model",
                   notes=notes)]  # fmt: skip


def _importance(block: BlockResult, evidence: Evidence) -> list[Figure]:
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
            {**asdict(entry), "share": _round(entry.share), "chance": _round(entry.chance),
             "key": setting_title(entry.key) + (f" (cut in {BINS})" if entry.binned else "")}
            for entry in found[:15]
        ]  # fmt: skip
        variants[family] = charts.importance(name)
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


def _groups(block: BlockResult, evidence: Evidence) -> list[Figure]:
    chosen = _briefly(to_draw(block, evidence, MOST_BARS))
    found = []
    for result in block.metrics[:1]:
        title = metric_title(result.metric)
        for part in breakdowns(block, evidence, chosen, result.metric):
            name = file_name(f"{result.metric}-{part.title}")
            order = [row.label for row in chosen if any(bar.label == row.label for bar in part.bars)]
            groups = list(dict.fromkeys(bar.group for bar in part.bars))
            rows = [{**asdict(bar), **{key: _round(getattr(bar, key)) for key in ("mean", "low", "high")}}
                    for bar in part.bars]  # fmt: skip
            caption = (
                f"Test {title}. {part.explained} Bars: mean over {block.unit}, each averaged over seeds; whiskers: "
                "95 % interval (normal). Not corrected for the number of comparisons."
            )
            spec = charts.grouped_bars(name, title, groups, order)
            found.append(Figure(name, f"{title} {part.title[0].lower()}{part.title[1:]}", caption, {title: spec},
                                {name: rows}, notes=_left(len(block.configurations), len(chosen))))  # fmt: skip
    return found


def _ranks(comparison: Comparison) -> Figure:
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


def _briefly(rows: Sequence[Configuration]) -> list[Configuration]:
    brief = brief_labels([row.label for row in rows])
    return [replace(row, label=brief[row.label]) for row in rows]


def _left(of_all: int, drawn: int) -> list[str]:
    if drawn == of_all:
        return []
    return [f"{drawn} of {of_all} configurations are drawn: the best of each model on validation, then the next best."]


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _data_names(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["data"]["name"]} if isinstance(node.get("data"), dict) and "name" in node["data"] else set()
        return own.union(*map(_data_names, node.values()))
    return set().union(*map(_data_names, node)) if isinstance(node, list) else set()
