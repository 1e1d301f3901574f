"""The arguments that several verbs share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

# verb(name, act, *examples, note=""): the parser of a verb, which calls `act` with what it has parsed.
Verb = Callable[..., argparse.ArgumentParser]


def runs_option(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add `--runs`: where runs are looked for by name."""
    default = Path(os.environ.get("MARQUEE_OUTPUT", "outputs"))
    parser.add_argument("--runs", type=Path, default=default, metavar="FOLDER",
                        help=f"where runs land, paths.output of the training (default {default})")  # fmt: skip
    return parser


def positive(text: str) -> int:
    """An integer >= 1, as a type of argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer >= 1")
    return int(text)
