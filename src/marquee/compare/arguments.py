"""The arguments of `marquee compare` and `marquee export-paper`. Imports nothing heavy: help must be quick."""

import argparse
from pathlib import Path

FORMATS = ["table", "md", "csv", "latex", "json", "html"]
PACKAGE = """DIR must be new or empty. It gets README.md, tables/ (LaTeX, CSV, Markdown, JSON), figures/ (SVG, PDF,
PNG), report.html, runs/ (record, configuration, curves, log), commands.txt, environment.txt and SHA256SUMS.
It needs the extra report: pip install 'marquee[report]'"""


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    _add_choices(parser)
    parser.add_argument("--format", choices=FORMATS,
                        help="default: table, or by the ending of --output; html: a page with figures (*)")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a file, print nothing")
    parser.add_argument("--plots", type=Path, metavar="DIR",
                        help="also write learning curves, quality against cost, importance, ranks and groups into DIR, "
                             "as SVG and PNG (*)")  # fmt: skip


def add_export_paper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's name, or a folder that marquee compare takes")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the package to write")
    _add_choices(parser)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", nargs="+", action="extend", metavar="NAME",
                        help="test metrics (default: the one that the runs were watched by)")  # fmt: skip
    parser.add_argument("--by", choices=["model"], help="one row a model: its best configuration on validation")
    parser.add_argument("--reference", metavar="NAME", help="a row to test the others against, besides the best")
