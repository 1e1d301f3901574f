"""Per-unit results (`per_unit.parquet`) of a block, matched by user or example and averaged over seeds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from marquee.compare.groups import Group
from marquee.runs.record import Run

FILE = "per_unit.parquet"
# Most metrics are the mean of the column of their own name.
COLUMNS = {"accuracy": "correct", "log_loss": "loss"}
FORMER_ID = "unit"  # what the column was called before tasks named their unit


@dataclass
class Units:
    """Per-unit results of the groups of a block, over the units that all of them share.

    ids     [units] user or example numbers, ascending
    values  values[metric][index of the group] is float64 [units], averaged over seeds; absent: no results
    notes   what could not be used, and why
    """

    ids: np.ndarray
    values: dict[str, dict[int, np.ndarray]]
    notes: list[str] = field(default_factory=list)


def read_units(groups: Sequence[Group], metrics: Sequence[str]) -> Units:
    """Read the tables of all runs, and keep the units that they share.

    A table whose mean is not the metric that its run's manifest states is not used; the notes say so.
    """
    notes: list[str] = []
    tables: list[tuple[int, np.ndarray, dict[str, np.ndarray]]] = []
    used: dict[int, int] = {}
    folds = _common_folds(groups, notes)
    for index, group in enumerate(groups):
        of_seed: dict[int, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = {}
        for run in group.runs:
            if folds is not None and run.manifest["split"].get("fold") not in folds:
                continue
            try:
                of_seed.setdefault(run.manifest["seed"], []).append(_read(run, metrics))
            except (OSError, ValueError, ImportError) as error:
                notes.append(f"{run.folder.name}: {FILE} is not used: {_first_line(error)}")
        for ids, columns in (pooled(folds) for folds in of_seed.values() if folds):
            if tables and np.array_equal(ids, tables[0][1]):
                ids = tables[0][1]  # one copy of what is the same in all runs
            tables.append((index, ids, columns))
            used[index] = used.get(index, 0) + 1
        if 0 < used.get(index, 0) < len(group.seeds):
            notes.append(f"{group.label}: its tests rest on {used[index]} of {len(group.seeds)} seeds.")
    if not tables:
        return Units(np.zeros(0, dtype=np.int64), {}, notes)
    distinct = list({id(ids): ids for _, ids, _ in tables}.values())
    common = reduce(np.intersect1d, distinct) if len(distinct) > 1 else distinct[0]
    if len(distinct) > 1:
        most = max(map(len, distinct))
        notes.append(
            f"The runs were not tested on the same units: {len(common):,} of up to {most:,} are common to all. The "
            "tests use those; the means are over each run's own."
        )
    sums: dict[str, dict[int, list[np.ndarray]]] = {metric: {} for metric in metrics}
    for index, ids, columns in tables:
        rows = slice(None) if ids is common else np.searchsorted(ids, common)
        for metric, column in columns.items():
            sums[metric].setdefault(index, []).append(column[rows])
    values = {
        metric: {index: np.mean(seeds, axis=0) for index, seeds in of_groups.items()}
        for metric, of_groups in sums.items()
    }
    return Units(common, values, notes)


def _common_folds(groups: Sequence[Group], notes: list[str]) -> set[int] | None:
    """The folds that every group has in every seed, where they are folds: only those can be paired."""
    cells: list[set[int]] = []
    for group in groups:
        for seed in group.seeds:
            own = [run.manifest["split"].get("fold") for run in group.runs if run.manifest["seed"] == seed]
            cells.append({fold for fold in own if fold is not None})
    every, common = set().union(*cells), set.intersection(*cells) if cells else set()
    if not every:
        return None
    if common != every:
        has = ", ".join(map(str, sorted(common))) or "none"
        notes.append(f"Not all rows have all folds. Tests and intervals over units use those that all have: {has}.")
    return common


def pooled(folds: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The tables of the folds of one seed as one: all units, each with its mean over the folds that test it."""
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
        stated = run.manifest["metrics"][f"test/{metric}"]
        if not np.isclose(values.mean(), stated, rtol=1e-6, atol=1e-9):
            raise ValueError(f"its mean {metric} is {values.mean():.6f}, and the manifest says {stated:.6f}")
        columns[metric] = values
    return ids, columns


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
