"""Protocols that cut interactions into train, validation and test, and the check that nothing leaks between them."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval

from marquee.data.dataset import Part, Paths, Split
from marquee.errors import ConfigError, DataError
from marquee.seeding import numpy_generator

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions

# HISTORY: not trained on, but known when the user's targets are predicted (users who are held out, folded in).
TRAIN, VALIDATION, TEST, HISTORY, LEFT_OUT = 0, 1, 2, 3, -1


@dataclass(frozen=True)
class Cut:
    """A split applied: the parts share the store's ids; `assigned` int8 [n] is each row's code (TRAIN, ...)."""

    parts: "dict[Part, Interactions]"
    assigned: np.ndarray
    report: dict[str, Any]
    fingerprint: str


class InteractionSplit(Split):
    """Base of the protocols. A sub-class assigns each row of the store to a part; the rest is common.

    chronological       a user's targets are younger than the history they are predicted from
    without_validation  what to type for a split that has no validation part; empty where there is no such split
    """

    chronological: ClassVar[bool]
    without_validation: ClassVar[str] = ""

    @property
    def validates(self) -> bool:
        """Whether a validation part is asked for."""
        return True

    def sources(self, own: Mapping[str, Path], paths: Paths) -> dict[str, Path]:
        """The data set's own files by role, with those that the protocol brings or wants instead."""
        return dict(own)

    @abstractmethod
    def assign(self, store: "Interactions") -> np.ndarray:
        """int8 [n]: TRAIN, VALIDATION, TEST, HISTORY or LEFT_OUT for each row.

        Raises ConfigError where the protocol needs time and the data has none.
        """

    def cut(self, store: "Interactions", data_fingerprint: str) -> Cut:
        """The parts, checked for leaks, with a report and a fingerprint.

        Raises DataError for an empty part; validation may be empty where the split does not ask for it.
        """
        assigned = self.assign(store).astype(np.int8)
        parts = {
            "train": store.take(assigned == TRAIN),
            "validation": store.take(assigned == VALIDATION),
            "test": store.take(assigned == TEST),
        }
        for name in ("train", "test", "validation") if self.validates else ("train", "test"):
            if len(parts[name]) == 0:
                without = f", or do without it: {self.without_validation}" if self.without_validation else ""
                raise DataError(
                    f"{type(self).__name__} leaves {name} empty: {len(store):,} interactions of {store.n_users:,} "
                    "users. Loosen the filters (data.k_core, data.min_rating), give it a larger share or choose "
                    f"another split{without if name == 'validation' else ''}."
                )
        self.check(store, assigned)
        report = {f"{name}_interactions": len(part) for name, part in parts.items()}
        report |= self._describe(store, assigned)
        content = {"protocol": type(self).__name__, "parameters": self.parameters(), "data": data_fingerprint}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        digest.update(assigned.tobytes())
        return Cut(parts, assigned, report, digest.hexdigest())

    def parameters(self) -> dict[str, Any]:
        """What the protocol was given, for the fingerprint."""
        return dict(vars(self))

    def check(self, store: "Interactions", assigned: np.ndarray) -> None:
        """Raise DataError where a target stands before, or is older than, a row of the history it is predicted from."""
        if not self.chronological:
            return
        inside = np.flatnonzero(assigned >= 0)
        users, parts = store.users[inside], np.where(assigned == HISTORY, TRAIN, assigned)[inside]
        same_user = users[1:] == users[:-1]
        # Rows stand oldest first, so that within a user the parts may only go up: train, validation, test.
        wrong = same_user & (parts[1:] < parts[:-1])
        if store.timestamps is not None:
            times = store.timestamps[inside]
            wrong |= same_user & (times[1:] < times[:-1])
        if wrong.any():
            user = store.user_ids[users[1:][wrong][0]]
            raise DataError(f"The split leaks: user {user} has a target before a row of its own history.")

    def _describe(self, store: "Interactions", assigned: np.ndarray) -> dict[str, Any]:
        test = store.users[assigned == TEST]
        targets = np.bincount(test, minlength=store.n_users)
        trained = np.bincount(store.users[assigned == TRAIN], minlength=store.n_users) > 0
        folded = assigned == HISTORY
        known = np.zeros(store.n_items, dtype=bool)
        known[store.items[assigned == TRAIN]] = True
        described = {
            "left_out": int((assigned == LEFT_OUT).sum()),
            **({"history_only": int(folded.sum())} if folded.any() else {}),
            "users_without_targets": int((targets == 0).sum()),
            "targets_of_unseen_users": int((~trained[test]).sum()),
            "targets_of_unseen_items": int((~known[store.items[assigned == TEST]]).sum()),
            "targets_repeated": _targets_repeated(store, assigned),
            "targets_seen_before": _targets_seen_before(store, assigned),
        }
        if self.chronological and store.timestamps is not None:
            described["targets_on_ties_share"] = _share_on_ties(store, assigned)
        return described


class LeaveOneOut(InteractionSplit):
    """The last interaction of each user is its test target, the last but one its validation target (SASRec, BERT4Rec).

    ======  =====  ==========
    user    time   part
    ======  =====  ==========
    Ann     1      train
    Ann     4      validation
    Ann     6      test
    Bob     2      train
    Bob     3      train
    ======  =====  ==========

    Bob has fewer than three interactions: all of them train, and he has no targets (counted).
    Each user's own order is kept, but it leaks between users: training may hold Cid's row of time 9 when Ann's target
    of time 6 is predicted. What became popular later is known. Use `split=global_time` where that matters.
    """

    chronological = True

    def assign(self, store: "Interactions") -> np.ndarray:
        need_order(store, "leave_one_out")
        enough = np.diff(store.offsets) >= 3
        last = store.offsets[1:][enough] - 1
        assigned = np.zeros(len(store), dtype=np.int8)
        assigned[last] = TEST
        assigned[last - 1] = VALIDATION
        return assigned

    def _describe(self, store: "Interactions", assigned: np.ndarray) -> dict[str, Any]:
        too_few = int((np.diff(store.offsets) < 3).sum())
        return super()._describe(store, assigned) | {"users_with_too_few": too_few}


class Ratio(InteractionSplit):
    """A random share of each user's interactions is held out: 8:1:1 by default. No time is needed.

    ======  =====  ==========
    user    time   part
    ======  =====  ==========
    Ann     1      train
    Ann     2      test
    Ann     3      train
    Ann     4      validation
    Ann     5      train
    ======  =====  ==========

    Shares are rounded down, but a user with two interactions has one test target, and with three also one for
    validation. It leaks by design: Ann's rows of times 3 to 5 are known when that of time 2 is predicted. So it says
    how well tastes are filled in, not how well the future is foreseen.
    """

    chronological = False
    without_validation = "split.validation=0"

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: int = 0,
    ):
        refuse_all_held_out(validation, test)
        self.validation = validation
        self.test = test
        self.seed = seed

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        counts = np.diff(store.offsets)
        n_test = held_out(counts, self.test, at_least_from=2)
        n_validation = held_out(counts, self.validation, at_least_from=3)
        rank = shuffled_rank(store, self.seed)
        return np.select(
            [rank < n_test[store.users], rank < (n_test + n_validation)[store.users]], [TEST, VALIDATION], TRAIN
        ).astype(np.int8)


def refuse_all_held_out(validation: float, test: float) -> None:
    """Raise ConfigError where two shares leave nothing."""
    if validation + test >= 1:
        raise ConfigError(
            f"split.validation={validation} and split.test={test} leave nothing to train on; "
            "their sum must stay below 1."
        )


def held_out(counts: np.ndarray, share: float, at_least_from: int) -> np.ndarray:
    """How many of `counts` [n_users] interactions a share is, rounded down, but at least 1 from so many on."""
    # 0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: round off what is not meant.
    n = np.floor(np.round(counts * share, 9)).astype(np.int64)
    return np.where((share > 0) & (counts >= at_least_from), np.maximum(n, 1), 0)


def shuffled_rank(store: "Interactions", seed: int) -> np.ndarray:
    """int64 [n]: each row's place in a random order of its user's rows; a function of the seed alone."""
    # The keys are unique, so that the result does not depend on the sort that this machine's NumPy picks.
    n = len(store)
    keys = store.users * np.int64(n) + numpy_generator(seed, "split").permutation(n)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(keys)] = np.arange(n) - store.offsets[store.users]
    return rank


def need_order(store: "Interactions", protocol: str) -> None:
    if not store.ordered:
        raise ConfigError(
            f"split={protocol} needs to know which interaction came last, and this data has neither timestamps nor an "
            "order. Use split=ratio, or data that has them: the ratings file with its timestamp column, data.ordered="
            "true where the rows of the file stand oldest first, or data=sequences data.path=FILE (one user a line, "
            "oldest first)."
        )


def _share_on_ties(store: "Interactions", assigned: np.ndarray) -> float:
    """The share of targets that another row of the user, with the same timestamp, could have been instead."""
    change = (np.diff(store.users) != 0) | (np.diff(store.timestamps) != 0)
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    split_up = np.minimum.reduceat(assigned, starts) != np.maximum.reduceat(assigned, starts)
    hanging = np.repeat(split_up, np.diff(np.append(starts, len(store))))
    targets = (assigned == VALIDATION) | (assigned == TEST)
    return round(float((hanging & targets).sum() / max(targets.sum(), 1)), 6)


def _targets_seen_before(store: "Interactions", assigned: np.ndarray) -> int:
    """Test targets whose item also stands in the user's history: where seen items are masked, they are no targets."""
    if not store.repeats:
        return 0
    pairs = store.pairs()
    return int(among(pairs[assigned == TEST], pairs[np.isin(assigned, (TRAIN, VALIDATION, HISTORY))]).sum())


def _targets_repeated(store: "Interactions", assigned: np.ndarray) -> int:
    """Test targets that repeat another one of the same user and item: ranking counts each item once."""
    if not store.repeats:
        return 0
    pairs = store.pairs()[assigned == TEST]
    return len(pairs) - len(np.unique(pairs))


def among(some: np.ndarray, all_: np.ndarray) -> np.ndarray:
    """Mask of those of `some` that occur in `all_` (int64). np.isin takes ten times as long: 0.7 s for ML-1M."""
    all_ = np.sort(all_)
    place = np.searchsorted(all_, some)
    return all_[np.minimum(place, len(all_) - 1)] == some if len(all_) else np.zeros(len(some), dtype=bool)
