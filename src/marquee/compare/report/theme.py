"""How charts look in a paper: plain, small and legible at the width of one column."""

from typing import Any

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
