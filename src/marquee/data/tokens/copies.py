"""Finds what a text has copied from the training texts, by an index of hashes that does not hold those texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marquee.data.tokens.coding import points

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Copy:
    """The longest stretch of a text that stands in training: its length and where it is, in both; length 0: none."""

    length: int
    begin: int = 0  # in the text
    document: str = ""
    place: int = 0  # the character of the training document


class Passages:
    """Hashes of all stretches of `size` characters of the training texts, in their order: 4 bytes a character.

    A stretch that is longer than `size` is one whose stretches follow each other in both texts: so its length is exact
    but for accidents, of which a run of `k` hashes needs k collisions of 32 bits.
    """

    def __init__(self, hashes: np.ndarray, starts: Sequence[int], titles: Sequence[str], size: int):
        self.hashes, self.size = hashes, size
        self.starts, self.titles = np.asarray(starts, dtype=np.int64), list(titles)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    @classmethod
    def of(cls, texts: Sequence[str], titles: Sequence[str], size: int) -> "Passages":
        joined = points("".join(texts))
        starts = np.cumsum([0, *map(len, texts)])[:-1]
        hashes = _hashes(joined, size)
        # A stretch over the border of two documents is a copy of neither; 0 stands for none.
        begins = np.repeat(starts, [len(text) for text in texts])[: len(hashes)]
        ends = np.repeat(starts + [len(text) for text in texts], [len(text) for text in texts])[: len(hashes)]
        hashes[np.arange(len(hashes)) + size > ends] = 0
        del begins
        return cls(hashes, starts.tolist(), titles, size)

    def longest(self, text: str) -> Copy:
        """The longest stretch of a text that training has, if it has one of `size` characters."""
        own = _hashes(points(text), self.size)
        first = np.searchsorted(self._sorted, own, "left")
        counts = np.searchsorted(self._sorted, own, "right") - first
        counts[own == 0] = 0
        total = int(counts.sum())
        if not total:
            return Copy(0)
        here = np.repeat(np.arange(len(own)), counts)
        offset = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        there = self._order[np.repeat(first, counts) + offset]
        # Stretches that follow each other in both texts lie on one diagonal, side by side.
        order = np.lexsort((here, there - here))
        here, there = here[order], there[order]
        breaks = np.flatnonzero(np.diff(here, prepend=-2) != 1)
        breaks = np.union1d(breaks, np.flatnonzero(np.diff(there - here, prepend=there[0] - here[0]) != 0))
        lengths = np.diff(np.append(breaks, total))
        best = int(lengths.argmax())
        place = int(there[breaks[best]])
        document = int(np.searchsorted(self.starts, place, "right")) - 1
        title = self.titles[document] if document < len(self.titles) else ""
        return Copy(
            int(lengths[best]) + self.size - 1, int(here[breaks[best]]), title, place - int(self.starts[document])
        )

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "starts": self.starts.tolist(), "titles": self.titles}

    def save(self, path: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"hashes": self.hashes.view(np.int32)}, path)

    @classmethod
    def load(cls, path: Path, content: Mapping[str, Any]) -> "Passages":
        from safetensors.numpy import load_file

        hashes = load_file(path)["hashes"].view(np.uint32)
        return cls(hashes, content["starts"], content["titles"], content["size"])


def _hashes(codes: np.ndarray, size: int) -> np.ndarray:
    """uint32 [n - size + 1], never 0, of all stretches: a polynomial modulo 2^64, its upper half."""
    n = len(codes) - size + 1
    if n < 1:
        return np.zeros(0, dtype=np.uint32)
    value = np.zeros(n, dtype=np.uint64)
    for place in range(size):
        value = value * _FACTOR + codes[place : place + n].astype(np.uint64) + np.uint64(1)
    value ^= value >> np.uint64(29)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    return np.maximum((value >> np.uint64(32)).astype(np.uint32), 1)
