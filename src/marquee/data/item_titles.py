"""Item tables that a person brings: an id, a title and whatever else is known."""

from pathlib import Path

import pandas as pd

from marquee.data.tables import read_table
from marquee.errors import DataError

ID_COLUMNS = ("item_id", "item", "movieId", "id")


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
