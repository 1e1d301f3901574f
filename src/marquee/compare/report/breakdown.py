"""Scores by group of users, items or classes, from the per-unit tables of the runs: what is known, and its figure.

What can truly be computed: classification tables name each example's class; recommendation tables name the user, whose
interactions lie in the run's `inference/` folder. A leave-one-out target is the last of them, so there the popularity
of the held-out item is known, too; other splits do not record which interactions were held out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from marquee.compare.report.evidence import Evidence, Recorded
from marquee.compare.report.names import metric_title
from marquee.compare.results import BlockResult, Configuration
from marquee.compare.units import COLUMNS, FILE, id_column, pooled
from marquee.metrics.groups import quartiles
from marquee.plots.figure import Figure, colours, file_name, rounded, specification

MOST_CLASSES = 12


@dataclass
class Bar:
    """The mean of one configuration over the units of one group, each averaged over runs.

    `low` and `high` are the 95 % interval by the normal distribution, `n` is the number of units.
    """

    group: str
    label: str
    model: str
    mean: float
    low: float
    high: float
    n: int


@dataclass
class Breakdown:
    """One way of grouping the units of a block."""

    title: str
    explained: str
    bars: list[Bar]


def breakdowns(block: BlockResult, evidence: Evidence, rows: Sequence[Configuration], metric: str) -> list[Breakdown]:
    """Means of `metric` by each grouping that the runs recorded; empty where the tables do not hold the metric."""
    tables = {row.label: (row, table) for row in rows if (table := _averaged(evidence.of(row), metric)) is not None}
    if not tables:
        return []
    runs = [run for row in rows for run in evidence.of(row)]
    ids = np.unique(np.concatenate([own for _, (own, _) in tables.values()]))  # a fold alone has not all
    groupings = [*_of_examples(runs, ids), *_of_users(runs[0], ids)]  # by what the runs have recorded
    found = []
    for title, explained, names, of_unit in groupings:
        bars = []
        for place, name in enumerate(names):
            group = f"{name} (n={int((of_unit == place).sum()):,})"
            for label, (row, (own, values)) in tables.items():
                at = np.searchsorted(ids, own)
                inside = (at < len(ids)) & (ids[np.minimum(at, len(ids) - 1)] == own)
                chosen = values[inside][of_unit[at[inside]] == place]
                if len(chosen):
                    mean, half = float(chosen.mean()), _half(chosen)
                    bars.append(Bar(group, label, row.model, mean, mean - half, mean + half, len(chosen)))
        found.append(Breakdown(title, explained, bars))
    return found


def _averaged(runs: Sequence[Recorded], metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids, ascending, and the metric of each, averaged over the runs that tested it."""
    column = COLUMNS.get(metric, metric)
    tables = [table for run in runs if (table := _read(run.source / FILE, column, _unit(run))) is not None]
    if not tables:
        return None
    ids, columns = pooled([(ids, {metric: values}) for ids, values in tables])
    return ids, columns[metric]


def _unit(run: Recorded) -> str | None:
    return (run.manifest.get("task") or {}).get("unit")


def _read(file: Path, column: str, named: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    from pyarrow import parquet

    try:
        names = parquet.read_schema(file).names
        unit = id_column(names, named)
        if unit is None or column not in names:
            return None
        table = parquet.read_table(file, columns=[unit, column], use_threads=False)
    except (OSError, ValueError):  # pyarrow's own errors are ValueErrors
        return None
    ids, values = table[unit].to_numpy(), table[column].to_numpy()
    if values.dtype.kind not in "fiub":
        return None
    order = np.argsort(ids, kind="stable")
    return ids[order], values[order].astype(np.float64)


def _half(values: np.ndarray) -> float:
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _of_examples(runs: Sequence[Recorded], ids: np.ndarray) -> list[tuple[str, str, list[str], np.ndarray]]:
    """By the class that an example belongs to; labels that were joined (multi-label) are too many to draw."""
    import pandas as pd

    targets = pd.Series(np.nan, index=ids, dtype=object)
    for run in runs:  # each fold tests examples of its own
        if targets.notna().all() or (own := _targets(run)) is None:
            break
        targets = targets.combine_first(own.reindex(ids))
    names = sorted(targets.dropna().unique())
    if not 2 <= len(names) <= MOST_CLASSES:
        return []
    places = targets.map({name: place for place, name in enumerate(names)}).fillna(-1).to_numpy().astype(int)
    return [("By class", "Examples by their true class.", names, places)]


def _targets(run: Recorded) -> Any:
    """The class of each example that a run has tested, a pandas Series; None where it has recorded none."""
    from pyarrow import parquet

    try:
        unit = id_column(parquet.read_schema(run.source / FILE).names, _unit(run))
        table = parquet.read_table(run.source / FILE, columns=[unit, "target"], use_threads=False).to_pandas()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return table.set_index(unit)["target"].astype(str)


def _of_users(run: Recorded, ids: np.ndarray) -> list[tuple[str, str, list[str], np.ndarray]]:
    history = _histories(run.source / "inference" / "histories.safetensors")
    if history is None or not len(ids) or ids.max() >= len(history[0]) - 1:
        return []
    offsets, items = history
    found = []
    lengths = np.diff(offsets)[ids]
    names, places = quartiles(lengths, "interactions")
    if len(names) > 1:
        found.append((
            "By activity of the user", "Users in quarters by the number of their interactions, all parts together.",
            names, places,
        ))  # fmt: skip
    target = str((run.manifest.get("config") or {}).get("split", {}).get("_target_", ""))
    if target.endswith(".LeaveOneOut") and (lengths > 0).all():
        popularity = np.bincount(items)[items[offsets[1:][ids] - 1]]
        names, places = quartiles(popularity, "interactions")
        if len(names) > 1:
            found.append((
                "By popularity of the held-out item",
                "Users in quarters by how many interactions the item has that was held out for them "
                "(leave-one-out: their last), all parts together.", names, places,
            ))  # fmt: skip
    return found


def _histories(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content = load_file(file)
        return content["offsets"], content["items"]
    except (OSError, KeyError, SafetensorError):
        return None


# The figure -----------------------------------------------------------------------------------------------------------


def group_figures(
    block: BlockResult, evidence: Evidence, chosen: Sequence[Configuration], notes: list[str]
) -> list[Figure]:
    """A figure of the first metric for each way of grouping; `notes` say which configurations are drawn."""
    found = []
    for result in block.metrics[:1]:
        title = metric_title(result.metric)
        for part in breakdowns(block, evidence, chosen, result.metric):
            name = file_name(f"{result.metric}-{part.title}")
            order = [row.label for row in chosen if any(bar.label == row.label for bar in part.bars)]
            groups = list(dict.fromkeys(bar.group for bar in part.bars))
            rows = [{**asdict(bar), **{key: rounded(getattr(bar, key)) for key in ("mean", "low", "high")}}
                    for bar in part.bars]  # fmt: skip
            caption = (
                f"Test {title}. {part.explained} Bars: mean over {block.unit}, each averaged over runs; whiskers: "
                "95 % interval (normal). Not corrected for the number of comparisons."
            )
            spec = grouped_bars(name, title, groups, order)
            found.append(Figure(name, f"{title} {part.title[0].lower()}{part.title[1:]}", caption, {title: spec},
                                {name: rows}, notes=notes))  # fmt: skip
    return found


def grouped_bars(name: str, title: str, groups: Sequence[str], order: Sequence[str]) -> dict[str, Any]:
    """Horizontal bars, a group each, the configurations in one order; rows have group, label, mean, low, high, n."""
    base = alt.Chart(alt.NamedData(name))
    y = alt.Y("group:N", sort=list(groups), title=None, scale=alt.Scale(paddingInner=0.12, paddingOuter=0.06),
              axis=alt.Axis(labelLimit=150, ticks=False, domain=False, labelExpr=_TWO_LINES))  # fmt: skip
    offset = alt.YOffset("label:N", sort=list(order), scale=alt.Scale(domain=list(order), paddingInner=0.08))
    colour = alt.Color("label:N", title=None, scale=colours(order), legend=None)
    tips = [alt.Tooltip("group:N"), alt.Tooltip("label:N", title="configuration"),
            alt.Tooltip("mean:Q", format=".4f"), alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"), alt.Tooltip("n:Q")]  # fmt: skip
    x = alt.X("mean:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    bars = base.mark_bar().encode(x, y, offset, colour, tooltip=tips)
    whiskers = base.mark_rule(strokeWidth=1.1).encode(alt.X("low:Q", title=title), alt.X2("high:Q"), y, offset)
    # The name stands at the end of its bar: no colour needs to be looked up.
    names = base.mark_text(align="left", dx=4).encode(alt.X("high:Q", title=title), y, offset, alt.Text("label:N"))
    height = len(groups) * (len(order) * 14 + 12)
    return specification(alt.layer(bars, whiskers, names), height=height)


_TWO_LINES = "[split(datum.label, ' (n=')[0], 'n = ' + replace(split(datum.label, ' (n=')[1], ')', '')]"
