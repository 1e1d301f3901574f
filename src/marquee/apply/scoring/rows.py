"""The one function that scores tables. Every engine runs it: a loop here, Ray Data's map_batches, Spark's mapInPandas.

from functools import partial
from marquee.apply.scoring.rows import scored

spark_frame.mapInPandas(partial(scored, run="outputs/runs/3fa9c1d2-ease", k=10), schema="user long, ...")
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marquee.apply.predictor import load
from marquee.errors import ConfigError, DataError
from marquee.inference.classifier import ClassPredictor
from marquee.inference.predictor import Predictor
from marquee.inference.recommender import RecommendPredictor

WHO = ("user", "history")  # columns of which a recommender reads one
MADE = ("items", "scores")


class RowError(DataError):
    """A row, by its number in its table, that cannot be scored."""

    def __init__(self, told: str, row: int):
        super().__init__(f"row {row}: {told}")
        self.told, self.row = told, row


def scored(
    frames: Iterator[pd.DataFrame], run: str | Path, k: int = 10, base: str | Path | None = None
) -> Iterator[pd.DataFrame]:
    """Each table with what the run says of its rows, one row for one row.

    run   a run or an export, as `marquee.load` takes it; loaded once a process
    k     items for each row, of a recommender
    base  the folder that paths in a column `image` are meant from

    A recommender reads `user` (an id) or `history` (a list of ids or titles, oldest first) and adds `items`, a list of
    ids, the best first, and `scores`. A classifier reads `text` or `image` (bytes, or a path) and adds what `predict`
    says; bytes of images are left out. Raises DataError for a row that cannot be scored.
    """
    predictor = _loaded(str(run))
    for frame in frames:
        yield _one(predictor, frame, k, None if base is None else Path(base))


def needed(predictor: Predictor, columns: Sequence[str]) -> str:
    """The column that a run reads. Raises DataError where it is not there, ConfigError for a run that has no scores."""
    if isinstance(predictor, RecommendPredictor):
        found = [name for name in WHO if name in columns]
        if found == ["history"] and not predictor.serves_all:
            predictor.best(histories=[[]])  # which says why not
        if len(found) == 1:
            return found[0]
        what = "has both" if found else "has neither"
        raise DataError(
            f"a recommender reads a column user or a column history, and the input {what}: {_told(columns)}"
        )
    if isinstance(predictor, ClassPredictor):
        if predictor.takes in columns:
            return predictor.takes
        raise DataError(f"this run reads a column {predictor.takes}, and the input has {_told(columns)}")
    raise ConfigError(f"This run {predictor.does}; score takes runs that recommend or classify.")


def blank(predictor: Predictor, columns: Sequence[str]) -> pd.DataFrame:
    """What is made of a table with these columns that has no rows: its columns, of their types."""
    if isinstance(predictor, RecommendPredictor):
        return pd.DataFrame({name: np.zeros(0, dtype=object) for name in (needed(predictor, columns), *MADE)})
    nothing: Any = ""
    if predictor.takes == "image":
        from PIL import Image

        nothing = Image.new("RGB", (8, 8))
    made = predictor.predict([nothing])[:0]
    return made if predictor.takes == "image" else pd.concat([pd.DataFrame({predictor.takes: []}), made], axis=1)


def _told(columns: Sequence[str]) -> str:
    return ", ".join(columns) or "no column"


@lru_cache(maxsize=1)
def _loaded(run: str) -> Predictor:
    return load(run)


def _one(predictor: Predictor, frame: pd.DataFrame, k: int, base: Path | None) -> pd.DataFrame:
    column = needed(predictor, list(frame.columns))
    frame = frame.reset_index(drop=True)
    if frame[column].isna().any():
        raise RowError(f"column {column} is empty", int(frame[column].isna().to_numpy().argmax()))
    values = frame[column].tolist()
    if isinstance(predictor, RecommendPredictor):
        return _recommended(predictor, frame, column, values, k)
    if column == "image":
        values = [_image(value, base) for value in values]
    table = predictor.predict(values)
    if column == "image" and frame["image"].map(lambda value: isinstance(value, bytes)).any():
        frame = frame.drop(columns="image")
    kept = frame.drop(columns=[name for name in table if name in frame])
    return pd.concat([kept, table], axis=1)


def _recommended(
    predictor: RecommendPredictor, frame: pd.DataFrame, column: str, values: list[Any], k: int
) -> pd.DataFrame:
    try:
        if column == "user":
            _, items, scores = predictor.best(users=values, k=k)
        else:
            _, items, scores = predictor.best(histories=[np.asarray(value).tolist() for value in values], k=k)
    except ConfigError as error:  # of an id or a title, which here stands in the data
        raise RowError(str(error), _unknown(predictor, column, values)) from None
    ids, left = predictor.known.item_ids[items], np.isfinite(scores)
    frame = frame.drop(columns=[name for name in MADE if name in frame])
    if left.all():
        return frame.assign(items=list(ids), scores=list(scores))
    return frame.assign(
        items=[row[there] for row, there in zip(ids, left)], scores=[row[there] for row, there in zip(scores, left)]
    )


def _unknown(predictor: RecommendPredictor, column: str, values: list[Any]) -> int:
    """The first row that cannot be scored: looked for only where there is one."""
    for row, value in enumerate(values):
        try:
            if column == "user":
                predictor.find_users([value])
            else:
                predictor.find_items(np.asarray(value).tolist())
        except ConfigError:
            return row
    return 0


def _image(value: Any, base: Path | None) -> Any:
    if isinstance(value, bytes):
        return value
    path = Path(value)
    return path if path.is_absolute() or base is None else base / path
