"""Names and messages of runs are foreign text: what each format needs so that they are read as text and do nothing."""

import re
from typing import Any

from marquee.runs.terminal import printable

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$",
}  # fmt: skip


def one_line(text: Any) -> str:
    """On one line, without control characters: it cannot leave a comment, a heading or a row."""
    return " ".join(printable(str(text)).split())


def in_latex(text: str) -> str:
    """Text of a table or caption."""
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def latex_row(cells: list[str]) -> str:
    """Escaped cells as a row. `\\\\` of the row before would take a leading bracket or star as its own."""
    row = " & ".join(cells)
    return ("{}" if row.startswith(("[", "*")) else "") + row + r" \\"


def in_markdown(text: str) -> str:
    """Text of a table, heading or paragraph: no HTML, no links or images, no emphasis, no code."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", one_line(text)).replace("<", "&lt;")
    return re.sub(r"([|*`\\]|(?<=\])[(\[:]|^[#>+-](?=\s|#))", r"\\\1", text)


def in_csv(value: Any) -> Any:
    """A value of a table that spreadsheets open: text that they would take for a formula begins with an apostrophe.

    https://owasp.org/www-community/attacks/CSV_Injection. Numbers are no text, and stay. A carriage return, which
    Python's writer does not quote, would end the row.
    """
    if not isinstance(value, str):
        return value
    formula = value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return ("'" if formula else "") + printable(value)
