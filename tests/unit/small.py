"""Interactions small enough to check by hand, in the shape that views, tasks and models expect."""

from types import SimpleNamespace

import numpy as np
import torch

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.store import Interactions
from marquee.data.spec import InteractionSpec


def interactions(rows: list[list[int]], n_items: int) -> Interactions:
    """One list of items a user, oldest first."""
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows]).astype(np.int32)
    return Interactions(
        users=users, items=np.asarray(sum(rows, []), dtype=np.int32), timestamps=None, values=None, labels=None,
        user_ids=np.arange(len(rows)), item_ids=np.arange(n_items), ordered=True, repeats=False,
    )  # fmt: skip


class SmallData:
    """Train, validation and test given as one list of items a user."""

    def __init__(self, train: list[list[int]], validation: list[list[int]], test: list[list[int]], n_items: int):
        self.spec = InteractionSpec(len(train), n_items)
        self.store = SimpleNamespace(repeats=False)
        self.report = dict.fromkeys(("targets_of_unseen_users", "targets_repeated", "targets_seen_before"), 0)
        self.parts = {
            "train": interactions(train, n_items),
            "validation": interactions(validation, n_items),
            "test": interactions(test, n_items),
        }
        known = [one + two for one, two in zip(train, validation, strict=True)]
        self._history = {"validation": self.parts["train"], "test": interactions(known, n_items)}

    def history(self, part: str) -> Interactions:
        return self._history[part]


def histories(*rows: list[int]) -> Histories:
    flat = interactions([list(row) for row in rows], n_items=0)
    return Histories(torch.from_numpy(flat.items.astype(np.int64)), torch.from_numpy(flat.offsets))
