"""The base class of every data set of interactions: locate, prepare, cache, split, describe."""

import hashlib
import json
import logging
import shutil
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.interactions.content import Content, FeatureSources, Side
from marquee.data.interactions.features import Features
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.ids import canonical
from marquee.data.interactions.joined import Host, Joined, KnockOut
from marquee.data.interactions.known import Known
from marquee.data.interactions.predefined import read_parts
from marquee.data.interactions.splits import HISTORY, TRAIN, VALIDATION, InteractionSplit
from marquee.data.interactions.store import COLUMNS, Interactions
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SIDES: tuple[Side, ...] = ("user", "item")
READERS = "readers"  # in a run's `inference/`: the runs that made its features, to read new content with
PREPARATION = 1  # raised whenever the code below prepares the same raw bytes differently


class Tables(NamedTuple):
    """What a data set reads. `items` has item_id, title and what else is known; `users` has user_id."""

    interactions: pd.DataFrame
    items: pd.DataFrame | None = None
    users: pd.DataFrame | None = None


class InteractionData(DataSet):
    """Base of the data sets of interactions. A sub-class says where its files are (`sources`) and how each is read.

    After `setup`: `store` holds all interactions, `parts` those of train, validation and test, `items` and `users` are
    tables with a row for each id of the store (item_id, title, ...; user_id, ...), `features` tells how the columns of
    both that were asked for are encoded, `split` and `paths` are those of `setup`.

    duplicates      which of several interactions of one user with one item stay
    min_rating      interactions with a lower value are dropped; None keeps all
    k_core          users and items with fewer interactions are dropped, again and again until none is left
    item_features   what models may read of items: columns of the item table with their kinds, or a list of sources, see
                    `content.Source`; None: nothing
    user_features   likewise of users
    knock_out       spoils what is read, to see what it was worth: rows are shuffled, or all made alike (constant)

    Parameters of sub-classes are attributes of the same name. Those that end in `path` do not count for the
    fingerprint, because the files' content does; nor do features, which are read from the tables as prepared.
    """

    spec_type = InteractionSpec
    split_type = InteractionSplit

    name: ClassVar[str]
    ordered: bool = False  # rows without timestamps are oldest first
    periods: ClassVar[bool] = False  # the column `label` numbers periods, for split=stream
    preparation: ClassVar[int] = 1  # raised whenever the sub-class reads the same raw bytes differently
    # What fingerprints call this class, where it has moved since runs were first recorded; else its dotted name.
    recorded_as: ClassVar[str | None] = None

    store: Interactions
    parts: dict[Part, Interactions]
    items: pd.DataFrame
    users: pd.DataFrame
    features: dict[Side, Features]
    paths: Paths
    split: InteractionSplit
    _joined: dict[Side, Joined]

    def __init__(
        self,
        *,
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        user_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        self.duplicates = duplicates
        self.min_rating = min_rating
        self.k_core = k_core
        self.item_features = item_features
        self.user_features = user_features
        self.knock_out = knock_out

    # What a data set defines ---------------------------------------------------------------------------------------

    @abstractmethod
    def sources(self, paths: Paths) -> dict[str, Path]:
        """The verified raw files by role: "interactions" and, where there are any, "items" and "users"."""

    @abstractmethod
    def read_interactions(self, path: Path) -> pd.DataFrame:
        """One file of interactions: columns user, item and, where known, value and timestamp."""

    def read_items(self, path: Path) -> pd.DataFrame:
        """The item table: item_id, title, ..."""
        raise NotImplementedError

    def read_users(self, path: Path) -> pd.DataFrame:
        """The user table: user_id, ..."""
        raise NotImplementedError

    def read(self, sources: Mapping[str, Path]) -> Tables:
        """All tables. A data set that is generated overrides this and has no sources.

        With `split=files` the sources are that split's: "train", "validation", "test", or "labels" beside
        "interactions"; `read_parts` joins them with a column `label`.
        """
        return Tables(
            read_parts(sources, self.read_interactions),
            self.read_items(sources["items"]) if "items" in sources else None,
            self.read_users(sources["users"]) if "users" in sources else None,
        )

    def published(self, side: Side, paths: Paths) -> Mapping[str, Content]:
        """Vectors that the data set was published with, by name."""
        return {}

    # What it gives -------------------------------------------------------------------------------------------------

    def setup(self, split: InteractionSplit, paths: Paths) -> None:
        if self.knock_out and not (self.item_features or self.user_features):
            raise ConfigError(
                f"data.knock_out={self.knock_out} spoils features, and there are none.\n"
                "  fix: name some with data.item_features or data.user_features, or data.knock_out=null"
            )
        sources = split.sources(self.sources(paths), paths)
        key = {
            "preparation": [PREPARATION, self.preparation],
            "data": self.recorded_as or f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": self._parameters(),
            "raw": {role: file_sha256(path) for role, path in sources.items()},
        }
        self.fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder = cached(paths, self.name, key, lambda folder: self._prepare(folder, sources))
        self.store, self.items, self.users, report = _load(folder)
        self.store = replace(self.store, periods=self.periods)

        cut = split.cut(self.store, self.fingerprint)
        self.parts, self.split_fingerprint = cut.parts, cut.fingerprint
        self.report = report | cut.report
        self.paths = paths
        self.validates = len(self.parts["validation"]) > 0
        held = np.concatenate([self.parts[part].pairs() for part in ("validation", "test")])
        host = Host(self.name, self.fingerprint, self.split_fingerprint, self.store, held, paths)
        self._joined = {
            side: Joined.of(host, side, table, getattr(self, f"{side}_features"), self.published(side, paths))
            for side, table in (("user", self.users), ("item", self.items))
        }
        self.features = {side: joined.features for side, joined in self._joined.items()}
        for joined in self._joined.values():
            self.report |= joined.report
        self.remarks = [remark for joined in self._joined.values() for remark in joined.remarks]
        self.spec = InteractionSpec(
            n_users=self.store.n_users,
            n_items=self.store.n_items,
            has_timestamps=self.store.timestamps is not None,
            has_values=self.store.values is not None,
            user_features=self.features["user"].columns,
            item_features=self.features["item"].columns,
        )
        self.split = split
        self._assigned = cut.assigned
        self._histories: dict[Part, Interactions] = {}
        log.info("%s: %s", self.name, ", ".join(f"{name} {value}" for name, value in self.report.items()))

    def history(self, part: Part) -> Interactions:
        """What may be known when `part` is predicted: train for validation, train and validation for test.

        Rows that the split marks as HISTORY (of users who are held out) belong to both.
        """
        if part == "validation" and not (self._assigned == HISTORY).any():
            return self.parts["train"]
        if part not in self._histories:
            codes = {"train": (), "validation": (TRAIN, HISTORY), "test": (TRAIN, VALIDATION, HISTORY)}[part]
            self._histories[part] = self.store.take(np.isin(self._assigned, codes))
        return self._histories[part]

    def encoded(self, side: Side, whole: bool = False) -> dict[str, np.ndarray]:
        """The columns that models may read of all items or users, each as its `Feature` says; knocked out unless
        `whole`."""
        return self._joined[side].encoded(None if whole else self.knock_out)

    def known(self) -> Known:
        """Every user's history with ids and titles: all that a predictor needs of the data."""
        store = self.store
        titles = self.items["title"].tolist()
        return Known(store.offsets, store.items, store.user_ids, store.item_ids, titles, store.timestamps)

    def save_inference(self, folder: Path) -> None:
        self.known().save(folder)
        # Whatever else is known of the items, for who is to explain a recommendation.
        facts = self.items.drop(columns=["item_id", "title"], errors="ignore")
        if len(facts.columns):
            facts.to_json(folder / "items.json", orient="split", index=False, force_ascii=False)
        if self.spec.user_features or self.spec.item_features:
            content = {name: features.to_json() for name, features in self.features.items()}
            text = json.dumps(content, ensure_ascii=False)
            (folder / "features.json").write_text(text, encoding="utf-8")
        for side, joined in self._joined.items():
            for name, reader in joined.readers.items():
                shutil.copytree(reader, folder / READERS / side / name)

    # How it is prepared --------------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Any]:
        """The constructor's keyword parameters, by the convention that attributes carry their names."""
        names = {
            name
            for kind in type(self).__mro__
            if "__init__" in vars(kind) and issubclass(kind, InteractionData)
            for name, parameter in signature(kind.__init__).parameters.items()
            if parameter.kind is Parameter.KEYWORD_ONLY and not name.endswith(("path", "features", "knock_out"))
        }
        return {name: getattr(self, name) for name in sorted(names)}

    def _prepare(self, folder: Path, sources: Mapping[str, Path]) -> None:
        tables = self.read(sources)
        store, report = Interactions.from_frame(
            tables.interactions,
            duplicates=self.duplicates,
            min_rating=self.min_rating,
            min_interactions=self.k_core,
            ordered=self.ordered,
            periods=self.periods,
        )
        items = _aligned(tables.items, "item_id", store.item_ids)
        users = _aligned(tables.users, "user_id", store.user_ids)
        if "title" not in items:
            items["title"] = items["item_id"].astype(str)
        else:
            blank = items["title"].isna() | (items["title"].str.strip() == "")
            report["items_without_title"] = int(blank.sum())
            items["title"] = items["title"].where(~blank, items["item_id"].astype(str))
        for name in COLUMNS:
            if (column := getattr(store, name)) is not None:
                np.save(folder / f"{name}.npy", column)
        items.to_parquet(folder / "items.parquet", index=False)
        users.to_parquet(folder / "users.parquet", index=False)
        (folder / "report.json").write_text(
            json.dumps({"ordered": store.ordered, "repeats": store.repeats, "report": report})
        )


def _load(folder: Path) -> tuple[Interactions, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Copy on write keeps the arrays writable (torch warns about others) and the pages shared and unread."""
    files = {name: folder / f"{name}.npy" for name in COLUMNS}
    columns = {
        name: np.asarray(np.load(file, mmap_mode="c")) if file.exists() else None for name, file in files.items()
    }
    items, users = pd.read_parquet(folder / "items.parquet"), pd.read_parquet(folder / "users.parquet")
    content = json.loads((folder / "report.json").read_text())
    store = Interactions(
        **columns,
        user_ids=_ids(users["user_id"]),
        item_ids=_ids(items["item_id"]),
        ordered=content["ordered"],
        repeats=content["repeats"],
    )
    return store, items, users, content["report"]


def _ids(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if column.dtype.kind == "i" else column.to_numpy(dtype=object)


def _aligned(table: pd.DataFrame | None, key: str, ids: np.ndarray) -> pd.DataFrame:
    """The table with one row for each id, in their order; nothing is known of ids that it does not hold."""
    if table is None:
        return pd.DataFrame({key: ids})
    keys = pd.Series(canonical(table[key].astype(str)), index=table.index)
    if (twice := keys.duplicated()).any():
        raise DataError(f"The table of {key.removesuffix('_id')}s has {key} {keys[twice].iloc[0]!r} more than once.")
    wanted = ids.astype(str)
    aligned = table.drop(columns=key).set_index(keys).reindex(wanted).reset_index(drop=True)
    aligned.insert(0, key, ids)
    return aligned
