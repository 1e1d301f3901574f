"""New interactions for a finished run: read, checked against what the run knows, and never of its test part."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from marquee.data.interactions.columns import read_interactions, read_table
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.filters import k_core
from marquee.data.interactions.ids import canonical, identifiers
from marquee.data.interactions.splits import TEST, VALIDATION, among
from marquee.errors import DataError

NAMES = {
    "user": ("user", "user_id", "userId"),
    "item": ("item", "item_id", "itemId", "movieId"),
    "timestamp": ("timestamp", "time"),
    "value": ("value", "rating"),
}
RATINGS = 20  # so many different values, and not more, are a scale whose ends are known
SHOWN = 3  # rows that a message names


@dataclass(frozen=True)
class Events:
    """New interactions with the original ids, in the file's order.

    rows    DataFrame: user, item and, where the run's data has them, timestamp and value
    report  counts of what was read and left out, and why
    """

    rows: pd.DataFrame
    report: dict[str, Any] = field(default_factory=dict)


def read_events(path: Path, data: InteractionData) -> Events:
    """The events of a .csv, .tsv (also .gz), .jsonl or .parquet file with a header, as the data's own preparation has
    them: its `min_rating` and its rule for duplicates (within the file) are applied, and counted.

    Raises DataError for a file that cannot be read, a missing column, an id of another kind than the data's, a value or
    a time that cannot be one, and for rows of the validation or test part, which would be a leak.
    """
    frame = _read(path, data)
    rows = pd.DataFrame(
        {name: _ids(path, frame[name], name, getattr(data.store, f"{name}_ids")) for name in ("user", "item")}
    )
    report: dict[str, Any] = {"read": len(rows)}
    for name in ("timestamp", "value"):
        if name in frame:
            rows[name] = frame[name].to_numpy()
    _refuse_odd(path, rows, data)
    _refuse_leak(path, rows, data)
    if "timestamp" in rows:
        late = rows["timestamp"].diff().fillna(0) < 0
        report["out_of_order"] = int(late.sum())
        rows = rows.iloc[np.argsort(rows["timestamp"].to_numpy(), kind="stable")]
    if data.duplicates != "keep_all":
        twice = rows.duplicated(["user", "item"], keep=data.duplicates.removeprefix("keep_"))
        rows, report["duplicates"] = rows[~twice], int(twice.sum())
    if data.min_rating is not None:  # a changed rating counts as the user left it: it takes the former one's place
        low = (rows["value"] < data.min_rating).to_numpy()
        changes = low & among(_pairs(rows, data), data.store.pairs()) & (data.duplicates == "keep_last")
        rows, report["below_min_rating"] = rows[~low | changes], int(low.sum())
    rows, report["below_k_core"] = _k_core(rows, data)
    if rows.empty:
        raise DataError(f"{path}: no event is left of {report['read']:,} after the run's own preparation ({report}).")
    return Events(rows.reset_index(drop=True), report)


def _read(path: Path, data: InteractionData) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"--events {path} does not exist. It takes a .csv, .tsv, .jsonl or .parquet file.")
    source = path
    try:
        if path.suffix in (".parquet", ".pq"):
            seen = pa.parquet.read_schema(path).names
        elif path.suffix == ".jsonl":
            table = pa.json.read_json(path)
            seen = table.column_names
        elif path.suffixes[-1:] == [".gz"] or path.suffix in (".csv", ".tsv"):
            seen = list(read_table(path, None, None).columns)
        else:
            raise DataError(f"--events {path}: unknown ending {path.suffix!r}; read are .csv, .tsv, .jsonl, .parquet.")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    wanted = ["user", "item"]
    wanted += ["timestamp"] if data.store.timestamps is not None else []
    wanted += ["value"] if data.store.values is not None else []
    found = {name: next((alias for alias in NAMES[name] if alias in seen), None) for name in wanted}
    if missing := [name for name, column in found.items() if column is None]:
        why = {"timestamp": ", because the run's data has times", "value": ", because the run's data has ratings"}
        raise DataError(
            f"{path} has no column {missing[0]}{why.get(missing[0], '')}. Columns seen: {', '.join(map(str, seen))}; "
            f"wanted: {', '.join(wanted)}."
        )
    if path.suffix == ".jsonl":
        frame = pd.DataFrame({name: table.column(column).to_pylist() for name, column in found.items()})
        if (blank := frame.isna().any(axis=1)).any():
            raise DataError(f"{path}, line {int(blank.to_numpy().argmax()) + 1}: a value is missing.")
        dates = "timestamp" in frame and frame["timestamp"].dtype.kind == "M"
        try:
            frame = frame.astype({name: "float64" for name in ("timestamp", "value")
                                  if name in frame and not (dates and name == "timestamp")
                                  and frame[name].dtype.kind != "i"})  # fmt: skip
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {error}. Timestamps are whole numbers, values numbers.") from error
        if "timestamp" in frame and not dates:
            if (parts := frame["timestamp"] % 1 != 0).any():
                row = int(parts.to_numpy().argmax())
                raise DataError(
                    f"{path}, line {row + 1}: the timestamp is {frame['timestamp'][row]}. Timestamps are whole numbers "
                    "or ISO 8601 dates; fractions would lose their order."
                )
            frame["timestamp"] = frame["timestamp"].astype("int64")
    else:
        frame = read_interactions(source, found)
    if "timestamp" in frame and frame["timestamp"].dtype.kind == "M":
        unit = _unit(int(data.store.timestamps.max()))
        frame["timestamp"] = frame["timestamp"].astype(f"datetime64[{unit}]").astype("int64")
    return frame


def _unit(last: int) -> str:
    """Of times as numbers, the last of which is this: that of dates from 1973 to 5138."""
    return next((unit for unit, limit in (("s", 10**11), ("ms", 10**14), ("us", 10**17)) if last < limit), "ns")


def _ids(path: Path, column: pd.Series, name: str, known: np.ndarray) -> np.ndarray:
    """Ids of the kind that the data has: whole numbers, or text."""
    ids = canonical(column.astype(str).tolist())
    if known.dtype.kind != "i":
        return ids
    numbers = identifiers(ids)
    if numbers.dtype.kind != "i":
        whole = [value for value in ids if identifiers(np.array([value], dtype=object)).dtype.kind != "i"]
        raise DataError(
            f"{path}: {name} {whole[0]!r} is no whole number, and all {name}s of this run are ({known[0]}, ...)."
        )
    return numbers


def _refuse_odd(path: Path, rows: pd.DataFrame, data: InteractionData) -> None:
    if "value" in rows:
        values, own = rows["value"].to_numpy(float), data.store.values
        scale = np.unique(own)
        low, high = float(scale[0]), float(scale[-1])
        if len(scale) > RATINGS:  # counts have no largest
            low, high = min(low, 0.0), np.inf
        if data.min_rating is not None:  # the lower ones are not there to be seen
            low = -np.inf
        wrong = ~((values >= low) & (values <= high) & np.isfinite(values))
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{path}, event {row + 1}: the value {values[row]:g} is out of range; those of this run go from "
                f"{float(scale[0]):g} to {float(scale[-1]):g}. In all {int(wrong.sum())} of {len(rows):,} are."
            )
    if "timestamp" in rows:
        times, own = rows["timestamp"].to_numpy(np.int64), data.store.timestamps
        first, last = int(own.min()), int(own.max())
        wrong = (times < (first // 20 if first > 0 else 20 * first)) | (times > 20 * max(last, 1))
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{path}, event {row + 1}: the time {times[row]} is of another unit than the run's, which go from "
                f"{first} to {last}. Are one of these milliseconds?"
            )


def _refuse_leak(path: Path, rows: pd.DataFrame, data: InteractionData) -> None:
    """Events that the run is judged by: training on them would make its metrics worthless."""
    store, held = data.store, np.isin(data._assigned, (VALIDATION, TEST))
    own = _pairs(rows, data)
    pairs = store.pairs()[held]
    leak = among(own, pairs)
    if data.duplicates == "keep_all" and "timestamp" in rows:  # who repeats an item at another time meets it anew
        times = pd.MultiIndex.from_arrays([pairs, store.timestamps[held]])
        leak &= pd.MultiIndex.from_arrays([own, rows["timestamp"].to_numpy()]).isin(times)
    if leak.any():
        first = rows[leak].head(SHOWN)
        named = "; ".join(f"user {user}, item {item}" for user, item in zip(first["user"], first["item"], strict=True))
        raise DataError(
            f"{path}: {int(leak.sum()):,} of {len(rows):,} events stand in the run's validation or test part ({named}"
            f"{', ...' if leak.sum() > SHOWN else ''}). To train on them would leak what the run is judged by. Take "
            "them out of the file."
        )


def _k_core(rows: pd.DataFrame, data: InteractionData) -> tuple[pd.DataFrame, int]:
    """The events that the run's k-core keeps; what the run has already stays in any case."""
    if data.k_core <= 1:
        return rows, 0
    store = data.store
    users, items = (pd.factorize(np.concatenate([getattr(store, f"{name}_ids")[getattr(store, f"{name}s")].astype(str),
                                                 rows[name].astype(str).to_numpy()]))[0]
                    for name in ("user", "item"))  # fmt: skip
    keep = k_core(users, items, data.k_core)[len(store) :]
    return rows[keep], int((~keep).sum())


def _pairs(rows: pd.DataFrame, data: InteractionData) -> np.ndarray:
    """The user and item of each event as `Interactions.pairs` numbers them, int64 [n]; -1 where one is not known."""
    store = data.store
    users, items = _places(rows["user"], store.user_ids), _places(rows["item"], store.item_ids)
    return np.where((users >= 0) & (items >= 0), users * store.n_items + items, -1)


def _places(ids: pd.Series, known: np.ndarray) -> np.ndarray:
    """Positions of ids, int64 [n]; -1 for those that are not known."""
    return pd.Index(known).get_indexer(ids)
