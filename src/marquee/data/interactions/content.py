"""What is known of items or users from elsewhere than their own table: finished runs, files, published vectors.

Rows are joined by ids and by nothing else: two lists of equal length in another order would fit as well, and wrongly.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import Paths
from marquee.data.interactions.columns import SEPARATOR, locate, read_table
from marquee.data.interactions.features import FeatureKind
from marquee.data.interactions.ids import canonical
from marquee.errors import ConfigError, DataError

Side = Literal["item", "user"]
# {COLUMN: kind} of the side's own table, or a list of sources (and of such mappings) as `Source` reads them.
FeatureSources = dict[str, FeatureKind] | list[str | dict[str, FeatureKind]]

DIGITS = 12  # of a sha256 that stand behind the name of what it is of
TABLES, VECTORS = (".csv", ".tsv"), (".npy", ".npz", ".parquet")
FACTS, ROWS = "facts.json", "vectors.npz"


@dataclass(frozen=True)
class Source:
    """One entry of `data.item_features` or `data.user_features`, taken apart.

    ======================  ============================================================================
    NAME:RUN                what a finished run makes of its own examples (posters, reviews), a vector each;
                            of a run that recommends, its vectors of the items or users
    NAME:RUN:scores         the probabilities that it gives its classes
    tags.csv, tags.tsv      columns beside item_id (user_id): numbers, values joined by "|", or words
    vectors.npz, .parquet   arrays (columns) item_id and vector
    vectors.npy             rows whose ids stand in vectors.ids.txt beside it, one a line
    NAME                    vectors that the data set was published with
    ======================  ============================================================================

    A record has `@` and twelve digits of a sha256 behind RUN or the file: of the run's weights, or the file's bytes.

    name    of the column or, of a table, what its columns' names begin with
    digits  "" until they are known
    scores  whether probabilities are meant, not what stands before them
    """

    kind: Literal["run", "file", "published"]
    name: str
    where: str
    digits: str = ""
    scores: bool = False

    @classmethod
    def parse(cls, text: str, key: str) -> "Source":
        """Raises ConfigError, which names `key`, for what is none of the forms above."""
        text, digits = (
            (recorded[1] + recorded[3], recorded[2]) if (recorded := _RECORDED.fullmatch(text)) else (text, "")
        )
        if Path(text).suffix in TABLES + VECTORS:
            name = re.sub(r"\W+", "_", Path(text).stem)
            return cls("file", name, text, digits)
        if found := _OF_RUN.fullmatch(text):
            return cls("run", found["name"], found["run"], digits, found["scores"] is not None)
        if re.fullmatch(r"\w+", text):
            return cls("published", text, text, digits)
        raise ConfigError(
            f"{key}: {text!r} is no source. Sources are NAME:RUN or NAME:RUN:scores, a file that ends in "
            f"{', '.join(TABLES + VECTORS)}, the name of vectors that the data set was published with, or "
            "{COLUMN: kind} of the data's own table."
        )

    def __str__(self) -> str:
        known = f"@{self.digits}" if self.digits else ""
        text = f"{self.name}:{self.where}" if self.kind == "run" else self.where
        return f"{text}{known}{':scores' if self.scores else ''}"


_RECORDED = re.compile(r"(.+)@([0-9a-f]{12})((?::scores)?)")
_OF_RUN = re.compile(r"(?P<name>[A-Za-z_]\w*):(?P<run>[^:@]+)(?P<scores>:scores)?")


@dataclass(frozen=True)
class Content:
    """What a source says, a row an id or several.

    ids     text [n]
    table   columns by name, [n]; vectors are arrays float32 [n, dim]
    kinds   of the columns
    others  text [n], the id of the other side that a row is also about (the reviewer of an item), or None
    facts   of a run: its id, fingerprints of its data and split where it was trained on interactions
    folder  of a run: what it answers with, so that a finished recommender can read new content
    """

    ids: np.ndarray
    table: Mapping[str, np.ndarray]
    kinds: Mapping[str, FeatureKind]
    others: np.ndarray | None = None
    facts: Mapping[str, str] | None = None
    folder: Path | None = None


def prepared_key(source: Source, side: Side) -> dict[str, object]:
    """Under which the vectors of a run are kept in the cache; they count by its weights, wherever it lies."""
    return {"run": source.where, "weights": source.digits, "side": side, "scores": source.scores}


def read_source(source: Source, side: Side, paths: Paths, published: Mapping[str, Content]) -> Content:
    """What a source says. Raises ConfigError for an unknown name, DataError for a file that is not there, damaged or
    another than was recorded."""
    key = f"data.{side}_features"
    if source.kind == "published":
        if source.name not in published:
            own = f"has {', '.join(published)}" if published else "was published without any"
            raise ConfigError(
                f"{key}: {source.name} names vectors of the data set, and this one {own}. A column of its own table is "
                f"{{{source.name}: categorical}} (or multi_hot, dense, words); a finished run is {source.name}:RUN."
            )
        return published[source.name]
    if source.kind == "run":
        return _of_run(source, side, paths)
    file = locate(source.where, paths, key)
    if source.digits and not file_sha256(file).startswith(source.digits):
        raise DataError(
            f"{key}: {file} is not the file that was recorded (its sha256 began with {source.digits}). "
            f"To take it as it is: {key}=[{source.where}]"
        )
    return _of_table(file, side, source.name) if file.suffix in TABLES else _of_vectors(file, side, source.name)


def _of_run(source: Source, side: Side, paths: Paths) -> Content:
    def missing(folder: Path) -> None:
        raise DataError(
            f"data.{side}_features: the vectors of {source} are not in the cache ({paths.cache}), and no such run "
            f"that could make them is in {paths.output}. Put it back, or name another: "
            f"data.{side}_features=[{source.name}:RUN]"
        )

    folder = cached(paths, "features", prepared_key(source, side), missing)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    with np.load(folder / ROWS, allow_pickle=False) as rows:
        others = rows["others"].astype(object) if "others" in rows else None
        return Content(
            rows["ids"].astype(object), {source.name: rows["vectors"]}, {source.name: "vector"}, others, facts,
            folder / "inference" if (folder / "inference").is_dir() else None,
        )  # fmt: skip


def _of_table(file: Path, side: Side, name: str) -> Content:
    frame = read_table(file, None, "\t" if file.suffix == ".tsv" else ",")
    ids = _ids(frame, side, file)
    table, kinds = {}, {}
    for column in frame.columns.drop(f"{side}_id"):
        values = frame[column].fillna("").astype(str).to_numpy(dtype=object)
        table[f"{name}.{column}"], kinds[f"{name}.{column}"] = values, _kind_of(values)
    if not table:
        raise DataError(f"{file} has no column beside {side}_id.")
    return Content(ids, table, kinds)


def _kind_of(values: np.ndarray) -> FeatureKind:
    """Numbers are dense; what holds "|" is several values; else words where most rows differ, and values where not."""
    said = [value for value in values if value.strip()]
    if said and all(_is_number(part) for value in said for part in value.split(SEPARATOR)):
        return "dense"
    if any(SEPARATOR in value for value in said):
        return "multi_hot"
    return "words" if len(set(said)) > len(said) / 2 else "categorical"


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def _of_vectors(file: Path, side: Side, name: str) -> Content:
    key = f"{side}_id"
    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
            ids, rows = _ids(frame, side, file), frame.get("vector")
            vectors = None if rows is None else np.stack([np.asarray(row, dtype=np.float32) for row in rows])
        elif file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                ids, vectors = (arrays.get(column) for column in (key, "vector"))
            ids = None if ids is None else _ids(pd.DataFrame({key: ids}), side, file)
        else:
            ids, vectors = _listed(file, side), np.load(file, allow_pickle=False)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file} cannot be read as vectors: {error}") from error
    if ids is None or vectors is None:
        raise DataError(f"{file} needs {key} and vector: an id, and as many numbers, a row.")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
        raise DataError(f"{file}: vectors are a table of numbers, [rows, dim]; found {vectors.dtype} {vectors.shape}.")
    if len(ids) != len(vectors):
        raise DataError(f"{file} has {len(vectors):,} rows and {len(ids):,} ids, so nobody knows which is whose.")
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise DataError(f"{file}: the vector of {key} {ids[row]} holds what is no finite number. Leave such rows out.")
    return Content(ids, {name: vectors.astype(np.float32)}, {name: "vector"})


def _listed(file: Path, side: Side) -> np.ndarray:
    """The ids beside a bare array."""
    beside = file.with_suffix(".ids.txt")
    if not beside.is_file():
        raise DataError(
            f"{file} does not say which {side} a row is of. Put the ids beside it, one a line, as {beside.name}, or "
            f"give a .npz or .parquet with {side}_id and vector."
        )
    lines = beside.read_text(encoding="utf-8").splitlines()
    return _ids(pd.DataFrame({f"{side}_id": [line.strip() for line in lines]}), side, beside)


def _ids(frame: pd.DataFrame, side: Side, file: Path) -> np.ndarray:
    """The ids of a table as text. Raises DataError where they are missing, or one of them stands twice."""
    key = f"{side}_id"
    if key not in frame:
        raise DataError(f"{file} needs a column {key}. Columns seen: {', '.join(map(str, frame.columns))}.")
    if not len(frame):
        raise DataError(f"{file} has no row.")
    ids = canonical(frame[key].astype(str))
    if (twice := pd.Series(ids).duplicated()).any():
        raise DataError(f"{file} has {key} {ids[twice.argmax()]} more than once. Give each {side} one row.")
    return ids
