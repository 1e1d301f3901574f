"""What is known of users and items besides their interactions, as columns of numbers that a model can read."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from marquee.data.interactions.columns import SEPARATOR, as_text
from marquee.data.spec import Feature
from marquee.errors import ConfigError

FeatureKind = Literal["categorical", "multi_hot", "dense", "words", "vector"]

WORD = re.compile(r"\w+")
MOST_WORDS = 2000  # of a column of words, the most frequent


@dataclass(frozen=True)
class Features:
    """How columns of a table become numbers, learnt once and then the same for every other row.

    A dense column has a number a row, or as many in each (`0.1|0.7`, a list in Parquet), such as an embedding of the
    item's poster or text. A column of vectors is a dense one whose rows have the length 1 on average, however many
    numbers they have. A column of words (titles) is multi-hot in its lower-case words that two rows have, the 2,000
    most frequent.

    columns   what a model is told (see `Feature`), in the order in which they were asked for
    encoding  for each of them its values (categorical, multi_hot, words) or its mean and scale (dense)
    kinds     how each was asked for
    """

    columns: tuple[Feature, ...]
    encoding: Mapping[str, Any]
    kinds: Mapping[str, FeatureKind]

    @classmethod
    def learn(cls, table: pd.DataFrame, kinds: Mapping[str, FeatureKind], key: str) -> "Features":
        """The encoding of the columns `kinds` of a table. `key` is the setting that names them.

        Raises ConfigError for a column that the table does not have, and for a dense one that holds no numbers.
        """
        columns, encoding = [], {}
        for name, kind in kinds.items():
            if name not in table:
                raise ConfigError(f"{key}.{name}: there is no such column. Columns seen: {', '.join(table.columns)}.")
            if kind in ("dense", "vector"):
                values = _numbers(table[name], f"{key}.{name}")
                if np.isinf(values).any():
                    raise ConfigError(
                        f"{key}.{name}: a dense feature holds finite numbers, and there is an infinite one."
                    )
                stated = [_mean_and_scale(column) for column in values.T]
                if kind == "vector":
                    stated = [[mean, scale * len(stated) ** 0.5] for mean, scale in stated]
                encoding[name] = stated[0] if len(stated) == 1 else list(map(list, zip(*stated, strict=True)))
                columns.append(Feature(name, "dense", len(stated)))
                continue
            words = _words(table[name], kind)
            if kind == "words":
                counts = Counter(word for row in words for word in set(row))
                frequent = sorted((-n, word) for word, n in counts.items() if n > 1)[:MOST_WORDS]
                encoding[name] = sorted(word for _, word in frequent)
                columns.append(Feature(name, "multi_hot", len(frequent)))
                continue
            encoding[name] = sorted({word for row in words for word in row})
            columns.append(Feature(name, kind, len(encoding[name]) + (kind == "categorical")))
        return cls(tuple(columns), encoding, dict(kinds))

    def encode(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Each column as `Feature` says; a value that was not learnt, or is missing, is 0. Extra columns do not matter.

        A column that the table lacks counts as missing in every row.
        """
        return {column.name: self._encoded(column, table) for column in self.columns}

    def _encoded(self, column: Feature, table: pd.DataFrame) -> np.ndarray:
        given = table[column.name] if column.name in table else pd.Series([None] * len(table))
        if column.kind == "dense":
            mean, scale = map(np.asarray, self.encoding[column.name])
            values = (_numbers(given, column.name, column.size) - mean) / scale
            return np.nan_to_num(values, nan=0.0).astype(np.float32)
        first = int(column.kind == "categorical")
        number = {word: place for place, word in enumerate(self.encoding[column.name], start=first)}
        words = _words(given, self.kinds[column.name])
        if column.kind == "categorical":
            return np.array([number.get(row[0], 0) if row else 0 for row in words], dtype=np.int64)
        hot = np.zeros((len(words), column.size), dtype=np.float32)
        pairs = [(place, number[word]) for place, row in enumerate(words) for word in row if word in number]
        if pairs:
            hot[tuple(np.array(pairs).T)] = 1
        return hot

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a run's `inference/` folder."""
        return {name: {"kind": self.kinds[name], "encoding": self.encoding[name]} for name in self.kinds}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Features":
        """The inverse of `to_json`."""
        columns = []
        for name, entry in content.items():
            kind, values = entry["kind"], entry["encoding"]
            dense = kind in ("dense", "vector")
            size = np.size(values[0]) if dense else len(values) + (kind == "categorical")
            columns.append(Feature(name, "dense" if dense else "multi_hot" if kind == "words" else kind, size))
        encoding = {name: entry["encoding"] for name, entry in content.items()}
        return cls(tuple(columns), encoding, {name: entry["kind"] for name, entry in content.items()})


def _words(column: pd.Series, kind: FeatureKind) -> list[list[str]]:
    """The values of each row as text; none where a field is empty or missing."""
    fields = ["" if missing else as_text(value) for value, missing in zip(column, column.isna(), strict=True)]
    if kind == "words":
        return [WORD.findall(field.lower()) for field in fields]
    if kind == "multi_hot":
        return [[part.strip() for part in field.split(SEPARATOR) if part.strip()] for field in fields]
    return [[field.strip()] if field.strip() else [] for field in fields]


def _mean_and_scale(values: np.ndarray) -> list[float]:
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else 0.0
    spread = float(known.std()) if len(known) else 0.0
    # A constant says nothing; what rounding leaves of it is no spread.
    return [mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0]


def _numbers(column: pd.Series, key: str, size: int | None = None) -> np.ndarray:
    """float64 [n, size], NaN where a field is empty. Raises ConfigError for text, and for rows of unequal length."""
    text = not pd.api.types.is_numeric_dtype(column)
    if text and (arrays := [row for row in column if isinstance(row, np.ndarray)]):
        nothing = np.full(len(arrays[0]), np.nan)
        return np.stack([row if isinstance(row, np.ndarray) else nothing for row in column]).astype(np.float64)
    if text:
        fields = ["" if missing else as_text(value) for value, missing in zip(column, column.isna(), strict=True)]
        if any(SEPARATOR in field for field in fields):
            return _vectors(fields, key, size)
    try:
        values = pd.to_numeric(column.replace("", np.nan) if text else column).to_numpy(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{key}: a dense feature holds numbers; {error}. Use categorical or multi_hot.") from None
    if size not in (None, 1) and np.isfinite(values).any():
        raise ConfigError(
            f"{key}: each row holds {size} numbers with {SEPARATOR} between, or none; found a single one."
        )
    return np.broadcast_to(values[:, None], (len(values), size or 1))


def _vectors(fields: list[str], key: str, size: int | None) -> np.ndarray:
    rows = [field.split(SEPARATOR) if field else [] for field in fields]
    lengths = {len(row) for row in rows if row} | ({size} if size else set())
    if len(lengths) > 1:
        raise ConfigError(
            f"{key}: the rows of a dense feature hold equally many numbers, or none; found {sorted(lengths)}."
        )
    values = np.full((len(rows), lengths.pop()), np.nan)
    try:
        for place, row in enumerate(rows):
            if row:
                values[place] = [float(part) for part in row]
    except ValueError as error:
        raise ConfigError(f"{key}: a dense feature holds numbers; {error}. Use categorical or multi_hot.") from None
    return values
