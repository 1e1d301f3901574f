"""Board games on bits: stones in a line, dropped into columns (Connect Four) or put anywhere (tic-tac-toe).

A side's stones are one integer. Cell (column, row from below) is bit column * (height + 1) + row; the bit above each
column stays empty, so that a shifted line never runs from one column into the next.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marquee.data.games.environment import Environment, States, Step

MOST_BITS = 62


class BoardState(NamedTuple):
    """own: stones of who has to move; all: stones of both; both int64 [batch]."""

    own: Tensor
    all: Tensor


class Board(Environment):
    """Two players put stones in turns; who first has `connect` of them in a line wins.

    width, height  columns and rows
    connect        stones in a line
    drops          a move names a column, and the stone falls; else it names a cell, in reading order
    threats        observations also show the empty cells that would complete a line, of either side

    Observations are float32 [batch, 2 or 4, height, width] from the view of who has to move: own stones, the other's,
    own threats, the other's. The top row comes first.
    """

    players = 2

    def __init__(self, width: int, height: int, connect: int, drops: bool, threats: bool = True):
        self.width, self.height, self.connect, self.drops, self.threats = width, height, connect, drops, threats
        self.n_actions = width if drops else width * height
        self.longest = width * height
        rise = height + 1
        self.n_bits = width * rise
        if self.n_bits > MOST_BITS:
            raise ValueError(f"a board of {width} x {height} needs {self.n_bits} bits, and there are {MOST_BITS}")
        self.bits = [(i % width) * rise + height - 1 - i // width for i in range(width * height)]  # of cells
        self.full = sum(1 << bit for bit in self.bits)
        self.directions = (1, rise, rise - 1, rise + 1)

    @property
    def planes(self) -> int:
        return 4 if self.threats else 2

    def start(self, n: int, drawn: Tensor | None = None) -> BoardState:
        nothing = torch.zeros(n, dtype=torch.int64)
        return BoardState(nothing, nothing)

    def put(self, everything: Any, actions: Any) -> Any:
        """The bit of the stone that a move adds, [batch]; `actions` may be one for all."""
        if not self.drops:
            return 1 << (self.cells.to(actions.device)[actions] if isinstance(actions, Tensor) else self.bits[actions])
        bottom = 1 << (actions * (self.height + 1))
        column = bottom * ((1 << self.height) - 1)
        return (everything + bottom) & column

    def wins(self, stones: Any) -> Any:
        """Whether a side has a line, bool [batch]."""
        found = stones != stones
        for shift in self.directions:
            line = stones
            for i in range(1, self.connect):
                line = line & (stones >> (i * shift))
            found = found | (line != 0)
        return found

    def completing(self, stones: Any, everything: Any) -> Any:
        """The empty cells with which a side would have a line, as bits [batch]."""
        found = stones & 0
        for shift in self.directions:
            for gap in range(self.connect):
                line = ~everything & self.full
                for i in range(self.connect):
                    if i != gap:
                        by = (i - gap) * shift
                        line = line & ((stones >> by) if by > 0 else (stones << -by))
                found = found | line
        return found & self.full

    def step(self, state: BoardState, actions: Tensor, drawn: Tensor | None = None) -> Step:
        stone = self.put(state.all, actions)
        own, everything = state.own | stone, state.all | stone
        won = self.wins(own)
        mover = self.mover(state)
        sign = 1.0 - 2.0 * mover.float()
        rewards = torch.stack([sign, -sign], dim=1) * won[:, None]
        return Step(BoardState(everything ^ own, everything), rewards, won | (everything == self.full))

    def played(self, actions: Sequence[int]) -> tuple[int, int]:
        """Own and all stones after these moves, from 0. Raises ValueError for an illegal or superfluous one."""
        own, everything = 0, 0
        for number, action in enumerate(actions, 1):
            if everything == self.full or self.wins(everything ^ own):
                raise ValueError(f"the game was over after {number - 1} moves, and {len(actions)} were given")
            if not 0 <= action < self.n_actions:
                what = "columns" if self.drops else "squares"
                raise ValueError(f"move {number} is {action + 1}; there are {what} 1 to {self.n_actions}")
            if everything & (1 << self._tops[action]):
                what = f"column {action + 1} is full" if self.drops else f"square {action + 1} is taken"
                raise ValueError(f"move {number} is illegal: {what}")
            stone = self.put(everything, action)
            own, everything = everything ^ own, everything | stone
        return own, everything

    def count(self, stones: Any) -> Any:
        """How many stones there are, [batch]."""
        return sum((stones >> bit) & 1 for bit in self.bits)

    def mover(self, state: BoardState) -> Tensor:
        parity = state.all  # of the number of stones, folded: a sixth of the time of counting them
        for by in (32, 16, 8, 4, 2, 1):
            parity = parity ^ (parity >> by)
        return parity & 1

    def see(self, state: BoardState) -> States:
        other = state.all ^ state.own
        shown = [state.own, other]
        if self.threats:
            shown += [self.completing(state.own, state.all), self.completing(other, state.all)]
        stacked = torch.stack(shown, dim=1)
        pictures = ((stacked[..., None] >> self.cells.to(stacked.device)) & 1).float()
        pictures = pictures.unflatten(2, (self.height, self.width))
        legal = (state.all[:, None] & self.tops.to(stacked.device)) == 0
        return States(pictures, legal, torch.full_like(state.own, -1), state)

    @cached_property
    def cells(self) -> Tensor:
        return torch.tensor(self.bits)

    @cached_property
    def tops(self) -> Tensor:
        """What a move must find empty."""
        return torch.tensor([1 << bit for bit in self._tops])

    @property
    def _tops(self) -> list[int]:
        rise = self.height + 1
        return [c * rise + self.height - 1 for c in range(self.width)] if self.drops else self.bits

    @cached_property
    def symmetries(self) -> list[tuple[list[int], list[int]]]:
        """Each symmetry of the rules as (cell that is shown at each cell, action that becomes each action)."""
        cells = torch.arange(self.longest).view(self.height, self.width)
        turned = [cells, cells.flip(1)]
        if not self.drops and self.width == self.height:
            turned = [torch.rot90(view, k) for view in turned for k in range(4)]
        elif not self.drops:
            turned += [view.flip(0) for view in turned]
        whole = [view.flatten().tolist() for view in turned]
        return [(view, [c % self.width for c in view[: self.width]] if self.drops else view) for view in whole]

    def turned(self, stones: Any, cells: list[int]) -> Any:
        """Stones after a symmetry: the cell i of the result shows the cell `cells[i]`."""
        found = stones & 0
        for target, source in zip(self.bits, (self.bits[cell] for cell in cells)):
            found = found | (((stones >> source) & 1) << target)
        return found
