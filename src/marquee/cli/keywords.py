"""The verb `keywords`: the terms of a run's classes, or of texts."""

import argparse
from pathlib import Path

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.cli.use import check_output, give, locate, read_table
from marquee.errors import DataError


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "keywords", _keywords, "marquee keywords latest", "marquee keywords latest -n 20 --output keywords.csv",
        'marquee keywords 3fa9c1d2 --text "a slow start, but the last act is wonderful"',
        "marquee keywords latest --input reviews.csv --output keywords.parquet",
        note="Of classes by class-based TF-IDF over the training texts, and by the weights of linear models on\n"
             "n-grams; of texts by TF-IDF.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", nargs="+", metavar="TEXT", help="the words that stand out in one or more texts")
    what.add_argument("--input", type=Path, metavar="FILE",
                      help="likewise for a .csv, .tsv, .jsonl or .parquet with a column text")  # fmt: skip
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="how many for each (default 10)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")


def _keywords(parsed: argparse.Namespace) -> None:
    check_output(parsed.output)
    locate(parsed)
    from marquee.apply.keywords import keywords_of_classes, keywords_of_texts
    from marquee.apply.predictor import load

    predictor = load(parsed.folder)
    texts = parsed.text
    if parsed.input is not None:
        frame = read_table(parsed.input)
        if "text" not in frame:
            seen = ", ".join(map(str, frame.columns)) or "none"
            raise DataError(f"{parsed.input}: keywords needs a column 'text'; columns seen: {seen}.")
        texts = frame["text"].tolist()
    if texts is None:
        give(keywords_of_classes(parsed.folder, predictor, parsed.n), parsed.output)
    else:
        give(keywords_of_texts(predictor, texts, parsed.n), parsed.output)
