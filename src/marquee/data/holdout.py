"""Validation and test cut from examples (texts, images) at random: stratified, seeded, with copies kept on one side."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.dataset import Part, Split
from marquee.errors import DataError
from marquee.seeding import numpy_generator


@dataclass(frozen=True)
class ExampleParts:
    """Row numbers of each part (int64, ascending), their fingerprint, and counts for the report."""

    parts: dict[Part, np.ndarray]
    fingerprint: str
    report: dict[str, Any]


class ExampleSplit(Split):
    """A protocol that assigns whole examples to parts."""

    @abstractmethod
    def cut(
        self,
        strata: np.ndarray,
        content: np.ndarray,
        test: np.ndarray | None = None,
        validation: np.ndarray | None = None,
    ) -> ExampleParts:
        """Cut `n` examples.

        strata      int64 [n], what stratification keeps in proportion: the class
        content     int64 [n], equal for equal contents
        test        bool [n], the official test part where the data set brings one, else None
        validation  bool [n], the official validation part where the data set brings one beside a test part, else None
        """


class Holdout(ExampleSplit):
    """A random share of each class becomes validation, another test; an official test part is kept as it is.

    validation  share of the examples outside an official test part (of all examples where there is none); without
                effect where the data set brings its own validation part
    test        share of all examples; without effect where the data set brings its own test part
    stratified  every class gives the same share
    duplicates  together: copies of one example land in one part; copies on both sides of an official border stay
                and are counted
                drop: as together, and training leaves out what also stands in the official test part
                ignore: copies are cut as though they were different examples
    seed        of the cut alone: the run's seed does not move examples

    Ten texts, two classes, copies marked by one letter; with validation=0.2, test=0.2, seed=0:

        class  +   +   +   +   +   -   -   -   -   -
        text   a   b   a   c   d   e   f   g   h   e
        part   val tr  val tr  tr  tr  tr  val te  tr
    """

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        stratified: bool = True,
        duplicates: Literal["together", "drop", "ignore"] = "together",
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.validation = validation
        self.test = test
        self.stratified = stratified
        self.duplicates = duplicates
        self.seed = seed

    def cut(
        self,
        strata: np.ndarray,
        content: np.ndarray,
        test: np.ndarray | None = None,
        validation: np.ndarray | None = None,
    ) -> ExampleParts:
        n = len(strata)
        part = np.zeros(n, dtype=np.int8)  # 0 train, 1 validation, 2 test, -1 left out
        test_share = self.test
        if test is not None:
            part[test] = 2
            test_share = 0.0
        elif self.validation + self.test >= 1:
            raise DataError(
                f"split.validation={self.validation} and split.test={self.test} leave nothing to train on; "
                "their sum must be below 1."
            )
        if validation is not None:
            part[validation] = 1
        else:
            rest = np.flatnonzero(part == 0)
            part[rest] = self._draw(strata[rest], content[rest], test_share)

        report: dict[str, Any] = {}
        if test is not None:
            border = straddling(content, part, (0, 1), 2)
            if self.duplicates == "drop":
                left_out = (part < 2) & np.isin(content, content[part == 2])
                part[left_out] = -1
                report["copies of test examples left out of train and validation"] = int(left_out.sum())
            else:
                report["train and validation examples whose copy stands in the official test part"] = border
        else:
            report["test examples whose copy stands in train or validation"] = straddling(content, part, (2,), (0, 1))
        report["validation examples whose copy stands in train"] = straddling(content, part, (1,), 0)

        parts: dict[Part, np.ndarray] = {
            name: np.flatnonzero(part == code) for code, name in enumerate(("train", "validation", "test"))
        }
        for name, rows in parts.items():
            report[f"{name} examples"] = len(rows)
            if not len(rows):
                raise DataError(
                    f"The {name} part is empty: {n} examples are too few for split.validation={self.validation} and "
                    f"split.test={self.test}. Raise the share of {name}, or bring more examples."
                )
        return ExampleParts(parts, membership("holdout", vars(self), parts), report)

    def _draw(self, strata: np.ndarray, content: np.ndarray, test_share: float) -> np.ndarray:
        """0, 1 or 2 for each example: within a stratum, shuffled groups of copies are dealt test, validation, train."""
        copies = None if self.duplicates == "ignore" else content
        generator = numpy_generator(self.seed, "holdout")
        # A class of one example has its middle at 0.5 and so stays in train by default.
        place = places(strata if self.stratified else np.zeros_like(strata), copies, generator)
        return np.where(place < test_share, 2, np.where(place < test_share + self.validation, 1, 0))


def places(strata: np.ndarray, content: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    """Where each example stands in its shuffled stratum, above 0 and below 1: float64 [n].

    Copies (equal `content`) stand in one place, the middle of theirs, so that no border passes between them; with None
    there are no copies.
    """
    n = len(strata)
    if content is None:
        group = np.arange(n)
    else:
        _, first, group = np.unique(content, return_index=True, return_inverse=True)
        # Groups are numbered by first appearance, so that the draw depends on order alone, not on hash values.
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        group = rank[group]
    sizes = np.bincount(group)
    _, head = np.unique(group, return_index=True)
    stratum = strata[head]
    order = np.lexsort((generator.random(len(head)), stratum))
    size, stratum = sizes[order], stratum[order]
    before = np.cumsum(size) - size
    starts = np.flatnonzero(np.r_[True, stratum[1:] != stratum[:-1]])
    totals = np.add.reduceat(size, starts)
    lengths = np.diff(np.r_[starts, len(stratum)])
    before = before - np.repeat(before[starts], lengths)
    of_group = np.empty(len(head))
    of_group[order] = (before + size / 2) / np.repeat(totals, lengths)
    return of_group[group]


def membership(protocol: str, settings: Mapping[str, Any], parts: dict[Part, np.ndarray]) -> str:
    """The sha256 of a protocol, its settings and the rows of each part."""
    digest = hashlib.sha256(json.dumps({"protocol": protocol, **settings}, sort_keys=True).encode())
    for name, rows in parts.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


def straddling(content: np.ndarray, part: np.ndarray, here: Any, there: Any) -> int:
    """How many examples of the parts `here` have a copy in the parts `there`."""
    inside = np.isin(part, here)
    return int(np.isin(content[inside], content[np.isin(part, there)]).sum())
