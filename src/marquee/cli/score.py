"""The verb `score`: Parquet files through a finished run, in parts that a second command does not make again."""

import argparse
from pathlib import Path

from marquee.cli.arguments import Verb, positive, runs_option


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "score", _score, "marquee score latest --output scored", "marquee score latest --input reviews --output labels",
        "marquee score exported --input sessions --output scored -k 20 --engine ray",
        note="Input: .parquet files with a column user, or history (lists of ids or titles, oldest first), text, or\n"
             "image (bytes, or paths from where the file lies). Output: a file for each, its rows with items and\n"
             "scores, or with labels. The same command again scores only what is missing.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="or what marquee export has written")
    parser.add_argument("--input", type=Path, metavar="DIR", help="default: every known user of a recommender")
    parser.add_argument("--output", type=Path, metavar="DIR", required=True)
    parser.add_argument("-k", type=positive, default=10, help="how many items for each row (default 10)")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="local: one process (default)")
    parser.add_argument("--batch", type=positive, default=4096, metavar="ROWS",
                        help="rows in memory at a time (default 4096)")  # fmt: skip


def _score(parsed: argparse.Namespace) -> None:
    from marquee.cli.use import locate

    locate(parsed)
    from marquee.apply.scoring.parts import score

    there, made = score(parsed.folder, parsed.input, parsed.output, parsed.k, parsed.engine, parsed.batch)
    print(f"{made} part{'s' * (made != 1)} scored, {there} already there: {parsed.output}")
