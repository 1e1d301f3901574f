"""Per-unit results (`per_unit.parquet`) of a block, matched by user or example and averaged over a row's runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from marquee.compare.groups import Group
from marquee.compare.protocol import fold_and_draw
from marquee.runs.record import Run

FILE = "per_unit.parquet"
# Most metrics are the mean of the column of their own name.
COLUMNS = {"accuracy": "correct", "log_loss": "loss"}
FORMER_ID = "unit"  # what the column was called before tasks named their unit


Cell = tuple[int | None, int | None]  # fold, draw of the split


class Table(NamedTuple):
    """The per-unit results of one run."""

    index: int  # of its group
    seed: int
    ids: np.ndarray  # [units], ascending
    columns: dict[str, np.ndarray]  # float64 [units] of each metric


@dataclass
class Units:
    """Per-unit results of the groups of a block, over the units that all of them share.

    ids     [units] user or example numbers, ascending
    values  values[metric][index of the group] is float64 [units], averaged over its runs; absent: no results
    notes   what could not be used, and why
    """

    ids: np.ndarray
    values: dict[str, dict[int, np.ndarray]]
    notes: list[str] = field(default_factory=list)


def read_units(groups: Sequence[Group], metrics: Sequence[str]) -> Units:
    """Read the tables of all runs, and keep the units that they share.

    Pairs are made within a draw of the split and a fold, where every group was tested on the same rows: within each,
    seeds are averaged, and then each unit over the draws and folds that test it. So a unit counts once, however often
    the split was drawn.

    A table whose mean is not the metric that its run's manifest states is not used; the notes say so.
    """
    notes: list[str] = []
    cells: dict[Cell, list[Table]] = {}
    for index, group in enumerate(groups):
        for run in group.runs:
            try:
                ids, columns = _read(run, metrics)
            except (OSError, ValueError, ImportError) as error:
                notes.append(f"{run.folder.name}: {FILE} is not used: {_first_line(error)}")
                continue
            tables = cells.setdefault(fold_and_draw(run.manifest), [])
            if tables and np.array_equal(ids, tables[0].ids):
                ids = tables[0].ids  # one copy of what is the same in all runs
            tables.append(Table(index, run.manifest["seed"], ids, columns))
    shared = _shared(groups, cells, notes)
    used = {index: {table.seed for cell in shared for table in cells[cell] if table.index == index}
            for index in range(len(groups))}  # fmt: skip
    for index, group in enumerate(groups):
        if 0 < len(used[index]) < len(group.seeds):
            notes.append(f"{group.label}: its tests rest on {len(used[index])} of {len(group.seeds)} seeds.")
    parts = [_cell(cells[cell], notes) for cell in shared]
    if not parts:
        return Units(np.zeros(0, dtype=np.int64), {}, notes)
    ids, columns = pooled(parts)
    values: dict[str, dict[int, np.ndarray]] = {metric: {} for metric in metrics}
    for (metric, index), column in sorted(columns.items()):
        values[metric][index] = column
    return Units(ids, values, list(dict.fromkeys(notes)))


def _shared(groups: Sequence[Group], cells: dict[Cell, list[Table]], notes: list[str]) -> list[Cell]:
    """The folds and draws that every group with per-unit results has: only those can be paired."""
    has: dict[int, set[Cell]] = {}
    for group_cell, tables in cells.items():
        for table in tables:
            has.setdefault(table.index, set()).add(group_cell)
    common = set.intersection(*has.values()) if has else set()
    every = {fold_and_draw(run.manifest) for group in groups for run in group.runs}
    if common != every and len(every) > 1:
        what = " and ".join(word for place, word in ((0, "folds"), (1, "draws")) if len({c[place] for c in every}) > 1)
        has_all = ", ".join(_name(cell, every) for cell in _sorted(common)) or "none"
        notes.append(
            f"Not all rows have all {what}. Tests and intervals over units use those that all have: {has_all}."
        )
    return _sorted(common)


def _sorted(cells: Collection[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: tuple(-1 if part is None else part for part in cell))


def _name(cell: Cell, every: Collection[Cell]) -> str:
    """`0` where only folds or only draws vary, else `fold 0 of draw 1`."""
    vary = [place for place in (0, 1) if len({other[place] for other in every}) > 1]
    return str(cell[vary[0]]) if len(vary) == 1 else f"fold {cell[0]} of draw {cell[1]}"


def _cell(tables: Sequence[Table], notes: list[str]) -> tuple[np.ndarray, dict[tuple[str, int], np.ndarray]]:
    """One fold of one draw: the units of all its tables, and the mean over seeds of each (metric, group)."""
    distinct = list({id(table.ids): table.ids for table in tables}.values())
    common = reduce(np.intersect1d, distinct) if len(distinct) > 1 else distinct[0]
    if len(distinct) > 1:
        most = max(map(len, distinct))
        notes.append(
            f"The runs were not tested on the same units: {len(common):,} of up to {most:,} are common to all. The "
            "tests use those; the means are over each run's own."
        )
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for table in tables:
        rows = slice(None) if table.ids is common else np.searchsorted(table.ids, common)
        for metric, column in table.columns.items():
            found.setdefault((metric, table.index), []).append(column[rows])
    return common, {name: np.mean(seeds, axis=0) for name, seeds in found.items()}


def pooled(folds: Sequence[tuple[np.ndarray, dict[Any, np.ndarray]]]) -> tuple[np.ndarray, dict[Any, np.ndarray]]:
    """The tables of folds and draws as one: all units, each with its mean over those that test it."""
    if len(folds) == 1:
        return folds[0]
    ids, place = np.unique(np.concatenate([ids for ids, _ in folds]), return_inverse=True)
    counts = np.bincount(place)
    shared = set.intersection(*(set(columns) for _, columns in folds))
    joined = {name: np.concatenate([columns[name] for _, columns in folds]) for name in folds[0][1] if name in shared}
    return ids, {name: np.bincount(place, column) / counts for name, column in joined.items()}


def id_column(names: Collection[str], unit: str | None) -> str | None:
    """The column of a per-unit table that says which unit a row is of; None where there is none."""
    return next((name for name in (unit, FORMER_ID) if name in names), None)


def _read(run: Run, metrics: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids [units], ascending, and a column [units] for each metric that has one. Raises ValueError on what is amiss."""
    from pyarrow import parquet

    file = run.folder / FILE
    if not file.is_file():
        raise ValueError("it does not exist")
    content = parquet.ParquetFile(file)
    names = set(content.schema_arrow.names)
    named = (run.manifest.get("task") or {}).get("unit")
    unit = id_column(names, named)
    if unit is None:
        raise ValueError(f"it has no column {named or FORMER_ID}")
    wanted = {metric: COLUMNS.get(metric, metric) for metric in metrics}
    wanted = {
        metric: column
        for metric, column in wanted.items()
        if column in names and run.manifest["metrics"].get(f"test/{metric}") is not None
    }
    table = content.read(columns=list(dict.fromkeys([unit, *wanted.values()])), use_threads=False)
    ids = table[unit].to_numpy()
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if len(ids) == 0 or (ids[1:] == ids[:-1]).any():
        raise ValueError("it is empty" if len(ids) == 0 else f"it has two rows of one {unit}")
    columns = {}
    for metric, column in wanted.items():
        values = table[column].to_numpy().astype(np.float64)[order]
        if metric.endswith("]") and np.isnan(values).any():
            continue  # of a group of targets, and some users have none there: they cannot be paired
        stated = run.manifest["metrics"][f"test/{metric}"]
        if not np.isclose(values.mean(), stated, rtol=1e-6, atol=1e-9):
            raise ValueError(f"its mean {metric} is {values.mean():.6f}, and the manifest says {stated:.6f}")
        columns[metric] = values
    return ids, columns


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
