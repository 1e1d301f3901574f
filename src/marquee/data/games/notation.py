"""Positions as people write and draw them."""

from collections.abc import Sequence
from typing import Any

import torch

from marquee.data.games.boards import Board, BoardState
from marquee.errors import ConfigError

SIDES = "XO"


def read_board(board: Board, text: str) -> tuple[BoardState, list[int]]:
    """The position after the moves of `text`, and these, from 0: columns or squares from 1, such as 4453 or 4,4,5,3.

    Raises ConfigError for what is no such text, for an illegal move, and for a position where the game is over.
    """
    what = "columns" if board.drops else "squares"
    words = text.replace(",", " ").split() if "," in text or " " in text.strip() else list(text.strip())
    allowed = f"{what} 1 to {board.n_actions}, in the order played, such as {'4453' if board.n_actions == 7 else '213'}"
    if board.n_actions > 9:
        allowed += "; with commas where a number has two digits: 10,3"
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"--position {text!r} is no position of this game.\n  allowed: {allowed}")
    moves = [int(word) - 1 for word in words]
    try:
        own, everything = board.played(moves)
    except ValueError as error:
        raise ConfigError(f"--position {text!r}: {error}.\n  allowed: {allowed}") from None
    if (told := result(board, own, everything)) is not None:
        raise ConfigError(f"--position {text!r}: the game is over, {told}. There is no move to advise.")
    return state_of(own, everything), moves


def state_of(own: int, everything: int) -> BoardState:
    """One position as a batch."""
    return BoardState(torch.tensor([own]), torch.tensor([everything]))


def result(board: Board, own: int, everything: int) -> str | None:
    """How a game ended, in words; None where it goes on. `own` are the stones of who would have to move."""
    if board.wins(everything ^ own):
        return f"{SIDES[(board.count(everything) - 1) % 2]} has won"
    return "a draw" if everything == board.full else None


def draw_board(board: Board, own: int, everything: int) -> str:
    """A board in plain characters: X began, O came second; free squares show their number."""
    first = own if board.count(everything) % 2 == 0 else everything ^ own
    wide = len(str(board.n_actions))
    lines = []
    for row in range(board.height):
        cells = []
        for column in range(board.width):
            cell = row * board.width + column
            bit = 1 << board.bits[cell]
            free = "." if board.drops else str(cell + 1)
            cells.append((SIDES[0] if first & bit else SIDES[1] if everything & bit else free).rjust(wide))
        lines.append(" ".join(cells))
    if board.drops:
        lines.append(" ".join(str(column + 1).rjust(wide) for column in range(board.width)))
    return "\n".join(lines)


def read_state(names: Sequence[str], text: str) -> int:
    """The number of an information set. Raises ConfigError, with the closest ones, where there is none of that name."""
    from difflib import get_close_matches

    by_lower = {name.lower(): number for number, name in enumerate(names)}
    if text.strip().lower() in by_lower:
        return by_lower[text.strip().lower()]
    near = get_close_matches(text.lower(), list(by_lower), n=4, cutoff=0.4) or list(by_lower)[:4]
    shown = ", ".join(names[by_lower[name]] for name in near)
    raise ConfigError(
        f"--position {text!r} is no information set of this game, of which there are {len(names)}.\n"
        f"  allowed: your card and the moves so far, such as {shown}"
    )


def read_place(n_states: int, going: Any, text: str) -> int:
    """The number of a state of a map. Raises ConfigError for what is none, or where the game is over."""
    if not (text.strip().isascii() and text.strip().isdigit()) or int(text) >= n_states:
        raise ConfigError(
            f"--position {text!r} is no state of this game.\n  allowed: a number from 0 to {n_states - 1}"
        )
    if not bool(going[int(text)]):
        raise ConfigError(f"--position {text}: no game comes to this state and goes on, so there is no move to advise.")
    return int(text)
