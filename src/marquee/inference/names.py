"""Which item, or which user, does a person mean? Ids and titles looked up in indexes that are built once."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from marquee.data.interactions.known import INTEGER
from marquee.errors import ConfigError
from marquee.inference.titles import TitleIndex

LONGEST_NAME = 300  # characters of an unknown name that are looked at


class Unknown(ConfigError):
    """A user or an item that a run does not know; `suggestions` are names that it does know."""

    def __init__(self, message: str, suggestions: Sequence[Any] = ()):
        super().__init__(message)
        self.suggestions = list(suggestions)


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
        return [self.titles[row] for row in self._index.close(name.casefold(), n)]

    def search(self, text: str, n: int = 10) -> list[int]:
        """Positions of up to `n` items: whose titles begin with the text, then that hold it, then spelt like it."""
        return self._index.search(text.casefold().strip(), n)

    def refuse(self, name: Any) -> "Unknown":
        """The error for a name that `position` does not know, with the closest titles."""
        close = self.close(str(name)[:LONGEST_NAME])
        hint = f" Close titles: {'; '.join(close)}." if close else ""
        return Unknown(f"{short(name)!r} is neither a title nor an item id of this run.{hint}", close)

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
    def _index(self) -> TitleIndex:
        return TitleIndex(self._folded)


def short(name: Any) -> Any:
    """A name as an error may repeat it."""
    return name if not isinstance(name, str) or len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "..."


def _first(names: Iterable[str]) -> dict[str, int]:
    """The first position of each name."""
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, position)
    return positions
