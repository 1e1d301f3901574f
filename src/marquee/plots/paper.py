"""Figures as files: SVG for the page of a paper, PNG for slides, PDF for LaTeX where asked for.

They are plain, small and legible at the width of one column.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from marquee.errors import JobError
from marquee.files import replacing
from marquee.plots.figure import Figure

FORMATS = ("svg", "png")
SCALE = 4  # pixels of a PNG for each of the figure: 384 to the inch, as printers of papers ask for
SCREEN = 2  # enough to look at


def write_plots(
    made: Sequence[Figure], folder: Path, formats: Sequence[str] = FORMATS, scale: int = SCALE
) -> list[Path]:
    """Write every variant of every figure in each format; returns the files. Files of the same name are replaced.

    scale  pixels of a PNG for each of the figure

    Raises JobError where the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in made:
            for variant, specification in _named(figure):
                drawn = vl_convert.vegalite_to_svg(specification)
                for form in formats:
                    file = folder / f"{variant}.{form}"
                    with replacing(file) as temporary:
                        temporary.write_bytes(_as(form, drawn, scale))
                    written.append(file)
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return written


def _named(figure: Figure) -> list[tuple[str, str]]:
    """(file name without its ending, complete specification as JSON) of each variant."""
    found, stems = [], figure.stems()
    for variant, specification in figure.variants.items():
        title = figure.title if len(figure.variants) == 1 else f"{figure.title}: {variant}"
        found.append((stems[variant], json.dumps(paper(specification, figure.rows_of(specification), title))))
    return found


def _as(form: str, svg: str, scale: int) -> bytes:
    if form == "pdf":
        return vl_convert.svg_to_pdf(svg)
    return vl_convert.svg_to_png(svg, scale=scale) if form == "png" else svg.encode("utf-8")


FONT = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
WIDTH = 300  # pixels of the plotting area: with its axis about 3.5 inches, one column, at 96 to the inch
HEIGHT = 190


def paper(specification: dict[str, Any], rows: dict[str, list[dict[str, Any]]], title: str) -> dict[str, Any]:
    """A complete specification for a file: data inside, a title, colours for white paper."""
    sized = {"width": WIDTH, "height": HEIGHT, **specification}
    heading = {"text": title, "anchor": "start", "fontSize": 11.5, "fontWeight": "bold", "offset": 10}
    return {**inked(sized, "white"), "datasets": rows, "title": heading, "config": CONFIG, "background": "white",
            "padding": 8}  # fmt: skip


def inked(node: Any, paper_colour: str) -> Any:
    """The specification with its `halo` strokes (behind texts on lines) in the colour of the background."""
    if isinstance(node, dict):
        return {key: inked(value, paper_colour) for key, value in node.items()}
    if isinstance(node, list):
        return [inked(value, paper_colour) for value in node]
    return paper_colour if node == "halo" else node


CONFIG = {
    "font": FONT,
    "axis": {"labelFontSize": 10, "titleFontSize": 10.5, "titleFontWeight": "normal", "gridColor": "#e4e4e4",
             "domainColor": "#444", "tickColor": "#444", "labelColor": "#111", "titleColor": "#111", "titlePadding": 6},
    "legend": {"labelFontSize": 10, "titleFontSize": 10, "titleFontWeight": "normal", "labelColor": "#111",
               "titleColor": "#111"},
    "text": {"fontSize": 10, "color": "#111"},
    "rule": {"color": "#333"},
    "view": {"stroke": None},
    "title": {"color": "#111"},
}  # fmt: skip
