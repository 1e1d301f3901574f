"""The exact value of every position of a small board, by going backwards from the ends (retrograde analysis)."""

import math
from typing import Any

import numpy as np

from marquee.data.games.boards import MOST_BITS, Board
from marquee.errors import DataError

MOST = 50_000_000  # ways to put stones; some tenth of them can be reached: a few seconds, some 100 MB
ILLEGAL = -2
AT_ONCE = 1 << 20


class TooLarge(DataError):
    """A board with more positions than can be solved."""


def keys_of(board: Board, own: Any, everything: Any) -> Any:
    """One int64 a position, from its stones.

    Where stones drop, a column is the own stones below a bit that marks its height (Pons 2015), so that any board that
    fits has a key; elsewhere own and all stones stand side by side.
    """
    return own + everything + _bottoms(board) if board.drops else (own << board.n_bits) | everything


def position_of(board: Board, keys: Any) -> tuple[Any, Any]:
    """Own stones and all stones of keys."""
    if not board.drops:
        return keys >> board.n_bits, keys & ((1 << board.n_bits) - 1)
    rise = board.height + 1
    own, everything = keys & 0, keys & 0
    for column in range(board.width):
        bits = (keys >> (column * rise)) & ((1 << rise) - 1)
        below = bits >> 1  # every bit under the highest one: what lies there is a stone
        for by in (1, 2, 4, 8, 16):
            if by < rise:
                below = below | (below >> by)
        own = own | ((bits & below) << (column * rise))
        everything = everything | (below << (column * rise))
    return own, everything


def arrangements(board: Board, starts: np.ndarray) -> int:
    """In how many ways further stones may lie behind positions: more than can be reached, and known at once."""
    everything = position_of(board, starts)[1]
    free = [sum(1 - ((everything >> bit) & 1) for bit in bits) for bits in _heaps(board)]
    if not board.drops:
        return int(sum(3 ** int(n) for n in sum(free)))
    columns = np.stack(free, axis=1).tolist()
    return sum(math.prod(2 ** (n + 1) - 1 for n in column) for column in columns)


def _heaps(board: Board) -> list[list[int]]:
    """The bits of each column."""
    rise = board.height + 1
    return [[column * rise + row for row in range(board.height)] for column in range(board.width)]


def _bottoms(board: Board) -> int:
    return sum(1 << (column * (board.height + 1)) for column in range(board.width))


def solve(board: Board, starts: np.ndarray | None = None, most: int = MOST) -> dict[str, np.ndarray]:
    """All positions that can be reached from `starts` (keys; default: the empty board) where somebody has to move.

    keys    int64 [n], ascending
    moves   int8 [n, n_actions], the value of each move for who makes it: 1 wins, 0 draws, -1 loses, ILLEGAL
    counts  int64 [longest + 1], positions with so many stones, those included where the game is over

    Raises TooLarge, before anything is counted, where there are more than `most` ways to put stones.
    """
    if not board.drops and 2 * board.n_bits > MOST_BITS:
        raise TooLarge(f"positions of {board.width} x {board.height} cells do not fit into one integer")
    nothing = np.zeros(1, np.int64)
    starts = keys_of(board, nothing, nothing) if starts is None else np.unique(starts)
    if (ways := arrangements(board, starts)) > most:
        raise TooLarge(f"{ways:,} ways to put stones, {most:,} are allowed")
    stones = board.count(position_of(board, starts)[1])
    levels: list[np.ndarray] = []
    counts = np.zeros(board.longest + 1, np.int64)
    reached = np.zeros(0, np.int64)
    for n in range(board.longest + 1):
        level = np.union1d(reached, starts[stones == n])
        counts[n] += len(level)
        levels.append(level)
        found = [_children(board, level[i : i + AT_ONCE]) for i in range(0, len(level), AT_ONCE)]
        children = np.unique(np.concatenate([keys for keys, _ in found])) if found else np.zeros(0, np.int64)
        over = np.unique(np.concatenate([ends for _, ends in found])) if found else np.zeros(0, np.int64)
        if n < board.longest:
            counts[n + 1] += len(over)
        reached = children
    moves = [np.zeros((0, board.n_actions), np.int8)] * len(levels)
    after, values = np.zeros(0, np.int64), np.zeros(0, np.int8)
    for n in reversed(range(len(levels))):
        parts = [_judged(board, levels[n][i : i + AT_ONCE], after, values) for i in range(0, len(levels[n]), AT_ONCE)]
        moves[n] = np.concatenate(parts) if parts else moves[n]
        after, values = levels[n], moves[n].max(axis=1, initial=ILLEGAL)
    keys = np.concatenate(levels)
    order = np.argsort(keys)
    return {"keys": keys[order], "moves": np.concatenate(moves)[order], "counts": counts}


def _each(board: Board, keys: np.ndarray) -> Any:
    """For each action: which positions allow it, whether it wins, whether it fills the board, and what it leads to."""
    own, everything = position_of(board, keys)
    tops = board.tops.numpy()
    for action in range(board.n_actions):
        may = np.flatnonzero((everything & tops[action]) == 0)
        stone = board.put(everything[may], action)
        mine, whole = own[may] | stone, everything[may] | stone
        yield action, may, board.wins(mine), whole == board.full, keys_of(board, whole ^ mine, whole)


def _children(board: Board, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions after one move where the game goes on, and those where it is over, each once."""
    on, over = [], []
    for _, _, won, full, child in _each(board, keys):
        on.append(child[~(won | full)])
        over.append(child[won | full])
    return np.unique(np.concatenate(on)), np.unique(np.concatenate(over))


def _judged(board: Board, keys: np.ndarray, after: np.ndarray, values: np.ndarray) -> np.ndarray:
    moves = np.full((len(keys), board.n_actions), ILLEGAL, np.int8)
    for action, may, won, full, child in _each(board, keys):
        value = np.where(won, np.int8(1), np.int8(0))
        on = ~(won | full)
        value[on] = -values[np.searchsorted(after, child[on])]
        moves[may, action] = value
    return moves
