"""Protocols for whom or what training never saw: users who are held out and folded in, items that are new."""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Interval

from marquee.data.interactions.splits import (
    HISTORY,
    LEFT_OUT,
    TEST,
    TRAIN,
    VALIDATION,
    InteractionSplit,
    refuse_all_held_out,
)
from marquee.errors import ConfigError
from marquee.seeding import numpy_generator

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions


class UserHoldout(InteractionSplit):
    """Whole users are held out: a share of their interactions is folded in, the rest is to be found.

    Three users, Bob validates, Cid is tested; target=0.2:

    ======  =====  ==========
    user    item   part
    ======  =====  ==========
    Ann     1 - 5  train
    Bob     1 - 4  history
    Bob     5      validation
    Cid     1, 2   history
    Cid     3      test
    Cid     4, 5   history
    Cid     9      none
    ======  =====  ==========

    "Strong generalisation", the protocol of Liang et al. 2018 (Mult-VAE), section 4, draw by draw as its published code
    makes it: users by ascending id are permuted; of the held-out users only items that training knows stay (item 9
    is none), and users with fewer than five of those have no targets; targets are `int(target * n)` of a user's rows
    without replacement, from the same seed again for each part. Their rows are taken in the order of the item ids,
    in which MovieLens-20M stands. With data.min_rating=4, data.duplicates=keep_all, seed=98765, validation=10000 and
    test=10000 on MovieLens-20M the parts are the paper's.

    Only models that read histories can be judged. It leaks in time: targets may be older than what is folded in.

    validation, test  users: a number, or below 1 a share
    target            share of a held-out user's interactions that is to be found
    min_interactions  users with fewer are left out from the start
    """

    chronological = False

    def __init__(
        self,
        *,
        validation: Annotated[float, Gt(0)] = 0.1,
        test: Annotated[float, Gt(0)] = 0.1,
        target: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        min_interactions: Annotated[int, Ge(1)] = 5,
        seed: Annotated[int, Interval(ge=0, lt=2**32)] = 98765,
    ):
        self.validation = validation
        self.test = test
        self.target = target
        self.min_interactions = min_interactions
        self.seed = seed

    def assign(self, store: "Interactions") -> np.ndarray:
        users = np.flatnonzero(np.diff(store.offsets) >= self.min_interactions)
        n_validation, n_test = (
            int(n if n >= 1 else max(1, round(n * len(users)))) for n in (self.validation, self.test)
        )
        if n_validation + n_test >= len(users):
            raise ConfigError(
                f"split.validation={self.validation:g} and split.test={self.test:g} hold out {n_validation + n_test:,} "
                f"of {len(users):,} users with {self.min_interactions} interactions, which leaves none to train on."
            )
        # The legacy generator, whose draws NumPy keeps for ever, because the published parts were drawn with it.
        users = users[np.random.RandomState(self.seed).permutation(len(users))]
        part = np.full(store.n_users, LEFT_OUT)
        part[users[: -n_validation - n_test]] = TRAIN
        part[users[-n_validation - n_test : -n_test]] = VALIDATION
        part[users[-n_test:]] = TEST
        assigned = part[store.users]
        known = np.zeros(store.n_items, dtype=bool)
        known[store.items[assigned == TRAIN]] = True
        assigned[~known[store.items]] = LEFT_OUT
        for held in (VALIDATION, TEST):
            rows = np.flatnonzero(assigned == held)
            rows = rows[np.lexsort((store.items[rows], store.users[rows]))]
            assigned[rows[~self._targets(store.users[rows])]] = HISTORY
        return assigned

    def _targets(self, users: np.ndarray) -> np.ndarray:
        """Which rows are targets, bool [n]; `users` are grouped. One draw a user, as the published code draws."""
        generator = np.random.RandomState(self.seed)
        chosen = np.zeros(len(users), dtype=bool)
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else users
        for start, n in zip(starts, np.diff(np.r_[starts, len(users)]), strict=True):
            if n >= 5:
                chosen[start + generator.choice(n, size=int(self.target * n), replace=False)] = True
        return chosen


class NewItems(InteractionSplit):
    """Whole items are held out: training never saw them, so only what is known of them besides can find them.

    Five items; 4 validates, 5 is tested:

    ======  =====  ==========
    user    item   part
    ======  =====  ==========
    Ann     1      train
    Ann     2      train
    Ann     5      test
    Bob     1      train
    Bob     4      validation
    Cid     5      none
    ======  =====  ==========

    Cid has met nothing that trains; his rows are left out and counted. Models that know items by id alone score as
    random ones do here; those that read features (`data.item_features`) may do better. Old items compete with new ones
    unless task.candidates names a list. It leaks in time where items are drawn at random; with newest=true those are
    held out that were first met last, and only what other items' rows tell of later times leaks.

    validation, test  shares of the items
    newest            the items that appeared last, instead of random ones; needs times
    """

    chronological = False
    without_validation = "split.validation=0"

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        newest: bool = False,
        seed: int = 0,
    ):
        refuse_all_held_out(validation, test)
        self.validation = validation
        self.test = test
        self.newest = newest
        self.seed = seed

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        # Random order among equals, so that items that appeared in the same second have no order by their number.
        place = numpy_generator(self.seed, "new items").permutation(store.n_items)
        if self.newest:
            if store.timestamps is None:
                raise ConfigError("split.newest=true needs timestamps, and this data has none. Use split.newest=false.")
            first = np.full(store.n_items, np.iinfo(np.int64).max)
            np.minimum.at(first, store.items, store.timestamps)
            order = np.lexsort((place, -first))
            place[order] = np.arange(store.n_items)
        n_test, n_validation = (
            max(1, int(share * store.n_items)) if share else 0 for share in (self.test, self.validation)
        )
        part = np.where(place < n_test, TEST, np.where(place < n_test + n_validation, VALIDATION, TRAIN))
        assigned = part[store.items]
        trained = np.bincount(store.users[assigned == TRAIN], minlength=store.n_users) > 0
        return np.where(trained[store.users], assigned, LEFT_OUT)

    def _describe(self, store: "Interactions", assigned: np.ndarray) -> dict[str, Any]:
        tested = len(np.unique(store.items[assigned == TEST]))
        return super()._describe(store, assigned) | {"new_items_tested": tested}
