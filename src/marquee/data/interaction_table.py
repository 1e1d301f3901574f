"""Bring your own interactions: a CSV, TSV or Parquet file and which of its columns is what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge

from marquee.data.filters import Duplicates
from marquee.data.interactions import InteractionModule
from marquee.data.item_titles import read_titles
from marquee.data.module import Paths
from marquee.data.tables import Column, Role, locate, read_interactions
from marquee.errors import ConfigError


class InteractionTable(InteractionModule):
    """One row an interaction. `columns` maps user, item and, where there are any, value and timestamp to the file's
    columns: by name, or by position from 0 in a file without header (all names or all positions).

    Numeric ids stay numbers, others are strings. Timestamps are whole numbers or ISO 8601 dates.
    """

    name = "interactions"

    def __init__(
        self,
        *,
        path: str,
        columns: Mapping[Role, Column | None],
        separator: str | None = None,
        encoding: str = "utf-8",
        items_path: str | None = None,
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        k_core: Annotated[int, Ge(0)] = 0,
    ):
        super().__init__(duplicates=duplicates, min_rating=min_rating, k_core=k_core)
        self.columns = {role: column for role, column in columns.items() if column is not None}
        if missing := {"user", "item"} - set(self.columns):
            raise ConfigError(
                f"data.columns.{min(missing)} is missing: name the column with data.columns.{min(missing)}=NAME."
            )
        if len({type(column) for column in self.columns.values()}) > 1:
            raise ConfigError(
                f"data.columns={self.columns} mixes names and positions. Give names where the file has a header, "
                "else positions, counted from 0."
            )
        self.path = path
        self.separator = separator
        self.encoding = encoding
        self.items_path = items_path

    def sources(self, paths: Paths) -> dict[str, Path]:
        found = {"interactions": locate(self.path, paths, "data.path")}
        if self.items_path:
            found["items"] = locate(self.items_path, paths, "data.items_path")
        return found

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_interactions(path, self.columns, self.separator, self.encoding)

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_titles(path)
