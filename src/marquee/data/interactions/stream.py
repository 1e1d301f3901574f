"""Time as a stream: windows that come one after the other, each tested before it is trained on."""

import hashlib
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.interactions.splits import TEST, TRAIN, InteractionSplit, need_order
from marquee.errors import ConfigError, DataError
from marquee.seeding import numpy_generator

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions

WINDOWS = 10  # of data without periods


class Stream(InteractionSplit):
    """The timeline in windows: a model is tested on each window, and then trained on it (`task=stream`).

    Six interactions, windows=3:

    ======  =====  ======
    user    time   window
    ======  =====  ======
    Ann     1      0
    Bob     2      0
    Ann     5      1
    Cid     6      1
    Bob     8      2
    Cid     9      2
    ======  =====  ======

    Window 0 is only trained on. Ann's row of time 5 is predicted by a model that knows window 0, from what she had
    before; then window 1 trains. No row is predicted by a model that has seen it, or anything of its window; within
    the window a target's history holds what its user met before. A session is a user: it may lie in one window.

    Interactions of one second are never separated, so windows have about as many rows each. Data that comes in periods
    (data=diginetica) keeps those.

    windows   how many there are; None: as the periods of the data, 10 where it has none
    held_out  share of the users whose rows are never trained on: what is forgotten of old windows is measured on them
    seed      of that draw
    """

    chronological = True

    def __init__(
        self,
        *,
        windows: Annotated[int, Ge(2)] | None = None,
        held_out: Annotated[float, Interval(ge=0, lt=1)] = 0.05,
        seed: int = 0,
    ):
        self.windows = windows
        self.held_out = held_out
        self.seed = seed

    @property
    def validates(self) -> bool:
        return False

    def numbered(self, store: "Interactions") -> np.ndarray:
        """The window of each row, int64 [n], from 0.

        Raises ConfigError where the data has neither periods nor times, or periods and not `windows` of them, DataError
        where times are too few.
        """
        if store.periods:
            periods, found = np.unique(store.labels, return_inverse=True)
            if self.windows not in (None, len(periods)):
                raise ConfigError(
                    f"split.windows={self.windows}: this data comes in {len(periods)} periods, which are its windows.\n"
                    "  fix: split.windows=null"
                )
            return found.astype(np.int64)
        need_order(store, "stream")
        windows = self.windows or WINDOWS
        if store.timestamps is None:
            raise ConfigError(
                "split=stream cuts all users at the same moments, and this data has an order but no times. Use data "
                "with timestamps, or one that comes in periods (data=diginetica)."
            )
        ages = np.sort(store.timestamps)
        starts = ages[[len(ages) * window // windows for window in range(1, windows)]]
        found = np.searchsorted(starts, store.timestamps, side="right")
        if len(empty := np.flatnonzero(np.bincount(found, minlength=windows) == 0)):
            raise DataError(
                f"split.windows={windows}: window {empty[0]} is empty, because too many rows are of one moment. "
                "Take fewer windows."
            )
        return found

    def assign(self, store: "Interactions") -> np.ndarray:
        windows = self.numbered(store)
        return np.where(windows == windows.max(), TEST, TRAIN)

    def apart(self, store: "Interactions") -> np.ndarray:
        """Which rows are of users who are held out, bool [n]."""
        drawn = numpy_generator(self.seed, "held out").random(store.n_users) < self.held_out
        return drawn[store.users]

    def fingerprints(self, store: "Interactions", data_fingerprint: str) -> list[str]:
        """The sha256 of the membership of each window and of who is held out of it."""
        windows, apart, found = self.numbered(store), self.apart(store), []
        for window in range(int(windows.max()) + 1):
            digest = hashlib.sha256(f"{data_fingerprint}/{window}".encode())
            rows = np.flatnonzero(windows == window)
            digest.update(rows.astype("<i8").tobytes())
            digest.update(apart[rows].tobytes())
            found.append(digest.hexdigest())
        return found
