"""A small world whose taste moves on from window to window, with the best score that anyone could reach in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.seeding import numpy_generator

VERSION = 1  # raised when the same seed gives another world
N_USERS, N_ITEMS, N_GENRES, WINDOWS = 400, 240, 6, 10
TASTE, APPEAL, MOST = 1.6, 0.8, 6  # MOST: picks of a user in a window, at most
LATE = 0.3  # share of the items that come into the world after window 0
FIRST_SECOND, WINDOW_SECONDS = 1_700_000_000, 7 * 86_400


@dataclass(frozen=True)
class Drift:
    """The world of a seed: who picked what in which window, and how likely each pick was.

    utilities  float64 [windows, n_users, n_items]: a pick is drawn with a chance proportional to exp of these; -inf
               where the item is not there yet
    users, items, windows, seconds  int64 [n], in the order of time
    """

    utilities: np.ndarray
    users: np.ndarray
    items: np.ndarray
    windows: np.ndarray
    seconds: np.ndarray


@lru_cache(maxsize=2)
def generate(seed: int, drift: float) -> Drift:
    """The world of a seed; always the same.

    Tastes of users and appeals of items are standard normal in every window, and each is sqrt(1 - drift^2) of what it
    was in the window before plus `drift` of something new. Picks are made with replacement.
    """
    rng = numpy_generator(seed, "drifting world")
    genres = np.eye(N_GENRES)[rng.integers(N_GENRES, size=N_ITEMS)]
    comes = np.where(rng.random(N_ITEMS) < LATE, rng.integers(1, WINDOWS, size=N_ITEMS), 0)
    tastes, appeals = rng.standard_normal((N_USERS, N_GENRES)), rng.standard_normal(N_ITEMS)
    stays = np.sqrt(1 - drift**2)
    utilities, parts = [], []
    for window in range(WINDOWS):
        if window:
            tastes = stays * tastes + drift * rng.standard_normal(tastes.shape)
            appeals = stays * appeals + drift * rng.standard_normal(appeals.shape)
        utility = np.round(TASTE * tastes @ genres.T + APPEAL * appeals, 6)  # the same wherever last bits differ
        utility[:, comes > window] = -np.inf
        counts = rng.integers(1, MOST + 1, size=N_USERS)
        users = np.repeat(np.arange(N_USERS), counts)
        gumbel = np.round(-np.log(-np.log(rng.random((len(users), N_ITEMS)))), 6)
        items = (utility[users] + gumbel).argmax(axis=1)  # draws from the softmax
        begin = FIRST_SECOND + window * WINDOW_SECONDS
        seconds = begin + np.sort(rng.choice(WINDOW_SECONDS, len(users), replace=False))
        order = rng.permutation(len(users))  # who comes when in the window
        parts.append((users[order], items[order], np.full(len(users), window), seconds))
        utilities.append(utility)
    return Drift(np.stack(utilities), *(np.concatenate(column) for column in zip(*parts, strict=True)))


class WorldDrift(InteractionData):
    """What 400 people picked in 10 windows. User ids are 1 ... 400, item ids 1 ... 240; most items are there at once.

    seed   of the world
    drift  how much of tastes and appeals is new in each window: 0 nothing, 1 everything
    """

    name = "world_drift"
    preparation = VERSION
    periods = True

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 1, drift: Annotated[float, Interval(ge=0, le=1)] = 0.3):
        super().__init__(duplicates="keep_all")
        self.seed = seed
        self.drift = drift

    def sources(self, paths: Paths) -> dict[str, Path]:
        return {}

    def read_interactions(self, path: Path) -> pd.DataFrame:
        raise NotImplementedError

    def read(self, sources: Mapping[str, Path]) -> Tables:
        world = generate(self.seed, self.drift)
        columns = {"user": world.users + 1, "item": world.items + 1, "timestamp": world.seconds, "label": world.windows}
        return Tables(pd.DataFrame(columns))

    def oracle(self) -> "DriftOracle":
        return DriftOracle(self)


class DriftOracle:
    """Ranks items by the chance that each is picked, which is known: in expectation nobody can do better."""

    def __init__(self, data: WorldDrift):
        self.utilities = generate(data.seed, data.drift).utilities
        self.store = data.store

    def score_events(self, rows: np.ndarray) -> Tensor:
        """float64 [rows, n_items] for the events in some rows of the store."""
        store = self.store
        found = self.utilities[store.labels[rows], store.user_ids[store.users[rows]] - 1]
        return torch.from_numpy(found[:, store.item_ids - 1])

    def score(self, users: Tensor, histories: object) -> Tensor:
        """float64 [batch, n_items]: what they pick in the last window, whatever they picked before."""
        return torch.from_numpy(self.utilities[-1][self.store.user_ids[users.numpy()] - 1][:, self.store.item_ids - 1])
