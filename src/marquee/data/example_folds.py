"""Cross-validation of examples (texts, images): every example is tested in one fold."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.dataset import Part
from marquee.data.holdout import ExampleParts, ExampleSplit, membership, places, straddling
from marquee.errors import ConfigError, DataError
from marquee.seeding import numpy_generator


class StratifiedKFold(ExampleSplit):
    """The examples of each class, shuffled, are dealt into folds of one size; each run tests one of them.

    For data without an official test part. Ten texts of one class, folds=5, no validation; x marks the two that are
    tested:

    ======  ===================
    fold    texts
    ======  ===================
    0       x . . x . . . . . .
    1       . x . . . . . x . .
    ...     ...
    4       . . . . x . . . . x
    ======  ===================

    As scikit-learn's StratifiedKFold(shuffle=True) does, which knows nothing of copies. A comparison pools the folds.

    folds       how many there are; `fold` is this run's, from 0
    validation  share of what is not tested, drawn at random; 0 trains all epochs and keeps the last
    stratified  every class gives the same share
    duplicates  together: copies of one example land in one part
                ignore: copies are dealt as though they were different examples
    seed        of the draw; all folds share it

    Raises DataError where the data set brings a test part, or a part is empty.
    """

    fold_key: ClassVar[str | None] = "fold"

    def __init__(
        self,
        *,
        folds: Annotated[int, Ge(2)] = 10,
        fold: Annotated[int, Ge(0)] = 0,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        stratified: bool = True,
        duplicates: Literal["together", "ignore"] = "together",
        seed: Annotated[int, Ge(0)] = 0,
    ):
        if fold >= folds:
            raise ConfigError(f"split.fold={fold}: the {folds} folds are numbered from 0 to {folds - 1}.")
        self.n_folds = folds
        self.fold = fold
        self.validation = validation
        self.stratified = stratified
        self.duplicates = duplicates
        self.seed = seed

    @property
    def folds(self) -> int:
        return self.n_folds

    def cut(
        self,
        strata: np.ndarray,
        content: np.ndarray,
        test: np.ndarray | None = None,
        validation: np.ndarray | None = None,
    ) -> ExampleParts:
        if test is not None:
            raise DataError(
                f"split=stratified_k_fold deals all examples into folds, and these data have a test part of "
                f"{int(test.sum()):,} examples, which results are published on. Use split=holdout, which keeps it."
            )
        if not self.stratified:
            strata = np.zeros_like(strata)
        copies = None if self.duplicates == "ignore" else content
        place = places(strata, copies, numpy_generator(self.seed, "example folds"))
        part = np.where((place * self.n_folds).astype(np.int64) == self.fold, 2, 0)
        rest = np.flatnonzero(part == 0)
        if self.validation and len(rest):
            generator = numpy_generator(self.seed, "example folds/validation", self.fold)
            drawn = places(strata[rest], None if copies is None else copies[rest], generator)
            part[rest[drawn < self.validation]] = 1

        parts: dict[Part, np.ndarray] = {
            name: np.flatnonzero(part == code) for code, name in enumerate(("train", "validation", "test"))
        }
        report: dict[str, Any] = {
            "test examples whose copy stands in train or validation": straddling(content, part, (2,), (0, 1)),
            "validation examples whose copy stands in train": straddling(content, part, (1,), 0),
        }
        for name, rows in parts.items():
            report[f"{name} examples"] = len(rows)
            if not len(rows) and (name != "validation" or self.validation):
                raise DataError(
                    f"The {name} part of fold {self.fold} is empty: {len(strata)} examples are too few for "
                    f"split.folds={self.n_folds} and split.validation={self.validation}. Lower split.folds, or bring "
                    "more examples."
                )
        return ExampleParts(parts, membership("stratified k-fold", vars(self), parts), report)
