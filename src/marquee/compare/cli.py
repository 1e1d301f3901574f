"""`marquee compare`: arguments in, tables or a file out."""

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from marquee.compare.analysis import compare as analyse
from marquee.compare.formats import SUFFIXES, show, written
from marquee.compare.results import Comparison
from marquee.errors import JobError


def compare(parsed: argparse.Namespace) -> None:
    """Print the comparison, or write it to `--output`; without `--format` the file's ending says how."""
    comparison = analyse(parsed.paths, parsed.metric or [], parsed.by == "model", parsed.reference)
    form = parsed.format or (SUFFIXES.get(parsed.output.suffix) if parsed.output else None) or "table"
    if form == "csv" and comparison.left_out:
        print(f"{len(comparison.left_out)} runs are not compared; --format table says why.", file=sys.stderr)
    if parsed.output is None:
        print(written(comparison, form), end="") if form != "table" else show(comparison)
        return
    _write(parsed.output, written(comparison, form) if form != "table" else _plain(comparison))
    print(f"written to {parsed.output}")


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
