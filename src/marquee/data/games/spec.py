"""What a game tells a model about itself. The kind of game decides by type which learners suit it."""

from dataclasses import dataclass

from marquee.data.games.boards import Board
from marquee.data.spec import Spec


@dataclass(frozen=True)
class GameSpec(Spec):
    """A game in which `players` choose among `n_actions` moves.

    observation  the shape of what a player sees
    n_states     states (information sets) are numbered `0 .. n_states-1`; 0 where there are too many to number
    """

    observation: tuple[int, ...]
    n_actions: int
    players: int
    n_states: int


@dataclass(frozen=True)
class BoardSpec(GameSpec):
    """Two players who see everything, and no dice: stones in a line. See `Board` for the fields."""

    width: int
    height: int
    connect: int
    drops: bool
    threats: bool

    def rules(self) -> Board:
        """The game itself, for models that look ahead."""
        return Board(self.width, self.height, self.connect, self.drops, self.threats)


@dataclass(frozen=True)
class CardSpec(GameSpec):
    """Players who do not see each other's cards; a state is an information set."""


@dataclass(frozen=True)
class GridSpec(GameSpec):
    """One player on a map whose chances are known: a Markov decision process. `discount` is that of its values."""

    discount: float
