"""Ids of users and items: whole numbers where all of them are, else text; one id however a file writes it."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from marquee.data.interactions.known import INTEGER

WHOLE = re.compile(r"-0|(-?(?:0|[1-9][0-9]{0,17}))\.0+")  # other ways to write a whole number


def identifiers(values: np.ndarray) -> np.ndarray:
    """Ids as the file gives them: int64 where every one is a plain whole number (no leading zeros), else strings."""
    if values.dtype.kind == "i":
        return values.astype(np.int64)
    if values.dtype.kind != "O":
        values = values.astype(str).astype(object)
    if all(map(INTEGER.fullmatch, values)):
        return values.astype(np.int64)
    return values


def canonical(ids: Sequence[str]) -> np.ndarray:
    """Ids as text, object [n]. A whole number that a column of floats made 1.0 or -0.0 is 1 or 0, as elsewhere."""
    found = np.empty(len(ids), dtype=object)
    found[:] = [(match[1] or "0").replace("-0", "0") if (match := WHOLE.fullmatch(text)) else text for text in ids]
    return found


def categorical(column: pa.ChunkedArray) -> pd.Categorical:
    """Dictionary-encoded text as a pandas categorical whose categories are ids."""
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    ids = identifiers(canonical(column.dictionary.to_pylist()))
    codes, ids = pd.factorize(ids)  # two ways to write one id
    return pd.Categorical.from_codes(codes[column.indices.to_numpy()], pd.Index(ids))
