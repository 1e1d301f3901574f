"""The verbs that judge: `compare`, `export-paper`, `best`."""

import argparse
import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from marquee.cli.arguments import Verb, runs_option
from marquee.errors import JobError

if TYPE_CHECKING:
    from marquee.compare.results import Comparison

FORMATS = ["table", "md", "csv", "latex", "json", "html"]
PACKAGE = """DIR must be new or empty. It gets README.md, tables/ (LaTeX, CSV, Markdown, JSON), figures/ (SVG, PDF,
PNG), report.html, runs/ (record, configuration, curves, log), commands.txt, environment.txt and SHA256SUMS.
It needs the extra report: pip install 'marquee[report]'"""


def add_verbs(verb: Verb) -> None:
    parser = verb(
        "compare", compare, "marquee compare outputs", "marquee compare outputs --metric ndcg@10 recall@20 --by model",
        "marquee compare outputs --reference mf/bpr --output table.tex",
        "marquee compare outputs --output report.html --plots figures",
        note="PATH is a sweep (name or folder), an outputs folder (paths.output of the training) or a run's folder.\n"
             "(*) needs the extra report: pip install 'marquee[report]'",
    )  # fmt: skip
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    _add_choices(parser)
    parser.add_argument("--format", choices=FORMATS,
                        help="default: table, or by the ending of --output; html: a page with figures (*)")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a file, print nothing")
    parser.add_argument("--plots", type=Path, metavar="DIR",
                        help="also write scores, learning curves, quality against cost, importance, ranks and groups "
                             "into DIR, as SVG and PNG (*)")  # fmt: skip

    parser = runs_option(verb(
        "export-paper", export_paper, "marquee export-paper my-sweep paper", "marquee export-paper outputs paper",
        note=PACKAGE,
    ))  # fmt: skip
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's name, or a folder that marquee compare takes")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the package to write")
    _add_choices(parser)

    parser = verb(
        "best", best, "marquee best outputs", "marquee best outputs --metric ndcg@10",
        "marquee best outputs/sweeps/tune --save experiment/tuned",
        note="Chosen by the mean validation metric over seeds, never by the test part.",
    )  # fmt: skip
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="as for marquee compare")
    parser.add_argument("--metric", metavar="NAME", help="default: the metric that the runs were watched by")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="that the runs were composed with, as for check")
    parser.add_argument("--save", metavar="experiment/NAME", help="keep it as a recipe in the first folder of "
                      "MARQUEE_CONF, else in ./conf: marquee train experiment=NAME")  # fmt: skip


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", nargs="+", action="extend", metavar="NAME",
                        help="test metrics (default: the one that the runs were watched by)")  # fmt: skip
    parser.add_argument("--by", choices=["model"], help="one row a model: its best configuration on validation")
    parser.add_argument("--reference", metavar="NAME", help="a row to test the others against, besides the best")


def compare(parsed: argparse.Namespace) -> None:
    """Print the comparison, or write it to `--output`; without `--format` the file's ending says how.

    Raises ConfigError where a page or figures are asked for and the extra `report` is not installed.
    """
    from marquee.compare.analysis import compare as analyse
    from marquee.compare.formats import SUFFIXES, show, written

    form = parsed.format or (SUFFIXES.get(parsed.output.suffix) if parsed.output else None) or "table"
    if form == "html" or parsed.plots:
        from marquee.compare.report import need_report

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


def _drawn(parsed: argparse.Namespace, comparison: "Comparison", form: str) -> str | None:
    """Write the figures of `--plots`; the page, if it is asked for."""
    from marquee.compare.report.evidence import gather
    from marquee.compare.report.figures import figures
    from marquee.plots.paper import write_plots

    evidence = gather(parsed.paths)
    made = figures(comparison, evidence)
    if parsed.plots:
        files = write_plots(made, parsed.plots)
        print(f"{len(files)} figures written to {parsed.plots}", file=sys.stderr)
    if form != "html":
        return None
    from marquee.compare.report.page import page

    return page(comparison, evidence, list(map(str, parsed.paths)), parsed.output and parsed.output.parent, made)


def _plain(comparison: "Comparison") -> str:
    from marquee.compare.formats import show

    with contextlib.redirect_stdout(io.StringIO()) as stream:
        show(comparison)
    return stream.getvalue()


def _write(file: Path, text: str) -> None:
    from marquee.files import write_text

    try:
        write_text(file, text)
    except OSError as error:
        raise JobError(f"{file} cannot be written: {error.strerror or error}.") from error


def export_paper(parsed: argparse.Namespace) -> None:
    """Write a paper's package. Raises ConfigError as `compare` does, and for a folder that is not empty."""
    from marquee.compare.report import need_report

    need_report()
    from marquee.compare.paper import export

    warnings = export(
        parsed.sweep, parsed.folder, parsed.runs, parsed.metric or [], parsed.by == "model", parsed.reference
    )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written to {parsed.folder}; start with {parsed.folder / 'README.md'}")


def best(parsed: argparse.Namespace) -> None:
    """Print the winning configuration as a command, and keep it where `--save` asks for that."""
    from marquee.cli.composing import add_config_folder
    from marquee.compare.best import print_best

    add_config_folder(parsed.config_dir)
    print_best(parsed.paths, parsed.metric, parsed.save)
