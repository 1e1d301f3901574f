"""Board games as data: every position with the exact value of every move, or published positions with theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.games.boards import Board, BoardState
from marquee.data.games.dataset import Choices, GameData, Positions, as_truth
from marquee.data.games.environment import States
from marquee.data.games.solving import ILLEGAL, TooLarge, keys_of, position_of, solve
from marquee.data.games.spec import BoardSpec
from marquee.data.holdout import ExampleSplit
from marquee.data.sources import RawFile, find
from marquee.errors import ConfigError

CARRIED = 200_000  # states whose table travels with a run; larger ones are solved again where they are asked for


class Truth:
    """The exact value of each move, looked up by position; plays at random among the best ones.

    keys   int64 [n], ascending
    moves  int8 [n, n_actions]
    """

    def __init__(self, board: Board, keys: Tensor, moves: Tensor):
        self.board, self.keys, self.moves = board, keys, moves

    def values(self, state: BoardState) -> Tensor:
        """float32 [batch, n_actions], -inf where illegal, NaN where the position is not in the table."""
        keys = keys_of(self.board, state.own, state.all)
        rows = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        values = self.moves[rows].float()
        values = values.masked_fill(values == ILLEGAL, -float("inf"))
        return torch.where((self.keys[rows] == keys)[:, None], values, torch.nan)

    def __call__(self, states: States) -> Tensor:
        """Logits [batch, n_actions]: equal for the best moves."""
        values = self.values(states.state)
        best = values == values.amax(1, keepdim=True)
        return torch.zeros_like(values).masked_fill(~best, -float("inf"))


class BoardData(GameData):
    """Two players, stones in a line. After `setup` also:

    truth   the Truth of all positions; of a board that is too large to solve, of the published ones
    solved  whether that is every position

    Sub-classes say `board()`, and `scored` where positions with known scores are published. Mirror images and turns of
    a position land in one part.
    """

    spec_type = BoardSpec
    split_type = ExampleSplit

    truth: Truth
    solved: bool

    def board(self) -> Board:
        """The rules."""
        raise NotImplementedError

    def scored(self) -> tuple[RawFile, ...]:
        """The files of published positions that stand in for the whole board; empty where it is solved."""
        return ()

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        board = self.board()
        files = [find(raw, paths, self.name) for raw in self.scored()]
        self.solved = not files
        key: dict[str, Any] = {"width": board.width, "height": board.height, "connect": board.connect}
        if files:
            key["files"] = [raw.sha256[0] for raw in self.scored()]

        def make() -> dict[str, Tensor]:
            starts = scored_positions(board, files) if files else None
            try:
                found = solve(board, starts)
            except TooLarge as error:
                raise ConfigError(self.too_large(error)) from None
            if starts is not None:
                judged = np.searchsorted(found["keys"], np.unique(starts))
                found = {**found, "keys": found["keys"][judged], "moves": found["moves"][judged]}
            found["classes"] = classes(board, found["keys"])
            return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in found.items()}

        tables = self.prepared(paths, key, make)
        self.environment = board
        self.truth = Truth(board, tables["keys"], tables["moves"])
        values = self.truth.moves
        legal, best = values != ILLEGAL, values == values.amax(1, keepdim=True)
        self.decisive = (best.sum(1) < legal.sum(1)).numpy()
        cut = split.cut(self.decisive.astype(np.int64), tables["classes"].numpy())
        self.parts, self.split_fingerprint = cut.parts, cut.fingerprint
        n = len(values)
        self.report = {
            "positions" if self.solved else "published positions": int(tables["counts"].sum()) if self.solved else n,
            "where somebody has to move": n,
            "decisive": int(self.decisive.sum()),
            **cut.report,
        }
        shape = (board.planes, board.height, board.width)
        rules = {name: getattr(board, name) for name in ("width", "height", "connect", "drops", "threats")}
        self.spec = BoardSpec(shape, board.n_actions, 2, n if self.solved else 0, **rules)
        self.facts = {"solved": self.solved}
        carried = self.solved and n <= CARRIED
        self.tables = {"keys": self.truth.keys, "moves": values} if carried else {}

    def too_large(self, error: TooLarge) -> str:
        """What to say of a board that cannot be solved."""
        raise NotImplementedError

    def states(self, rows: np.ndarray) -> States:
        """The positions with these numbers, as a policy sees them."""
        index = torch.from_numpy(rows)
        seen = self.environment.see(BoardState(*position_of(self.environment, self.truth.keys[index])))
        return seen._replace(index=index)

    def positions(self, rows: np.ndarray) -> Positions:
        return Positions(self.states(rows), as_truth(self.truth.moves[rows].numpy(), ILLEGAL), torch.from_numpy(rows))

    def oracle(self) -> Truth:
        return self.truth

    def choices(self, rows: np.ndarray, turn: int = 0) -> Choices:
        """The positions with these numbers after one of the board's symmetries, with the values of their moves."""
        cells, actions = self.environment.symmetries[turn]
        found = self.positions(rows)
        observations = found.states.observations.flatten(2)[..., cells].view_as(found.states.observations)
        return Choices(observations, found.truth[:, actions])


def classes(board: Board, keys: np.ndarray) -> np.ndarray:
    """A number for each position that its mirror images and turns share: the least of their keys, int64 [n]."""
    own, everything = position_of(board, keys)
    least = keys
    for cells, _ in board.symmetries[1:]:
        least = np.minimum(least, keys_of(board, board.turned(own, cells), board.turned(everything, cells)))
    return least


def scored_positions(board: Board, files: list[Path]) -> np.ndarray:
    """The keys of published positions (a line each: columns played, a score), int64 [n]."""
    keys = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            moves = line.split()[0] if line.split() else ""
            try:
                own, everything = board.played([int(move) - 1 for move in moves])
            except (ValueError, ConfigError) as error:
                raise ConfigError(f"{file} line {number}: {error}") from None
            keys.append(keys_of(board, own, everything))
    return np.asarray(keys, dtype=np.int64)
