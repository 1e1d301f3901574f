"""Cross-validation: every interaction is tested in one fold; the folds are drawn, or published as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval, MinLen

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import locate
from marquee.data.interactions.predefined import GENERATED, with_validation
from marquee.data.interactions.splits import TEST, TRAIN, VALIDATION, InteractionSplit
from marquee.errors import ConfigError
from marquee.seeding import numpy_generator

if TYPE_CHECKING:
    from marquee.data.interactions.store import Interactions


class KFold(InteractionSplit):
    """All interactions, shuffled, are dealt into folds of one size; each run tests one of them.

    Ten interactions, folds=5, no validation; x marks the two that are tested:

    ======  ==================
    fold    interactions
    ======  ==================
    0       x . . x . . . . . .
    1       . x . . . . . x . .
    ...     ...
    4       . . . . x . . . . x
    ======  ==================

    As Surprise's and scikit-learn's KFold do, which know nothing of users: a user with few interactions may have all of
    them in the test (counted as targets of unseen users). It leaks by design, as `split=ratio`: what is younger than
    a target is known. A comparison pools the folds.

    folds       how many there are; `fold` is this run's, from 0
    validation  share of what is not tested, drawn at random
    """

    chronological = False
    fold_key: ClassVar[str | None] = "fold"
    without_validation = "split.validation=0"

    def __init__(
        self,
        *,
        folds: Annotated[int, Ge(2)] = 5,
        fold: Annotated[int, Ge(0)] = 0,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        seed: int = 0,
    ):
        _refuse_unknown_fold(fold, folds)
        self.n_folds = folds
        self.fold = fold
        self.validation = validation
        self.seed = seed

    @property
    def folds(self) -> int:
        return self.n_folds

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def assign(self, store: "Interactions") -> np.ndarray:
        n = len(store)
        place = numpy_generator(self.seed, "folds").permutation(n)
        assigned = np.where(place * self.n_folds // n == self.fold, TEST, TRAIN)
        rest = np.flatnonzero(assigned == TRAIN)
        drawn = numpy_generator(self.seed, "folds/validation", self.fold).permutation(len(rest))
        assigned[rest[drawn < round(self.validation * len(rest))]] = VALIDATION
        return assigned


class FileFolds(InteractionSplit):
    """Folds that somebody published: a test file each, and all other interactions of the data train.

    ==========================  =========================
    split.test                  split.names
    ==========================  =========================
    ml-100k/u{}.test.gz         [1, 2, 3, 4, 5]
    ml-100k/u{}.test.gz         [a, b]
    ==========================  =========================

    u1.test ... u5.test share the 100,000 ratings of MovieLens 100K out; ua.test and ub.test have ten of each user.
    Leaks as `split=ratio` does where the files were drawn at random, as these were. A comparison pools the folds.

    test        path of the test files, {} standing for a name
    names       of the folds; `fold` is this run's place in them, from 0
    validation  random share of each user's other interactions
    seed        of that draw

    Raises DataError for a pair that the data does not have, or that stands in two files.
    """

    chronological = False
    fold_key: ClassVar[str | None] = "fold"
    without_validation = "split.validation=0"

    def __init__(
        self,
        *,
        test: str,
        names: Annotated[list[str | int], MinLen(2)],
        fold: Annotated[int, Ge(0)] = 0,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        seed: int = 0,
    ):
        _refuse_unknown_fold(fold, len(names))
        if "{}" not in test:
            raise ConfigError(f"split.test={test} must have {{}} where the names of the folds stand ({names}).")
        self.test = test
        self.names = list(map(str, names))
        self.fold = fold
        self.validation = validation
        self.seed = seed

    @property
    def folds(self) -> int:
        return len(self.names)

    @property
    def validates(self) -> bool:
        return self.validation > 0

    def sources(self, own: Mapping[str, Path], paths: Paths) -> dict[str, Path]:
        if "interactions" not in own:
            raise ConfigError(GENERATED)
        files = {f"fold{place}": locate(self.test.replace("{}", name), paths, "split.test")
                 for place, name in enumerate(self.names)}  # fmt: skip
        return dict(own) | files

    def parameters(self) -> dict[str, Any]:
        # The files count by their content, which the data fingerprint holds.
        return {"fold": self.fold, "validation": self.validation, "seed": self.seed}

    def assign(self, store: "Interactions") -> np.ndarray:
        if store.labels is None or store.periods:
            raise ConfigError(GENERATED)
        parts = np.where(store.labels == self.fold, TEST, TRAIN)
        return with_validation(store, parts, self.validation, self.seed)


def _refuse_unknown_fold(fold: int, folds: int) -> None:
    if fold >= folds:
        raise ConfigError(f"split.fold={fold}: the {folds} folds are numbered from 0 to {folds - 1}.")
