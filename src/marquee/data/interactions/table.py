"""Bring your own interactions: a CSV, TSV or Parquet file and which of its columns is what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import Column, Role, locate, read_interactions, read_table
from marquee.data.interactions.content import FeatureSources
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.joined import KnockOut
from marquee.errors import ConfigError, DataError

ID_COLUMNS = ("item_id", "item", "movieId", "id")
USER_COLUMNS = ("user_id", "user", "userId", "id")


class InteractionTable(InteractionData):
    """A file with one interaction a row, and optional tables of items and users.

    path        .csv, .tsv or .parquet, text also as .gz
    columns     the file's column for user, item and, where there are any, value and timestamp: by name, or by position
                from 0 in a file without header (all names or all positions)
    separator   between fields; None: a tab for .tsv, else a comma
    encoding    of text files
    ordered     rows stand oldest first, where there are no timestamps
    items_path  a table with an id, a title and whatever else is known of items
    users_path  likewise of users, no title needed

    Numeric ids stay numbers, others are strings. Timestamps are whole numbers or ISO 8601 dates.
    Raises ConfigError where `columns` lacks user or item, or mixes names and positions, and where there are timestamps
    and `ordered`, too.
    """

    name = "interactions"
    recorded_as = "marquee.data.interaction_table.InteractionTable"

    def __init__(
        self,
        *,
        path: str,
        columns: Mapping[Role, Column | None],
        separator: str | None = None,
        encoding: str = "utf-8",
        ordered: bool = False,
        items_path: str | None = None,
        users_path: str | None = None,
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        user_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(
            duplicates=duplicates,
            min_rating=min_rating,
            k_core=k_core,
            item_features=item_features,
            user_features=user_features,
            knock_out=knock_out,
        )
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
        if ordered and "timestamp" in self.columns:
            raise ConfigError(
                f"data.ordered=true: the order of the rows or data.columns.timestamp={self.columns['timestamp']} tells "
                "what came last. Give one of them."
            )
        self.ordered = ordered
        self.path = path
        self.separator = separator
        self.encoding = encoding
        self.items_path = items_path
        self.users_path = users_path

    def _parameters(self) -> dict[str, Any]:
        # Only where it is true, so that fingerprints are what they were before it could be said.
        return {name: value for name, value in super()._parameters().items() if name != "ordered" or value}

    def sources(self, paths: Paths) -> dict[str, Path]:
        found = {"interactions": locate(self.path, paths, "data.path")}
        if self.items_path:
            found["items"] = locate(self.items_path, paths, "data.items_path")
        if self.users_path:
            found["users"] = locate(self.users_path, paths, "data.users_path")
        return found

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_interactions(path, self.columns, self.separator, self.encoding)

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_titles(path)

    def read_users(self, path: Path) -> pd.DataFrame:
        return read_users(path)


def read_titles(path: Path) -> pd.DataFrame:
    """CSV, TSV or Parquet with a header that names the id (item_id, item, movieId or id) and `title`; or a .dat file
    as MovieLens writes it (`id::title::genres`, ISO-8859-1, no header).

    Raises DataError with the columns seen where one is missing.
    """
    if path.suffix == ".dat":
        return read_table(path, ["item_id", "title", "genres"], "::", encoding="latin-1", quoted=False)
    table = read_table(path, None, None)
    key = next((name for name in ID_COLUMNS if name in table.columns), None)
    if key is None or "title" not in table.columns:
        raise DataError(
            f"{path} needs a column for the id ({', '.join(ID_COLUMNS)}) and one called title. "
            f"Columns seen: {', '.join(table.columns)}."
        )
    return table.rename(columns={key: "item_id"})


def read_users(path: Path) -> pd.DataFrame:
    """CSV, TSV or Parquet with a header that names the id (user_id, user, userId or id) and whatever else is known.

    Raises DataError with the columns seen where there is no id.
    """
    table = read_table(path, None, None)
    key = next((name for name in USER_COLUMNS if name in table.columns), None)
    if key is None:
        raise DataError(
            f"{path} needs a column for the id ({', '.join(USER_COLUMNS)}). Columns seen: {', '.join(table.columns)}."
        )
    return table.rename(columns={key: "user_id"})
