"""Examples to look at: pictures on a sheet, texts on a page, with what the model said of them."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from marquee.files import replacing, write_text

LONGEST = 1500  # characters of a text on a page
COLUMNS = 4
SIDE = 180  # pixels that a picture is enlarged to
LINE = 17
INK, VEIL = "#111111", 150


@dataclass(frozen=True)
class Cell:
    """One example on a sheet.

    pictures  uint8 [height, width, 3] each, side by side
    lines     of text below them
    """

    pictures: tuple[np.ndarray, ...]
    lines: tuple[str, ...]


def write_sheet(file: Path, title: str, cells: Sequence[Cell], note: str = "") -> None:
    """A PNG with the cells from left to right, row by row."""
    font, bold = ImageFont.load_default(size=13), ImageFont.load_default(size=16)
    drawn = [[_enlarged(picture) for picture in cell.pictures] for cell in cells]
    columns = COLUMNS // max(len(cell.pictures) for cell in cells)
    width = max(sum(image.width + 6 for image in row) for row in drawn) + 14
    width = max(width, 190)
    height = max(image.height for row in drawn for image in row) + LINE * max(len(cell.lines) for cell in cells) + 20
    rows = -(-len(cells) // columns)
    head = 40 + (LINE if note else 0)
    sheet = Image.new("RGB", (columns * width + 20, rows * height + head + 8), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((16, 12), title, INK, bold)
    if note:
        draw.text((16, 34), note, "#444444", font)
    for place, (cell, images) in enumerate(zip(cells, drawn, strict=True)):
        left, top = 16 + place % columns * width, head + place // columns * height
        across = left
        for image in images:
            sheet.paste(image, (across, top))
            across += image.width + 6
        for number, line in enumerate(cell.lines):
            foot = top + max(image.height for image in images) + 4
            draw.text((left, foot + number * LINE), _fitting(line, font, width - 12), INK, font)
    with replacing(file) as temporary:
        sheet.save(temporary, "PNG")


def unveiled(picture: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The picture where it speaks for the class, and the rest behind a grey veil: it reads without colour, too.

    `picture` uint8 [height, width, 3], `shares` [height, width], not negative.
    """
    light = 0.15 + 0.85 * (shares / (shares.max() or 1))[..., None]
    return (picture * light + VEIL * (1 - light)).round().astype(np.uint8)


def write_page(file: Path, title: str, body: Sequence[str], note: str = "") -> None:
    """An HTML page that needs nothing but itself; `body` is HTML."""
    head = f"<h1>{html.escape(title)}</h1>" + (f"<p class=note>{html.escape(note)}</p>" if note else "")
    page = f"<!doctype html>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width'>\n" \
           f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n<main>\n{head}\n"  # fmt: skip
    write_text(file, page + "\n".join(body) + "\n</main>\n")


def text_entry(head: str, text: str) -> str:
    """A text under a line that says what was thought of it, as HTML."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"
    return f"<article><h2>{html.escape(head)}</h2><p>{html.escape(cut)}</p></article>"


def heat_entry(head: str, words: Sequence[str], shares: np.ndarray, between: str = " ") -> str:
    """A text whose words are marked by their shares: blue and underlined for the class, orange and dashed against it.

    `shares` [words]; the deepest colour is the largest of them in this text.
    """
    most = float(np.abs(shares).max()) or 1.0
    marked = []
    for word, share in zip(words, (shares / most).tolist(), strict=True):
        shown = html.escape(word)
        if abs(share) >= 0.05:
            kind = "for" if share > 0 else "against"
            shown = f"<mark class={kind} style='--share:{abs(share):.2f}' title='{share * most:+.3f}'>{shown}</mark>"
        marked.append(shown)
    return f"<article><h2>{html.escape(head)}</h2><p>{between.join(marked)}</p></article>"


STYLE = """
:root{color-scheme:light}
body{margin:0;background:#fff;color:#111;font:15px/1.6 system-ui,Helvetica,Arial,sans-serif}
main{max-width:52rem;margin:0 auto;padding:1.2rem}
h1{font-size:1.3rem;margin:0 0 .3rem}h2{font-size:.95rem;margin:0 0 .2rem}
.note{color:#444;margin:.2rem 0 1rem}
article{border-top:1px solid #ccc;padding:.7rem 0;overflow-wrap:anywhere}article p{margin:0}
mark{color:inherit;padding:0 .1em;border-radius:2px}
.for{background:rgb(0 114 178/calc(var(--share)*.55));border-bottom:2px solid rgb(0 60 100/var(--share))}
.against{background:rgb(213 94 0/calc(var(--share)*.4));border-bottom:2px dashed rgb(140 50 0/var(--share))}
.key mark{--share:.8}
""".strip().replace("\n", "")


def _enlarged(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    scale = SIDE / max(image.size)
    method = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.BICUBIC
    return image.resize((round(image.width * scale), round(image.height * scale)), method)


def _fitting(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The line, cut where it is longer than so many pixels."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."
