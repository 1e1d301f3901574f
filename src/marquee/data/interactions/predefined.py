"""Splits that somebody published as files: train and test files, or a label for each line of the ratings."""

import io
import zipfile
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Interval

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import locate, read_bytes
from marquee.data.interactions.splits import (
    HISTORY,
    LEFT_OUT,
    TEST,
    TRAIN,
    VALIDATION,
    InteractionSplit,
    among,
    held_out,
    shuffled_rank,
)
from marquee.errors import ConfigError, DataError

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions

IDS = ("user", "item")
GENERATED = (
    "split=files and split=file_folds want data that is one file of interactions, and this is generated or brings a "
    "split of its own. Use split=published, split=leave_one_out or split=ratio."
)
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "history": HISTORY}


class Files(InteractionSplit):
    """Membership as published, in the data set's own format, so that results can stand beside a paper's.

    ==============  =====================
    file            part
    ==============  =====================
    ua.base         train, and a random `validation_share` of each user for validation
    ua.test         test
    ==============  =====================

    train        file of the training interactions; null takes the data set's own file (its `path`)
    validation   file of the validation interactions; null cuts `validation_share` of each user from train
    test         file of the test interactions
    history      file of what is known of users who are held out: not trained on, read when their targets are predicted
    labels       instead of the four: one number for each line of the ratings (0 train, 1 validation, 2 test, 3 history,
                 -1 left out), as text or as NumPy file

    Whether time leaks is up to who made the files; random ones leak as `split=ratio` does. That no pair of user and
    item stands in two parts is checked.
    """

    chronological = False
    without_validation = "split.validation_share=0"

    def __init__(
        self,
        *,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        history: str | None = None,
        labels: str | None = None,
        validation_share: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        seed: int = 0,
    ):
        self.train = train
        self.validation = validation
        self.test = test
        self.history = history
        self.labels = labels
        self.validation_share = validation_share
        self.seed = seed

    @property
    def validates(self) -> bool:
        return self.validation_share > 0 or self.validation is not None

    def sources(self, own: Mapping[str, Path], paths: Paths) -> dict[str, Path]:
        sources = dict(own)
        if self.labels is not None:
            if self.train or self.validation or self.test or self.history:
                raise ConfigError("split.labels stands for the whole split: give it alone, without train or test.")
            return sources | {"labels": locate(self.labels, paths, "split.labels")}
        if self.test is None:
            raise ConfigError(
                "split=files needs split.test=FILE (and split.train=FILE where the data's own file is not the training "
                "part), or split.labels=FILE with a part for each line."
            )
        if "interactions" not in sources:
            raise ConfigError(GENERATED)
        interactions = sources.pop("interactions")
        sources["train"] = locate(self.train, paths, "split.train") if self.train else interactions
        if self.validation:
            sources["validation"] = locate(self.validation, paths, "split.validation")
        if self.history:
            sources["history"] = locate(self.history, paths, "split.history")
        return sources | {"test": locate(self.test, paths, "split.test")}

    def parameters(self) -> dict[str, Any]:
        # The files count by their content, which the data fingerprint holds.
        return {"validation_share": self.validation_share, "seed": self.seed}

    def assign(self, store: "Interactions") -> np.ndarray:
        if store.labels is None or store.periods:
            raise ConfigError(GENERATED)
        return with_validation(store, store.labels, self.validation_share, self.seed)


class Published(InteractionSplit):
    """The split that the data set was published with: gowalla has train and test, magazine all three parts.

    ==============  =====================
    published as    part
    ==============  =====================
    train           train, and a random `validation_share` of each user for validation where nothing else validates
    validation      validation
    test            test
    ==============  =====================

    Whether time leaks is up to who made it: both were drawn at random by user, and leak as `split=ratio` does.
    """

    chronological = False
    without_validation = "split.validation_share=0"

    def __init__(self, *, validation_share: Annotated[float, Interval(ge=0, lt=1)] = 0.1, seed: int = 0):
        self.validation_share = validation_share
        self.seed = seed

    @property
    def validates(self) -> bool:
        return self.validation_share > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        if store.labels is None or store.periods:
            raise ConfigError(
                "split=published: this data set was published without a split. Use split=ratio or "
                "split=leave_one_out, or name the files of one with split=files."
            )
        return with_validation(store, store.labels, self.validation_share, self.seed)


def with_validation(store: "Interactions", parts: np.ndarray, share: float, seed: int) -> np.ndarray:
    """`parts` (int8 [n]) with a random share of each user's TRAIN rows as VALIDATION, unless there are some."""
    assigned = np.array(parts)
    if share == 0 or (assigned == VALIDATION).any():
        return assigned
    rows = np.flatnonzero(assigned == TRAIN)
    train = store.take(rows)
    wanted = held_out(np.diff(train.offsets), share, at_least_from=2)
    assigned[rows[shuffled_rank(train, seed) < wanted[train.users]]] = VALIDATION
    return assigned


def read_parts(sources: Mapping[str, Path], read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """The interactions of one file, or of the files of a predefined split with a column `label`."""
    if "test" not in sources:
        frame = read(sources["interactions"])
        if "fold0" in sources:
            return frame.assign(label=_fold_of_each(frame, sources, read))
        if "labels" not in sources:
            return frame
        frame = frame.assign(label=_labels(sources["labels"], len(frame)))
        _refuse_overlap(frame, {name: f"part {code} of {sources['labels']}" for name, code in PARTS.items()})
        return frame
    frames = {name: read(sources[name]) for name in PARTS if name in sources}
    joined = pd.DataFrame()
    for column in next(iter(frames.values())).columns:
        columns = [frame[column] for frame in frames.values()]
        if column in IDS:
            joined[column] = _joined_ids(columns)
        else:
            joined[column] = np.concatenate(_of_one_unit([part.to_numpy() for part in columns]))
    joined["label"] = np.repeat([PARTS[name] for name in frames], [len(frame) for frame in frames.values()])
    _refuse_overlap(joined, sources)
    return joined


def _fold_of_each(frame: pd.DataFrame, sources: Mapping[str, Path], read: Callable[[Path], pd.DataFrame]) -> np.ndarray:
    """The number of the fold whose file holds a row, int8 [n]; -1 for rows that stand in none."""
    files = [sources[role] for role in sorted(name for name in sources if name.startswith("fold"))]
    folds = [read(file) for file in files]
    codes = {name: pd.factorize(_joined_ids([part[name] for part in (frame, *folds)]).astype(str))[0] for name in IDS}
    pairs = codes["user"].astype(np.int64) * (codes["item"].max() + 1) + codes["item"]
    own, *parts = np.split(pairs, np.cumsum([len(part) for part in (frame, *folds)])[:-1])
    found = np.full(len(frame), -1, dtype=np.int8)
    for number, (file, part) in enumerate(zip(files, parts, strict=True)):
        if lost := int((~among(part, own)).sum()):
            raise DataError(
                f"{file}: {lost:,} of its {len(part):,} pairs of user and item do not stand in "
                f"{sources['interactions']}. The folds must be cut from the data set's own file."
            )
        inside = among(own, part)
        if (twice := inside & (found >= 0)).any():
            raise DataError(
                f"{file} and {files[found[twice][0]]} share {int(twice.sum()):,} pairs of user and item; an "
                "interaction is tested in one fold."
            )
        found[inside] = number
    return found


def _joined_ids(columns: list[pd.Series]) -> pd.Categorical:
    columns = [column.astype("category") for column in columns]
    if len({column.cat.categories.dtype for column in columns}) > 1:  # one file's ids are numbers, or wider ones
        columns = [column.cat.rename_categories(column.cat.categories.astype(str).astype(object)) for column in columns]
    return pd.api.types.union_categoricals(columns)


def _of_one_unit(columns: list[np.ndarray]) -> list[np.ndarray]:
    """Where one file has dates, whole numbers are seconds; of dates, NumPy joins seconds and microseconds rightly."""
    if all(column.dtype.kind != "M" for column in columns):
        return columns
    return [column if column.dtype.kind == "M" else column.astype("datetime64[s]") for column in columns]


def _refuse_overlap(frame: pd.DataFrame, sources: Mapping[str, Any]) -> None:
    users, items = (pd.factorize(frame[name])[0].astype(np.int64) for name in IDS)
    pairs = users * (items.max() + 1) + items
    labels = frame["label"].to_numpy()
    for first, second in combinations(PARTS, 2):
        both = among(pairs[labels == PARTS[second]], pairs[labels == PARTS[first]])
        if both.any():
            row = np.flatnonzero(labels == PARTS[second])[both][0]
            raise DataError(
                f"The split leaks: {both.sum():,} pairs of user and item stand in {sources[first]} as well as in "
                f"{sources[second]} (first: user {frame['user'].iloc[row]}, item {frame['item'].iloc[row]})."
            )


def _labels(path: Path, n: int) -> np.ndarray:
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                labels = arrays[arrays.files[0]]
        elif path.suffix == ".npy":
            labels = np.load(path)
        else:
            labels = np.loadtxt(io.StringIO(read_bytes(path).decode()), dtype=np.int64, ndmin=1)
    except (ValueError, OSError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as one number for each line of the ratings ({error}).") from error
    if len(labels) != n:
        raise DataError(f"{path} has {len(labels):,} labels, and there are {n:,} interactions.")
    if wrong := sorted(set(np.unique(labels)) - {*PARTS.values(), LEFT_OUT}):
        known = ", ".join(f"{code} {name}" for name, code in PARTS.items())
        raise DataError(f"{path} has the label {wrong[0]}; labels are {known}, {LEFT_OUT} left out.")
    return labels.astype(np.int8)
