"""Which item, or which user, does a person mean? Ids and titles looked up in indexes that are built once."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from itertools import islice
from numbers import Integral, Real
from typing import Any

import numpy as np

from marquee.data.interactions.known import INTEGER

NEAR = 200  # titles that are compared with an unknown name letter by letter


class Ids:
    """Original ids by position. A number is found where ids are numbers, text also where it is a plain whole number.

    ids  int64 [n] or object (strings) [n]
    """

    def __init__(self, ids: np.ndarray):
        self.whole = ids.dtype.kind == "i"
        self._positions = {value: position for position, value in enumerate(ids.tolist())}

    def position(self, name: Any) -> int | None:
        """None for an id that is not there, and for what could not be one (`1.5` or `foo` where ids are numbers)."""
        if isinstance(name, Real) and not isinstance(name, Integral):  # a column with missing values makes 1 into 1.0
            if not float(name).is_integer():
                return None
            name = int(name)
        if not self.whole:
            return self._positions.get(str(name))
        if isinstance(name, str):
            name = name.strip()
            return self._positions.get(int(name)) if INTEGER.fullmatch(name) else None
        return self._positions.get(int(name)) if isinstance(name, Integral) else None


class ItemNames:
    """Items by id, else by title: as written, else whatever the case. A number is always an id, never a title.

    ids     int64 or object [n]
    titles  [n]; of equal ones the first is found
    """

    def __init__(self, ids: np.ndarray, titles: Sequence[str]):
        self.ids = Ids(ids)
        self.titles = titles

    def position(self, name: Any) -> int | None:
        """The item's position, None for an unknown one."""
        position = self.ids.position(name)
        if position is not None or not isinstance(name, str):
            return position
        position = self._by_title.get(name)
        return self._by_folded.get(name.casefold()) if position is None else position

    def close(self, name: str, n: int = 3) -> list[str]:
        """Up to `n` titles that hold the name, else those that are spelt most like it."""
        part = name.casefold()
        holding = (title for title, folded in zip(self.titles, self._folded, strict=True) if part and part in folded)
        if found := list(islice(holding, n)):
            return found
        # The bound on the similarity that difflib calls quick_ratio, for all titles at once: 39,000 take 0.03 s, one
        # by one 5 s. Only the nearest of them are then compared properly.
        wanted, counts = _letters([part])[0], self._letters
        bound = 2 * np.minimum(counts, wanted).sum(1) / np.maximum(counts.sum(1) + wanted.sum(), 1)
        near = np.argsort(-bound, kind="stable")[:NEAR]
        ratios = [(SequenceMatcher(None, self._folded[i], part).ratio(), -i) for i in near.tolist() if bound[i] >= 0.4]
        best = sorted((pair for pair in ratios if pair[0] >= 0.4), reverse=True)[:n]
        return [self.titles[-i] for _, i in best]

    @cached_property
    def _by_title(self) -> dict[str, int]:
        return _first(self.titles)

    @cached_property
    def _by_folded(self) -> dict[str, int]:
        return _first(self._folded)

    @cached_property
    def _folded(self) -> list[str]:
        return [title.casefold() for title in self.titles]

    @cached_property
    def _letters(self) -> np.ndarray:
        return _letters(self._folded)


def _first(names: Iterable[str]) -> dict[str, int]:
    """The first position of each name."""
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, position)
    return positions


def _letters(texts: Sequence[str]) -> np.ndarray:
    """How often each text has each letter (bytes of UTF-8 modulo 64): int64 [texts, 64]."""
    encoded = [text.encode() for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in encoded])
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8) % 64
    return np.bincount(rows * 64 + letters, minlength=64 * len(texts)).reshape(-1, 64)
