"""Groups of units whose scores are told apart: who belongs to which, and the gap between them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from marquee.errors import ConfigError

MOST_GROUPS = 25  # occupations of MovieLens are 21


class Groups(NamedTuple):
    """A way of grouping users."""

    names: list[str]
    of_user: np.ndarray  # int [n_users], a place in `names`; -1 belongs to none


def quartiles(values: np.ndarray, unit: str = "") -> tuple[list[str], np.ndarray]:
    """Names and numbers of the quarters; equal values stay together, so quarters may be unequal or fewer."""
    edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="lower"))
    places = np.searchsorted(edges, values, side="left")
    names, renamed = [], np.zeros(len(values), dtype=int)
    for place in np.unique(places):
        inside = values[places == place]
        low, high = _shown(inside.min()), _shown(inside.max())
        renamed[places == place] = len(names)
        names.append(f"{low} {unit}".strip() if low == high else f"{low} to {high} {unit}".strip())
    if len(set(names)) < len(names):  # quarters that four digits do not tell apart
        names = [f"{name}, quarter {place}" for place, name in enumerate(names, 1)]
    return names, renamed


def _shown(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"


def values_or_quartiles(column: pd.Series, key: str) -> tuple[list[str], np.ndarray]:
    """Groups by a column of a table: its values, or the quarters of its numbers where there are many.

    Rows without a value belong to none. Raises ConfigError for a column of many texts.
    """
    blank = column.isna() | (column.astype(str).str.strip() == "")
    values = column[~blank].astype(str).str.strip()
    of_row = np.full(len(column), -1)
    names = sorted(values.unique())
    if len(names) <= MOST_GROUPS:
        of_row[~blank.to_numpy()] = values.map({name: place for place, name in enumerate(names)})
        return names, of_row
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        raise ConfigError(f"{key} has {len(names):,} values, which are too many to tell apart ({MOST_GROUPS} at most).")
    names, of_row[~blank.to_numpy()] = quartiles(numbers.to_numpy())
    return names, of_row


def popularity_thirds(popularity: np.ndarray) -> np.ndarray:
    """0 for the most popular items that a third of all interactions fall on, 2 for the least popular, 1 between.

    Of items with equally many interactions those with the lower numbers come first.
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    third = np.empty(len(popularity), dtype=np.int64)
    third[order] = np.minimum(3 * before // max(popularity.sum(), 1), 2)
    return third


def by_group(table: pd.DataFrame, metric: str, groups: Mapping[str, Groups]) -> dict[str, float]:
    """`metric[attribute=group]`, the mean over the users of each group, and `gap_metric[attribute]`, between the best
    and the worst of them. Groups without users are left out."""
    found: dict[str, float] = {}
    for attribute, (names, of_user) in groups.items():
        places = of_user[table["user"].to_numpy()]
        values = table[metric].to_numpy()
        means = [
            (name, float(values[places == place].mean())) for place, name in enumerate(names) if (places == place).any()
        ]
        found |= with_gap(metric, attribute, means)
    return found


def with_gap(metric: str, attribute: str, means: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The means under their names, and the gap where there are several."""
    found = {f"{metric}[{attribute}={name}]": value for name, value in means}
    if len(means) > 1:
        values = [value for _, value in means]
        found[f"gap_{metric}[{attribute}]"] = max(values) - min(values)
    return found
