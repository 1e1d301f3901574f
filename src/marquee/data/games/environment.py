"""What every game promises: thousands are played at once, each step one operation on tensors."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor


class States(NamedTuple):
    """What a policy sees where somebody has to move.

    observations  float32 [batch, ...] in the shape that the spec says
    legal         bool [batch, n_actions]
    index         int64 [batch], the number of the state (of the information set) in the game's table, -1 without one
    state         the environment's own, of the same length, so that a search may go on from here
    """

    observations: Tensor
    legal: Tensor
    index: Tensor
    state: Any = None


class Step(NamedTuple):
    """What a move led to.

    state    of the environment
    rewards  float32 [batch, players]
    done     bool [batch], the game is over; what then stands in `state` means nothing
    """

    state: Any
    rewards: Tensor
    done: Tensor


class Environment(ABC):
    """The rules of a game over a batch of games. A state is a NamedTuple of tensors whose first dimension is the batch.

    players    who takes part
    n_actions  moves, legal or not
    longest    moves after which every game is over, or broken off (`breaks_off`)
    draws      uniform numbers that a start or a step asks for, for dice, cards and slippery ice
    """

    players: int
    n_actions: int
    longest: int
    draws: int = 0
    breaks_off: ClassVar[bool] = False

    @abstractmethod
    def start(self, n: int, drawn: Tensor | None = None) -> Any:
        """The states of `n` games where the first move is to be made; `drawn` float32 [n, draws]."""

    @abstractmethod
    def step(self, state: Any, actions: Tensor, drawn: Tensor | None = None) -> Step:
        """Make a legal move in each game."""

    @abstractmethod
    def see(self, state: Any) -> States:
        """What whoever has to move sees."""

    @abstractmethod
    def mover(self, state: Any) -> Tensor:
        """Who has to move, int64 [batch]."""


def rows(state: Any, chosen: Tensor) -> Any:
    """Those games of a state, or of States, that `chosen` (a mask, or numbers) names."""
    parts = (
        rows(part, chosen) if isinstance(part, tuple) else None if part is None else part[chosen] for part in state
    )
    return type(state)(*parts)
