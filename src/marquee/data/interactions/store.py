"""The columnar store: who met what, when and how much, as flat arrays sorted by user and time."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from marquee.data.interactions.filters import Duplicates, k_core, without_duplicates
from marquee.data.interactions.ids import canonical, identifiers
from marquee.errors import DataError

if TYPE_CHECKING:
    from marquee.data.interactions.seen import Seen

MOST_IDS = np.iinfo(np.int32).max

COLUMNS = ("users", "items", "timestamps", "values", "labels")


@dataclass(frozen=True)
class Interactions:
    """Columns of equal length n, sorted by user, then time, then the row in the raw file (stable, int64).

    users, items  int32 [n], positions in `user_ids` and `item_ids`
    timestamps    int64 [n], or None
    values        float32 [n], such as ratings, or None
    labels        int8 [n]: 0 train, 1 validation, 2 test where the files define the split, the number of the period
                  where `periods`, else None
    user_ids      [n_users] the original ids, ascending: int64, or object (strings)
    item_ids      [n_items] likewise
    ordered       a user's rows are oldest first, by timestamp or because the file's format says so
    repeats       some user has some item more than once
    periods       the data comes in periods, which `labels` number
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None
    values: np.ndarray | None
    labels: np.ndarray | None
    user_ids: np.ndarray
    item_ids: np.ndarray
    ordered: bool
    repeats: bool
    periods: bool = False

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 [n_users + 1]; the rows of user u are offsets[u]:offsets[u + 1]."""
        counts = np.bincount(self.users, minlength=self.n_users)
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])

    @cached_property
    def seen(self) -> "Seen":
        """Which items each user has here; made once, and not for each epoch that draws negatives."""
        from marquee.data.interactions.seen import Seen  # brings torch, which a table of interactions does not need

        return Seen(self.pairs(), self.n_users, self.n_items)

    def pairs(self) -> np.ndarray:
        """int64 [n]: equal for equal user and item."""
        return self.users.astype(np.int64) * self.n_items + self.items

    def take(self, rows: np.ndarray) -> "Interactions":
        """The same id space with some rows: a mask [n], or ascending positions."""
        columns = {name: column[rows] for name in COLUMNS if (column := getattr(self, name)) is not None}
        return replace(self, **columns)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        min_interactions: int = 0,
        ordered: bool = False,
        periods: bool = False,
    ) -> tuple["Interactions", dict[str, Any]]:
        """The store of a frame with the columns user, item and, where known, value, timestamp and label, and a report
        of what was read, dropped by each rule, and kept.

        The rules apply in this order: duplicates (a changed rating counts as the user left it), `min_rating`, then the
        k-core with k = `min_interactions`. `ordered` says that rows without timestamps are oldest first.
        Raises DataError where nothing is left.
        """
        users, user_ids = _codes(frame["user"])
        items, item_ids = _codes(frame["item"])
        for name, ids in (("user", user_ids), ("item", item_ids)):
            if len(ids) > MOST_IDS:
                raise DataError(
                    f"There are {len(ids):,} different {name}s, and 2^31 - 1 = {MOST_IDS:,} can be told apart. Drop "
                    "rare ones before, or give the file of a part."
                )
        timestamps = frame["timestamp"].to_numpy(np.int64) if "timestamp" in frame else None
        values = frame["value"].to_numpy(np.float32) if "value" in frame else None
        report: dict[str, Any] = {"read": len(frame)}
        rows = np.arange(len(frame))

        keep = without_duplicates(users, items, timestamps, duplicates)
        rows, report["dropped_duplicates"] = rows[keep], int((~keep).sum())
        if min_rating is not None:
            if values is None:
                raise DataError(f"data.min_rating={min_rating}: this data has no ratings. Use data.min_rating=null.")
            keep = values[rows] >= min_rating
            rows, report["dropped_min_rating"] = rows[keep], int((~keep).sum())
        keep = k_core(users[rows], items[rows], min_interactions)
        rows, report["dropped_k_core"] = rows[keep], int((~keep).sum())
        if len(rows) == 0:
            raise DataError(f"No interaction is left of {len(frame):,} after the filters ({report}). Loosen them.")

        users, user_ids = _compact(users[rows], user_ids)
        items, item_ids = _compact(items[rows], item_ids)
        keys = (users,) if timestamps is None else (timestamps[rows], users)
        order = np.lexsort(keys)  # stable: rows that tie keep the raw file's order
        rows = rows[order]
        store = cls(
            users=users[order],
            items=items[order],
            timestamps=None if timestamps is None else timestamps[rows],
            values=None if values is None else values[rows],
            labels=frame["label"].to_numpy(np.int8)[rows] if "label" in frame else None,
            user_ids=user_ids,
            item_ids=item_ids,
            ordered=ordered or timestamps is not None,
            repeats=duplicates == "keep_all" and not without_duplicates(users, items, None, "keep_first").all(),
            periods=periods,
        )
        return store, report | {"users": store.n_users, "items": store.n_items, "interactions": len(store)}


def _codes(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Codes int32 [n] and the ids they stand for, in any order."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(np.int32), column.cat.categories.to_numpy()
    if column.dtype.kind == "i":
        codes, ids = pd.factorize(column.to_numpy())
    else:  # among them unsigned numbers, which may be beyond int64
        codes, texts = pd.factorize(column.astype(str).to_numpy(object))
        same, ids = pd.factorize(canonical(texts))
        codes = same[codes]
    return codes.astype(np.int32), ids


def _compact(codes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Only the ids that occur, ascending, and the codes renumbered to match."""
    present = np.flatnonzero(np.bincount(codes, minlength=len(ids)))
    ids_present = identifiers(ids[present])
    order = np.argsort(ids_present, kind="stable")
    position = np.empty(len(ids), dtype=np.int32)
    position[present[order]] = np.arange(len(present), dtype=np.int32)
    return position[codes], ids_present[order]
