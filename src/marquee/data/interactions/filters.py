"""Which rows stay: the rule for duplicates, the minimum rating and the k-core. Each works on columns and counts."""

from typing import Literal

import numpy as np
import pandas as pd

Duplicates = Literal["keep_last", "keep_first", "keep_all"]


def without_duplicates(
    users: np.ndarray, items: np.ndarray, timestamps: np.ndarray | None, rule: Duplicates
) -> np.ndarray:
    """Mask [n] of the rows that stay where a user has met an item more than once.

    First and last are by timestamp, and by row where that ties or is not known.
    """
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    if rule == "keep_all" or len(pd.unique(pairs)) == len(pairs):
        return np.ones(len(pairs), dtype=bool)
    order = np.arange(len(pairs)) if timestamps is None else np.argsort(timestamps, kind="stable")
    twice = pd.Series(pairs[order]).duplicated(keep="last" if rule == "keep_last" else "first").to_numpy()
    keep = np.empty(len(pairs), dtype=bool)
    keep[order] = ~twice
    return keep


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Mask [n] of the largest set of rows in which every user and every item has at least `k` (Seidman 1983).

    Removing a row can starve its user and its item, so that rounds go on until nothing changes.
    """
    keep = np.ones(len(users), dtype=bool)
    if k <= 1:
        return keep
    while True:
        user_counts = np.bincount(users[keep], minlength=int(users.max(initial=0)) + 1)
        item_counts = np.bincount(items[keep], minlength=int(items.max(initial=0)) + 1)
        starved = keep & ((user_counts[users] < k) | (item_counts[items] < k))
        if not starved.any():
            return keep
        keep &= ~starved
