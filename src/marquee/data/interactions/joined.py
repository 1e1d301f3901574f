"""What models may read of items and users: columns of their own table and of other sources, joined by id."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from marquee.data.dataset import Paths
from marquee.data.interactions.content import Content, FeatureSources, Side, Source, read_source
from marquee.data.interactions.features import FeatureKind, Features
from marquee.data.interactions.store import Interactions
from marquee.errors import ConfigError, DataError
from marquee.seeding import numpy_generator

log = logging.getLogger(__name__)

KnockOut = Literal["shuffled", "constant"]
OTHER: dict[Side, Side] = {"item": "user", "user": "item"}


class Host(NamedTuple):
    """The data that others' columns are joined to.

    held  the pairs of user and item that validate or are tested, as `Interactions.pairs` has them
    """

    name: str
    fingerprint: str
    split_fingerprint: str
    store: Interactions
    held: np.ndarray
    paths: Paths


@dataclass(frozen=True)
class Joined:
    """One side of the data.

    features  how its columns are encoded
    table     what they are encoded from, a row an id of the store
    readers   by column, the `inference/` folder of the run that made it
    report    of each source, how many ids it says nothing of, and how many of its rows were not used
    remarks   on sources that say nothing of most ids, or mostly of others: they may be of another catalogue
    """

    features: Features
    table: pd.DataFrame
    readers: Mapping[str, Path]
    report: Mapping[str, Any]
    remarks: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        host: Host,
        side: Side,
        table: pd.DataFrame,
        wanted: FeatureSources | None,
        published: Mapping[str, Content],
    ) -> "Joined":
        """The columns `wanted` of `table`, which has a row an id of the store, and of the sources that are named.

        What others say of an item (reviews) counts on average. Where such a row belongs to a pair of user and item
        that validates or is tested it is left out: that it was written at all would tell.

        Raises ConfigError and DataError as `read_source` does, for two columns of one name, for a source of which no
        id is known here, and for vectors that were fitted on other parts of this data, which may hold its test.
        """
        key = f"data.{side}_features"
        entries = [wanted] if isinstance(wanted, dict) else list(wanted or [])
        kinds: dict[str, FeatureKind] = {}
        readers: dict[str, Path] = {}
        report: dict[str, Any] = {}
        added: dict[str, np.ndarray] = {}
        remarks: list[str] = []
        for entry in entries:
            if isinstance(entry, dict):
                found = entry
            else:
                source = Source.parse(entry, key)
                content = read_source(source, side, host.paths, published)
                _refuse_fitted_elsewhere(content, host, key, source)
                columns, counts = _aligned(content, host, side, key, source)
                found = content.kinds
                added |= columns
                report |= counts
                remarks += _remark(content, host, side, key, source, counts)
                if content.folder is not None:
                    readers[source.name] = content.folder
            if twice := sorted(set(found) & set(kinds)):
                raise ConfigError(f"{key} names {twice[0]} twice. Give each source a name of its own: NAME:RUN.")
            kinds |= found
        if added:
            table = pd.concat([table.drop(columns=list(added), errors="ignore"), _frame(added)], axis=1)
        return cls(Features.learn(table, kinds, key), table, readers, report, remarks)

    def encoded(self, knock_out: KnockOut | None) -> dict[str, np.ndarray]:
        """Each column as its `Feature` says, in full or knocked out.

        shuffled  rows change places, all columns alike: what is left is what their distribution tells
        constant  all rows are alike: what is left is that there are further parameters
        """
        columns = self.features.encode(self.table)
        if knock_out is None:
            return columns
        order = numpy_generator(0, "knock out").permutation(len(self.table))
        return {
            column.name: columns[column.name][order]
            if knock_out == "shuffled"
            else np.full_like(columns[column.name], 1 if column.kind == "categorical" else column.size**-0.5)
            for column in self.features.columns
        }


def _refuse_fitted_elsewhere(content: Content, host: Host, key: str, source: Source) -> None:
    facts = content.facts or {}
    if facts.get("data_name") != host.name:  # not a run on these interactions
        return
    if (facts["data"], facts["split"]) != (host.fingerprint, host.split_fingerprint):
        raise ConfigError(
            f"{key}: {source} was trained on other parts of {host.name} than this run (split "
            f"{facts['split'][:8]}, here {host.split_fingerprint[:8]}), so its vectors may have been fitted on what is "
            "tested here.\n  fix: train it with this run's data and split"
        )


def _remark(content: Content, host: Host, side: Side, key: str, source: Source, counts: Mapping[str, int]) -> list[str]:
    """Small numbers are ids in every catalogue, so that what is of another one may fit by chance."""
    n = host.store.n_items if side == "item" else host.store.n_users
    if (trained_on := (content.facts or {}).get("data_name", host.name)) != host.name:
        return [f"{key}: {source} was trained on {trained_on}. Are its ids those of {host.name}?"]
    strange, without = counts[f"{source.name}: rows of unknown {side}s"], counts[f"{side}s without {source.name}"]
    if 2 * strange <= len(content.ids) and 2 * without <= n:
        return []
    return [
        f"{key}: of {len(content.ids):,} rows of {source} {strange:,} are about {side}s that {host.name} does not "
        f"have, and {without:,} of its {n:,} {side}s have none. Are the ids those of {host.name}?"
    ]


def _aligned(
    content: Content, host: Host, side: Side, key: str, source: Source
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The columns with a row for each id of the store, None where nothing is said, and what to report."""
    store = host.store
    ids = (store.item_ids if side == "item" else store.user_ids).astype(str)
    rows = pd.Index(ids).get_indexer(content.ids)
    used = rows >= 0
    if not used.any():
        raise DataError(
            f"{key}: none of the {len(content.ids):,} ids of {source} is an id of {host.name}. There they are such as "
            f"{', '.join(content.ids[:3])}, here {', '.join(ids[:3])}."
        )
    report = {f"{source.name}: rows of unknown {side}s": int((~used).sum())}
    if content.others is not None:
        told = used & _held_out(content, rows, host, side)
        report[f"{source.name}: rows of what is held out"] = int(told.sum())
        used &= ~told
    known = np.bincount(rows[used], minlength=len(ids))
    report[f"{side}s without {source.name}"] = int((known == 0).sum())
    log.info("%s: %s, %s", key, source, ", ".join(f"{name} {count}" for name, count in report.items()))
    columns = {}
    for name, values in content.table.items():
        column = np.full(len(ids), None, dtype=object)
        if values.ndim == 1:
            column[rows[used]] = values[used]
        else:
            sums = np.zeros((len(ids), values.shape[1]))
            np.add.at(sums, rows[used], values[used])
            for row in np.flatnonzero(known):
                column[row] = sums[row] / known[row]
        columns[name] = column
    return columns, report


def _held_out(content: Content, rows: np.ndarray, host: Host, side: Side) -> np.ndarray:
    """Which rows are about a pair of user and item that validates or is tested, bool [n]."""
    store = host.store
    other = pd.Index((store.user_ids if side == "item" else store.item_ids).astype(str)).get_indexer(content.others)
    users, items = (other, rows) if side == "item" else (rows, other)
    return (users >= 0) & (items >= 0) & np.isin(users.astype(np.int64) * store.n_items + items, host.held)


def _frame(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(list(column), dtype=object) for name, column in columns.items()})
