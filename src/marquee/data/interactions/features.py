"""What is known of users and items besides their interactions, as columns of numbers that a model can read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from marquee.data.interactions.columns import SEPARATOR, as_text
from marquee.data.spec import Feature
from marquee.errors import ConfigError

FeatureKind = Literal["categorical", "multi_hot", "dense"]


@dataclass(frozen=True)
class Features:
    """How columns of a table become numbers, learnt once and then the same for every other row.

    columns   what a model is told (see `Feature`), in the order in which they were asked for
    encoding  for each of them its values (categorical, multi_hot) or its mean and scale (dense)
    """

    columns: tuple[Feature, ...]
    encoding: Mapping[str, Any]

    @classmethod
    def learn(cls, table: pd.DataFrame, kinds: Mapping[str, FeatureKind], key: str) -> "Features":
        """The encoding of the columns `kinds` of a table. `key` is the setting that names them.

        Raises ConfigError for a column that the table does not have, and for a dense one that holds no numbers.
        """
        columns, encoding = [], {}
        for name, kind in kinds.items():
            if name not in table:
                raise ConfigError(f"{key}.{name}: there is no such column. Columns seen: {', '.join(table.columns)}.")
            if kind == "dense":
                values = _numbers(table[name], f"{key}.{name}")
                if np.isinf(values).any():
                    raise ConfigError(
                        f"{key}.{name}: a dense feature holds finite numbers, and there is an infinite one."
                    )
                known = values[np.isfinite(values)]
                mean = float(known.mean()) if len(known) else 0.0
                spread = float(known.std()) if len(known) else 0.0
                # A constant says nothing; what rounding leaves of it is no spread.
                encoding[name] = [mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0]
                columns.append(Feature(name, kind, 1))
                continue
            words = _words(table[name], kind)
            encoding[name] = sorted({word for row in words for word in row})
            columns.append(Feature(name, kind, len(encoding[name]) + (kind == "categorical")))
        return cls(tuple(columns), encoding)

    def encode(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Each column as `Feature` says; a value that was not learnt, or is missing, is 0. Extra columns do not matter.

        A column that the table lacks counts as missing in every row.
        """
        return {column.name: self._encoded(column, table) for column in self.columns}

    def _encoded(self, column: Feature, table: pd.DataFrame) -> np.ndarray:
        given = table[column.name] if column.name in table else pd.Series([None] * len(table))
        if column.kind == "dense":
            mean, scale = self.encoding[column.name]
            values = (_numbers(given, column.name) - mean) / scale
            return np.nan_to_num(values, nan=0.0).astype(np.float32)[:, None]
        first = int(column.kind == "categorical")
        number = {word: place for place, word in enumerate(self.encoding[column.name], start=first)}
        words = _words(given, column.kind)
        if column.kind == "categorical":
            return np.array([number.get(row[0], 0) if row else 0 for row in words], dtype=np.int64)
        hot = np.zeros((len(words), column.size), dtype=np.float32)
        pairs = [(place, number[word]) for place, row in enumerate(words) for word in row if word in number]
        if pairs:
            hot[tuple(np.array(pairs).T)] = 1
        return hot

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a run's `inference/` folder."""
        return {column.name: {"kind": column.kind, "encoding": self.encoding[column.name]} for column in self.columns}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Features":
        """The inverse of `to_json`."""
        columns = []
        for name, entry in content.items():
            size = 1 if entry["kind"] == "dense" else len(entry["encoding"]) + (entry["kind"] == "categorical")
            columns.append(Feature(name, entry["kind"], size))
        return cls(tuple(columns), {name: entry["encoding"] for name, entry in content.items()})


def _words(column: pd.Series, kind: FeatureKind) -> list[list[str]]:
    """The values of each row as text; none where a field is empty or missing."""
    fields = ["" if missing else as_text(value) for value, missing in zip(column, column.isna(), strict=True)]
    if kind == "multi_hot":
        return [[part.strip() for part in field.split(SEPARATOR) if part.strip()] for field in fields]
    return [[field.strip()] if field.strip() else [] for field in fields]


def _numbers(column: pd.Series, key: str) -> np.ndarray:
    """float64 [n], NaN where a field is empty. Raises ConfigError for text."""
    try:
        return pd.to_numeric(column.replace("", np.nan) if column.dtype == object else column).to_numpy(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{key}: a dense feature holds numbers; {error}. Use categorical or multi_hot.") from None
