"""`marquee compare` and `marquee export-paper`: arguments in, tables, a page, figures or a folder out."""

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from marquee.compare.analysis import compare as analyse
from marquee.compare.formats import SUFFIXES, show, written
from marquee.compare.report import need_report
from marquee.compare.results import Comparison
from marquee.errors import JobError


def compare(parsed: argparse.Namespace) -> None:
    """Print the comparison, or write it to `--output`; without `--format` the file's ending says how.

    Raises ConfigError where a page or figures are asked for and the extra `report` is not installed.
    """
    form = parsed.format or (SUFFIXES.get(parsed.output.suffix) if parsed.output else None) or "table"
    if form == "html" or parsed.plots:
        need_report()
    comparison = analyse(parsed.paths, parsed.metric or [], parsed.by == "model", parsed.reference)
    if form == "csv" and comparison.left_out:
        print(f"{len(comparison.left_out)} runs are not compared; --format table says why.", file=sys.stderr)
    content = _drawn(parsed, comparison, form) if form == "html" or parsed.plots else None
    if form != "html":
        content = written(comparison, form) if form != "table" else None
    if parsed.output is not None:
        _write(parsed.output, content if content is not None else _plain(comparison))
        print(f"written to {parsed.output}")
    elif content is None:
        show(comparison)
    else:
        print(content, end="")


def _drawn(parsed: argparse.Namespace, comparison: Comparison, form: str) -> str | None:
    """Write the figures of `--plots`; the page, if it is asked for."""
    from marquee.compare.report.evidence import gather
    from marquee.compare.report.figures import figures
    from marquee.compare.report.plots import write_plots

    evidence = gather(parsed.paths)
    made = figures(comparison, evidence)
    if parsed.plots:
        files = write_plots(made, parsed.plots)
        print(f"{len(files)} figures written to {parsed.plots}", file=sys.stderr)
    if form != "html":
        return None
    from marquee.compare.report.page import page

    return page(comparison, evidence, list(map(str, parsed.paths)), parsed.output and parsed.output.parent, made)


def export_paper(parsed: argparse.Namespace) -> None:
    """Write a paper's package. Raises ConfigError as `compare` does, and for a folder that is not empty."""
    need_report()
    from marquee.compare.paper import export

    warnings = export(
        parsed.sweep, parsed.folder, parsed.runs, parsed.metric or [], parsed.by == "model", parsed.reference
    )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written to {parsed.folder}; start with {parsed.folder / 'README.md'}")


def _plain(comparison: Comparison) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        show(comparison)
    return stream.getvalue()


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(f"{file} cannot be written: {error.strerror or error}.") from error
