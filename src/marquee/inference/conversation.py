"""What a conversation with a guide consists of: exchanges, the facts in them, and what is known of the visitor."""

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
