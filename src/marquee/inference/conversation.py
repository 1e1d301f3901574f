"""What a conversation with a guide consists of: exchanges, the facts in them, and what is known of the visitor."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A fact that a guide states, and where it stands: the row's id and title, the column and what is in it."""

    row: Any
    title: str
    column: str
    value: str


@dataclass(frozen=True)
class Turn:
    """One exchange: what was said and how it was read, and what was answered, with the facts in it."""

    said: str
    intent: str
    probability: float
    slots: tuple[tuple[str, str], ...]
    reply: str
    claims: tuple[Claim, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Wish:
    """What is known of a visitor by now."""

    liked: list[int] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)
    kinds: list[str] = field(default_factory=list)
    decade: str | None = None
    lighter_than: int | None = None
    heavier_than: int | None = None
    offered: int | None = None
    asked: bool = False
    why: tuple[list[str], list[Claim]] = field(default_factory=lambda: ([], []))  # of what was offered


_DECADE = re.compile(r"\b([0-9]{2})?([0-9])0s\b|\b(thirt|fort|fift|sixt|sevent|eight|ninet)ies\b", re.I)
_TENS = ("", "", "", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet")


def decade_in(text: str) -> str | None:
    """The decade that a text names, as 1990s: also of 90s and nineties; 00s, 10s and 20s are of this century."""
    if (found := _DECADE.search(text)) is None:
        return None
    century, digit, word = found.groups()
    tens = int(digit) if word is None else _TENS.index(word.lower())
    return f"{century or (19 if tens > 2 else 20)}{tens}0s"


def spaced(message: str) -> str:
    """Marks apart from words, as the requests that a reader has learnt have them."""
    return " ".join("".join(f" {c} " if c in ",;!?" else c for c in message).rstrip(".! ?").split()) or message
