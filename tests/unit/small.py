"""Interactions small enough to check by hand, in the shape that views, tasks and models expect."""

from types import SimpleNamespace

import numpy as np
import torch

from marquee.data.interactions.histories import Histories
from marquee.data.spec import InteractionSpec


def interactions(rows: list[list[int]]) -> SimpleNamespace:
    """One list of items a user, oldest first."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    users = np.repeat(np.arange(len(rows)), np.diff(offsets)).astype(np.int32)
    return SimpleNamespace(users=users, items=np.asarray(sum(rows, []), dtype=np.int32), offsets=offsets)


class SmallData:
    """Train, validation and test given as one list of items a user."""

    def __init__(self, train: list[list[int]], validation: list[list[int]], test: list[list[int]], n_items: int):
        self.spec = InteractionSpec(len(train), n_items)
        self.store = SimpleNamespace(repeats=False)
        self.report = dict.fromkeys(("targets_of_unseen_users", "targets_repeated", "targets_seen_before"), 0)
        self.parts = {
            "train": interactions(train),
            "validation": interactions(validation),
            "test": interactions(test),
        }
        known = [one + two for one, two in zip(train, validation, strict=True)]
        self._history = {"validation": self.parts["train"], "test": interactions(known)}

    def history(self, part: str) -> SimpleNamespace:
        return self._history[part]


def histories(*rows: list[int]) -> Histories:
    flat = interactions([list(row) for row in rows])
    return Histories(torch.from_numpy(flat.items.astype(np.int64)), torch.from_numpy(flat.offsets))
