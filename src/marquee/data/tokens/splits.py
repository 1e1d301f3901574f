"""Train, validation and test of a corpus: whole documents, or where there is one alone, by position in it."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.dataset import Part, Split
from marquee.data.holdout import places
from marquee.errors import DataError
from marquee.seeding import numpy_generator

PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Piece(NamedTuple):
    """The characters `begin .. end-1` of a document."""

    document: int
    begin: int
    end: int


@dataclass(frozen=True)
class Pieces:
    """The pieces of each part in reading order, their fingerprint, and counts; `whole`: no document is cut."""

    parts: dict[Part, list[Piece]]
    whole: bool
    fingerprint: str
    report: dict[str, Any]


class TokenSplit(Split):
    """A protocol that assigns documents, or stretches of them, to parts."""

    @abstractmethod
    def cut(self, sizes: np.ndarray, content: np.ndarray, given: Sequence[str | None]) -> Pieces:
        """Cut documents.

        sizes    int64 [documents], characters
        content  int64 [documents], equal for equal texts
        given    the part that the data set itself puts a document in, or None
        """


class Documents(TokenSplit):
    """A random share of the documents validates, another tests. What the data set brings as a part stays that part.

    validation  share of the characters outside the data set's own parts; 0: no validation, all epochs are trained
    test        share of all characters; without effect where the data set brings its own test part
    seed        of the draw, kept apart from the run's seed

    Equal documents are never on two sides. Where all that may be cut is one document, the cut goes by position: its
    end tests and its beginning validates, so that what is tested goes on from what is trained on. Tiny Shakespeare
    shows what that is worth: a 5-gram model that has not the tenth before the test part needs 1.963 nats there, one
    that has not the first tenth 1.672, and one that has all 1.669. With validation=0.1, and an official test part:

        one document            |validation| train.................|  test (official)
        documents a b c d a' e  a, a' train   b train   c validation   d train   e train
    """

    def __init__(
        self,
        *,
        validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.validation, self.test, self.seed = validation, test, seed

    def cut(self, sizes: np.ndarray, content: np.ndarray, given: Sequence[str | None]) -> Pieces:
        found: dict[Part, list[Piece]] = {name: [] for name in PARTS}
        for number, name in enumerate(given):
            if name is not None:
                found[name].append(Piece(number, 0, int(sizes[number])))
        shares = {
            "test": 0.0 if found["test"] else self.test,
            "validation": 0.0 if found["validation"] else self.validation,
        }
        if sum(shares.values()) >= 1:
            raise DataError(f"split.validation={self.validation} and split.test={self.test} leave nothing to train on.")
        free = np.array([number for number, name in enumerate(given) if name is None], dtype=np.int64)
        whole = len(free) != 1
        if not whole:
            self._by_position(int(free[0]), int(sizes[free[0]]), shares, found)
        elif len(free):
            self._by_document(free, sizes, content, shares, found)
        for pieces in found.values():
            pieces.sort()
        report = {f"{name} characters": sum(end - begin for _, begin, end in pieces) for name, pieces in found.items()}
        report |= {f"{name} documents": len(pieces) for name, pieces in found.items() if len(sizes) > 2}
        needed = [name for name in PARTS if name != "validation" or shares["validation"]]
        for name in needed:
            if not report[f"{name} characters"]:
                raise DataError(
                    f"The {name} part is empty: {len(sizes)} documents, {int(sizes.sum()):,} characters, are too few "
                    f"for split.validation={self.validation} and split.test={self.test}. Bring more text."
                )
        told = {"protocol": "documents", **vars(self), "parts": {name: list(map(list, found[name])) for name in PARTS}}
        digest = hashlib.sha256(
            json.dumps(told, sort_keys=True).encode() + np.ascontiguousarray(content, "<i8").tobytes()
        )
        return Pieces(found, whole, digest.hexdigest(), report)

    def _by_position(self, number: int, size: int, shares: dict[str, float], found: dict[Part, list[Piece]]) -> None:
        test = size - round(size * shares["test"])
        first = round(size * shares["validation"])
        for name, begin, end in (("validation", 0, first), ("train", first, test), ("test", test, size)):
            if end > begin:
                found[name].append(Piece(number, begin, end))

    def _by_document(
        self, free: np.ndarray, sizes: np.ndarray, content: np.ndarray, shares: dict[str, float],
        found: dict[Part, list[Piece]],
    ) -> None:  # fmt: skip
        # Equal documents share a place; the places of the others are spread over 0 ... 1.
        place = places(np.zeros_like(free), content[free], numpy_generator(self.seed, "documents"))
        first = shares["test"] + shares["validation"]
        # By characters and not by number: one long play is worth many short ones.
        _, group = np.unique(place, return_inverse=True)
        lengths = np.bincount(group, sizes[free])
        middle = (np.cumsum(lengths) - lengths / 2) / max(lengths.sum(), 1)
        behind = middle[group]
        for number, where in zip(free.tolist(), behind.tolist()):
            name: Part = "test" if where < shares["test"] else "validation" if where < first else "train"
            found[name].append(Piece(number, 0, int(sizes[number])))
