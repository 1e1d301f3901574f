"""Bring your own sequences: one user a line, then its items, oldest first; spaces or tabs between, .gz or not."""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import locate, read_bytes
from marquee.data.interactions.content import FeatureSources
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.ids import categorical
from marquee.data.interactions.joined import KnockOut
from marquee.data.interactions.table import read_titles
from marquee.errors import DataError

SPACE, TAB, NEWLINE, RETURN = b" \t\n\r"


class SequenceFile(InteractionData):
    """Histories in the format of the SASRec, S3-Rec and LightGCN repositories: `user item item ...`.

    The order in the line is the order in time; there are no timestamps and no ratings. A user may have several lines
    (`user item` a line is the same format), which are read in the order of the file.
    """

    name = "sequences"
    recorded_as = "marquee.data.sequences.Sequences"
    ordered = True

    def __init__(
        self,
        *,
        path: str,
        items_path: str | None = None,
        duplicates: Duplicates = "keep_all",
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(duplicates=duplicates, k_core=k_core, item_features=item_features, knock_out=knock_out)
        self.path = path
        self.items_path = items_path

    def sources(self, paths: Paths) -> dict[str, Path]:
        found = {"interactions": locate(self.path, paths, "data.path")}
        if self.items_path:
            found["items"] = locate(self.items_path, paths, "data.items_path")
        return found

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_sequences(path)

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_titles(path)


def read_sequences(path: Path) -> pd.DataFrame:
    """A frame with user and item (categorical), in the order of the file. A line without items is skipped.

    Raises DataError with the line for text that is not UTF-8, and for a file without any item.
    """
    content = read_bytes(path)
    if not content.endswith(b"\n"):
        content += b"\n"
    text = np.frombuffer(content, dtype=np.uint8)
    blank = (text == SPACE) | (text == TAB) | (text == NEWLINE) | (text == RETURN)
    starts = np.flatnonzero(~blank & np.concatenate([[True], blank[:-1]]))
    # Each token's line, then which tokens open one: vectorised, because a split per line costs five times as much.
    lines = np.searchsorted(np.flatnonzero(text == NEWLINE), starts)
    opens = np.concatenate([[True], lines[1:] != lines[:-1]])
    if opens.all():
        first = content.split(b"\n", 1)[0][:80].decode(errors="replace")
        raise DataError(
            f"{path}: no line has an item. Expected `user item item ...` with spaces or tabs between; line 1 is "
            f"{first!r}. For columns use data=interactions."
        )
    tokens = _tokens(path, content, text, blank)
    codes, ids = tokens.codes, tokens.categories
    users = np.repeat(codes[opens], np.diff(np.append(np.flatnonzero(opens), len(codes))) - 1)
    return pd.DataFrame(
        {
            "user": pd.Categorical.from_codes(users, ids),
            "item": pd.Categorical.from_codes(codes[~opens], ids),
        }
    )


def _tokens(path: Path, content: bytes, text: np.ndarray, blank: np.ndarray) -> pd.Categorical:
    one_a_line = np.where(blank, np.uint8(NEWLINE), text).tobytes()
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(one_a_line),
            read_options=pa.csv.ReadOptions(column_names=["token"], use_threads=False),
            parse_options=pa.csv.ParseOptions(delimiter="\x1f", quote_char=False),
            convert_options=pa.csv.ConvertOptions(column_types={"token": pa.dictionary(pa.int32(), pa.string())}),
        )
    except pa.ArrowInvalid as error:
        try:
            content.decode()
        except UnicodeDecodeError as wrong:
            line = content.count(b"\n", 0, wrong.start) + 1
            raise DataError(f"{path}, line {line}: byte {content[wrong.start]:#04x} is not UTF-8 text.") from error
        raise DataError(f"{path} cannot be parsed: {error}") from error
    return categorical(table.column("token"))
