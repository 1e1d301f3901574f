"""The figures of a comparison as files: SVG for the page of a paper, PNG for slides, PDF for LaTeX where asked for."""

import json
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from marquee.compare.report.figures import Figure, file_name
from marquee.compare.report.theme import paper
from marquee.errors import JobError
from marquee.files import replacing

FORMATS = ("svg", "png")
SCALE = 4  # pixels of a PNG for each of the figure: 384 to the inch


def write_plots(made: Sequence[Figure], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write every variant of every figure; returns the files. Files of the same name are replaced.

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
                        temporary.write_bytes(_as(form, drawn))
                    written.append(file)
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return written


def _named(figure: Figure) -> list[tuple[str, str]]:
    """(file name without its ending, complete specification as JSON) of each variant."""
    found = []
    for variant, specification in figure.variants.items():
        alone = len(figure.variants) == 1
        name = figure.name if alone else f"{figure.name}-{file_name(variant)}"
        title = figure.title if alone else f"{figure.title}: {variant}"
        found.append((name, json.dumps(paper(specification, figure.rows_of(specification), title))))
    return found


def _as(form: str, svg: str) -> bytes:
    if form == "pdf":
        return vl_convert.svg_to_pdf(svg)
    return vl_convert.svg_to_png(svg, scale=SCALE) if form == "png" else svg.encode("utf-8")
