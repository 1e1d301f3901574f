"""What is printed for a person: tables and lines that a terminal has room for, and nothing that steers it."""

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

_SHORT = 24  # text of at most so many letters is not broken in a table


class Coloured(str):
    """Text with a colour for the terminal."""

    colour: str | None

    def __new__(cls, text: str, colour: str | None = None) -> "Coloured":
        new = super().__new__(cls, text)
        new.colour = colour
        return new


def table(
    columns: Sequence[str] | None, rows: Sequence[Sequence[Any]], numbers: bool = False, spare: Sequence[str] = ()
) -> None:
    """Print a table: drawn at a terminal, aligned columns elsewhere; `numbers` right-aligns all but the first.

    A terminal that is too narrow gets no table that is wider than itself: columns named in `spare` are left out first,
    then what does not fit stands in further tables, each with the first column, which names the rows.
    """
    cells = [[printable("" if cell is None else cell if isinstance(cell, str) else str(cell)) for cell in row]
             for row in rows]  # fmt: skip
    if sys.stdout.isatty():
        room = terminal_width() or 80
        for number, piece in enumerate(_pieces(columns, cells, numbers, spare, room)):
            print(end="\n" if number else "")
            _draw(columns, cells, numbers, piece)
        return
    lines = [list(columns), *cells] if columns else cells
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))] if lines else []
    for line in lines:
        padded = [
            cell.rjust(width) if numbers and index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(padded).rstrip())


def _pieces(
    columns: Sequence[str] | None, cells: Sequence[Sequence[str]], numbers: bool, spare: Sequence[str], room: int
) -> list[dict[int, int]]:
    """The columns of each table to draw, with their widths; long text may be broken between words."""
    heads = columns or [""] * len(cells[0] if cells else ())
    if not heads:
        return []
    whole = [max(map(len, [head, *(row[index] for row in cells)])) for index, head in enumerate(heads)]
    words = [max(map(len, " ".join([head, *(row[index] for row in cells)]).split()), default=0)
             for index, head in enumerate(heads)]  # fmt: skip
    for index, head in enumerate(heads[1:], start=1):
        cell = max((len(row[index]) for row in cells), default=0)
        if numbers or max(len(head), cell) <= _SHORT:
            words[index] = max(words[index], cell)
    widest = max(words[1:], default=0) + 2
    first = max(min(whole[0], room * 2 // 5), min(words[0], max(room - widest, room // 2)))
    need = [first, *(min(word, room - first - 2) for word in words[1:])]
    # A column without a head is a mark on the one before it: these stay together.
    together: list[list[int]] = []
    for index in range(1, len(heads)):
        if together and columns and not heads[index]:
            together[-1].append(index)
        else:
            together.append([index])

    def wide(indices: Sequence[int]) -> int:
        return sum(need[index] + 2 for index in indices)

    for name in spare:
        if first + sum(map(wide, together)) > room:
            together = [part for part in together if heads[part[0]] != name]
    pieces: list[list[int]] = [[]]
    for part in together:
        if pieces[-1] and first + wide(pieces[-1]) + wide(part) > room:
            pieces.append([])
        pieces[-1] += part
    found = []
    for piece in pieces:
        widths, left = {0: first} | {index: need[index] for index in piece}, room - first - wide(piece)
        for index in widths:
            more = min(whole[index] - widths[index], max(left, 0))
            widths[index] += more
            left -= more
        found.append(widths)
    return found


def _draw(columns: Sequence[str] | None, cells: Sequence[Sequence[str]], numbers: bool, widths: dict[int, int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD if columns else None, show_header=bool(columns), pad_edge=False,
                  collapse_padding=True, show_edge=False)  # fmt: skip
    for index, width in widths.items():
        drawn.add_column(Text(columns[index]) if columns else "", justify="right" if numbers and index else "left",
                         style="bold" if not index and not columns else None, width=width, overflow="fold")  # fmt: skip
    for row in cells:
        drawn.add_row(*(Text(row[index], style=getattr(row[index], "colour", None) or "") for index in widths))
    Console(width=terminal_width()).print(drawn)


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, indent: str = "  ") -> str:
    """The text on lines that the terminal has room for, elsewhere as it is; paths and other long words stay whole."""
    text, width = printable(text), terminal_width()
    if width is None:
        return text
    lines = (textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
                           drop_whitespace=True, replace_whitespace=False) if len(line) > width else line
             for line in text.split("\n"))  # fmt: skip
    return "\n".join(lines)


def command(words: Sequence[str]) -> str:
    """Words as a command to paste; at a terminal on lines that it has room for, with a backslash between them."""
    quoted, width = [printable(shlex.quote(word)) for word in words], terminal_width()
    lines = [""]
    for word in quoted:
        if width is not None and lines[-1].strip() and len(lines[-1]) + len(word) + 3 > width:
            lines.append("     ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def printable(text: str) -> str:
    """The text without what steers a terminal (escape sequences in the names and messages of runs); colour is kept."""
    clean = _STEERING.sub("", text)
    return text if clean == text else Coloured(clean, getattr(text, "colour", None))


# C0 and C1 controls but tab and newline, and what turns the direction of writing.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
