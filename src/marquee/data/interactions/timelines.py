"""Protocols that go by time: points that cut all users alike, windows that move on, the newest of each user."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Interval

from marquee.data.interactions.splits import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VALIDATION,
    InteractionSplit,
    held_out,
    need_order,
    refuse_all_held_out,
)
from marquee.errors import ConfigError, DataError

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions


class LeaveLastN(InteractionSplit):
    """The last `test` interactions of each user are tested, the `validation` before them validate.

    With test=2, validation=1:

    ======  =====  ==========
    user    time   part
    ======  =====  ==========
    Ann     1      train
    Ann     4      validation
    Ann     6      test
    Ann     7      test
    Bob     2      train
    Bob     3      train
    ======  =====  ==========

    Bob has not one interaction more than is held out, so all of his train (counted). Leaks between users as
    `split=leave_one_out`, which is test=1, validation=1, does. All targets of a user are predicted from the same
    history: that of time 7 does not know what was met at time 6.
    """

    chronological = True
    without_validation = "split.validation=0"

    def __init__(self, *, validation: Annotated[int, Ge(0)] = 1, test: Annotated[int, Ge(1)] = 1):
        self.validation = validation
        self.test = test

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        need_order(store, "leave_last_n")
        enough = np.diff(store.offsets) > self.validation + self.test
        left = store.offsets[1:][store.users] - np.arange(len(store))  # 1 for the newest of a user
        parts = np.select([left <= self.test, left <= self.test + self.validation], [TEST, VALIDATION], TRAIN)
        return np.where(enough[store.users], parts, TRAIN)

    def _describe(self, store: "Interactions", assigned: np.ndarray) -> dict[str, Any]:
        too_few = int((np.diff(store.offsets) <= self.validation + self.test).sum())
        return super()._describe(store, assigned) | {"users_with_too_few": too_few}


class TimeRatio(InteractionSplit):
    """The youngest share of each user's interactions is tested, the share before it validates: 8:1:1 by default.

    With validation=0.25, test=0.25:

    ======  =====  ==========
    user    time   part
    ======  =====  ==========
    Ann     1      train
    Ann     2      train
    Ann     5      validation
    Ann     6      test
    Bob     3      train
    Bob     4      test
    ======  =====  ==========

    Shares are rounded down, but a user with two interactions has one test target, and with three also one for
    validation. Within a user nothing leaks. Between users it does: training may hold what others did after Ann's target
    of time 6 (see `split=global_time`).
    """

    chronological = True
    without_validation = "split.validation=0"

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
    ):
        refuse_all_held_out(validation, test)
        self.validation = validation
        self.test = test

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        need_order(store, "time_ratio")
        counts = np.diff(store.offsets)
        n_test = held_out(counts, self.test, at_least_from=2)[store.users]
        n_validation = held_out(counts, self.validation, at_least_from=3)[store.users]
        left = store.offsets[1:][store.users] - np.arange(len(store))
        return np.select([left <= n_test, left <= n_test + n_validation], [TEST, VALIDATION], TRAIN)


class Timeline(InteractionSplit):
    """Base of the protocols whose parts follow one another in time, for all users alike."""

    chronological = True
    gap: int = 0

    def _cut_at(self, store: "Interactions", validation: int, test: int) -> np.ndarray:
        """Parts that begin at these times; what lies at most `gap` before either is left out, and so are the rows of
        users whom training does not know."""
        times = store.timestamps
        assigned = np.where(times >= test, TEST, np.where(times >= validation, VALIDATION, TRAIN))
        for begin, before in ((validation, TRAIN), (test, VALIDATION)):
            assigned = np.where((assigned == before) & (times >= begin - self.gap), LEFT_OUT, assigned)
        trained = np.bincount(store.users[assigned == TRAIN], minlength=store.n_users) > 0
        return np.where((assigned > TRAIN) & ~trained[store.users], LEFT_OUT, assigned)

    def check(self, store: "Interactions", assigned: np.ndarray) -> None:
        super().check(store, assigned)
        ranges = [store.timestamps[assigned == part] for part in (TRAIN, VALIDATION, TEST)]
        ranges = [times for times in ranges if len(times)]
        for older, younger in pairwise(ranges):
            if older.max() >= younger.min() - self.gap:
                raise DataError("The split leaks: a part holds interactions that are younger than the cut after it.")


class GlobalTime(Timeline):
    """Two points in time cut all users alike: the youngest share is test, the share before it validation.

    ======  =====  ==========
    user    time   part
    ======  =====  ==========
    Ann     1      train
    Bob     2      train
    Ann     5      validation
    Bob     8      test
    Cid     9      none
    ======  =====  ==========

    Interactions of the same second are never separated: all that happened at the cut belong to the younger part, so
    shares are approximate. Cid is unknown to training; his rows are left out and counted. Nothing leaks but what the
    filters before it know (a k-core counts interactions of the future). A `gap` leaves out what happened at most
    that long before either cut, as where a model is a day old before it is used: with gap=2, a row of time 3 would not
    train, nor one of time 6 validate.

    validation, test  shares of all interactions
    gap               in the unit of the timestamps: seconds
    """

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        gap: Annotated[int, Ge(0)] = 0,
    ):
        refuse_all_held_out(validation, test)
        self.validation = validation
        self.test = test
        self.gap = gap

    def parameters(self) -> dict[str, Any]:
        # Without a gap the fingerprint is what it was before there could be one.
        return {name: value for name, value in super().parameters().items() if name != "gap" or value}

    def assign(self, store: "Interactions") -> np.ndarray:
        ages, n = _times(store, "global_time"), len(store)
        # 5 * (1 - 0.4 - 0.2) is 1.9999999999999998: round off what is not meant.
        first_test = ages[min(int(round(n * (1 - self.test), 6)), n - 1)]
        first_validation = ages[int(round(n * (1 - self.test - self.validation), 6))]
        return self._cut_at(store, first_validation, first_test)


class SlidingWindows(Timeline):
    """The youngest part of the timeline is cut into windows; each run tests one and trains on what is older.

    Twelve interactions at times 1 ... 12, windows=3, share=0.25, so that a window has three, and validation=0.3 of a
    window, which is one, rounded up:

    ==========  ==========  ==========  =======
    window      train       validation  test
    ==========  ==========  ==========  =======
    0           1 - 2       3           4 - 6
    1           1 - 5       6           7 - 9
    2           1 - 8       9           10 - 12
    ==========  ==========  ==========  =======

    What is younger than the window is left out. With span=4, only rows at most 4 older than the first of validation
    train: in window 2 those of times 5 - 8. A comparison pools the windows as it does folds. As for leaks, see
    `split=global_time`.

    windows     how many there are; `window` is this run's, from 0, the oldest
    share       of all interactions in each window
    validation  what validates: the youngest of what is older than the window, as a share of a window
    gap         left out before validation and before test, in the unit of the timestamps: seconds
    span        how far back training reaches from the begin of validation, likewise; None: to the beginning
    """

    fold_key: ClassVar[str | None] = "window"

    def __init__(
        self,
        *,
        windows: Annotated[int, Ge(2)] = 5,
        window: Annotated[int, Ge(0)] = 0,
        share: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        validation: Annotated[float, Interval(gt=0, le=1)] = 0.5,
        gap: Annotated[int, Ge(0)] = 0,
        span: Annotated[int, Gt(0)] | None = None,
    ):
        if window >= windows:
            raise ConfigError(f"split.window={window}: windows are numbered from 0 to {windows - 1} (split.windows).")
        if share * (windows + validation) >= 1:
            raise ConfigError(
                f"split.windows={windows} of split.share={share}, and split.validation={validation} of one before the "
                "first, leave nothing to train on; take fewer or smaller ones."
            )
        self.windows = windows
        self.window = window
        self.share = share
        self.validation = validation
        self.gap = gap
        self.span = span

    @property
    def folds(self) -> int:
        return self.windows

    def assign(self, store: "Interactions") -> np.ndarray:
        ages, n = _times(store, "sliding_windows"), len(store)
        size = self.share * n
        begin = n - size * (self.windows - self.window)
        first_test, first_validation = (ages[int(round(place, 6))] for place in (begin, begin - size * self.validation))
        assigned = self._cut_at(store, first_validation, first_test)
        end = int(round(begin + size, 6))
        if end < n and self.window + 1 < self.windows:
            assigned = np.where(store.timestamps >= ages[end], LEFT_OUT, assigned)
        if self.span is not None:
            old = (assigned == TRAIN) & (store.timestamps < first_validation - self.span)
            assigned = np.where(old, LEFT_OUT, assigned)
            trained = np.bincount(store.users[assigned == TRAIN], minlength=store.n_users) > 0
            assigned = np.where((assigned > TRAIN) & ~trained[store.users], LEFT_OUT, assigned)
        return assigned


def _times(store: "Interactions", protocol: str) -> np.ndarray:
    """All timestamps, ascending."""
    if store.timestamps is None:
        raise ConfigError(
            f"split={protocol} needs timestamps, and this data has none. Use split=ratio, or split=leave_one_out "
            "where the order of the rows is known (data=sequences)."
        )
    return np.sort(store.timestamps)
