"""Tic-tac-toe and Connect Four."""

from typing import Annotated

from annotated_types import Interval

from marquee.data.games.board_data import BoardData
from marquee.data.games.boards import Board
from marquee.data.games.solving import TooLarge
from marquee.data.sources import RawFile
from marquee.errors import ConfigError

# Positions of Pascal Pons's test set with 29 to 41 stones: from there to the end all can be solved here.
LATE = RawFile(
    names=("connect-four/Test_L3_R1.txt",),
    sha256=("fc58de19af4e7b5bb40aac56548d52e922b86b559aa30e9c483c85ff0edf6be0",),
    origin="the test set End-Easy (Test_L3_R1) of Pascal Pons's Connect Four solver",
)
SCORED = (7, 6, 4)  # width, height and connect of these positions


class TicTacToe(BoardData):
    """Three in a row on 3 x 3: 5,478 positions, a draw between perfect players.

    threats  observations also show the cells that would complete a line
    """

    name = "tic_tac_toe"

    def __init__(self, *, threats: bool = False):
        self.threats = threats

    def board(self) -> Board:
        return Board(3, 3, 3, drops=False, threats=self.threats)


class ConnectFour(BoardData):
    """Stones dropped into columns; any board that can be solved, or 7 x 6 by its published positions.

    width, height  columns and rows
    connect        stones in a line that win
    threats        observations also show the cells that would complete a line
    """

    name = "connect_four"

    def __init__(
        self,
        *,
        width: Annotated[int, Interval(ge=2, le=10)] = 4,
        height: Annotated[int, Interval(ge=2, le=10)] = 5,
        connect: Annotated[int, Interval(ge=2, le=10)] = 4,
        threats: bool = True,
    ):
        self.width, self.height, self.connect, self.threats = width, height, connect, threats

    def board(self) -> Board:
        if self.connect > max(self.width, self.height):
            raise ConfigError(
                f"data.connect={self.connect}: no line of a {self.width} x {self.height} board is so long.\n"
                f"  fix: data.connect={max(self.width, self.height)} or less"
            )
        try:
            return Board(self.width, self.height, self.connect, drops=True, threats=self.threats)
        except ValueError as error:
            raise ConfigError(f"data.width, data.height: {error}.\n  fix: data.width=5 data.height=4") from None

    def scored(self) -> tuple[RawFile, ...]:
        return (LATE,) if (self.width, self.height, self.connect) == SCORED else ()

    def too_large(self, error: TooLarge) -> str:
        return (
            f"data.width={self.width} data.height={self.height}: this board is too large to solve here ({error}).\n"
            "  fix: data.width=4 data.height=5 (1.7 million positions), data.width=5 data.height=4 (3.9 million), or\n"
            "       data.width=7 data.height=6, which is judged by 1,000 published positions"
        )
