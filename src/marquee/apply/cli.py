"""`marquee recommend` and `marquee predict`: arguments in, a table or a file out."""

import argparse
import os
from pathlib import Path
from typing import Any

import pandas as pd

from marquee.apply.predictor import load
from marquee.errors import ConfigError, DataError, JobError
from marquee.inference.classifier import ImagePredictor, TextPredictor
from marquee.inference.recommender import RecommendPredictor

WRITERS = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".json": lambda frame, path: frame.to_json(path, orient="records", force_ascii=False, indent=1),
}
READERS = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
    ".tsv": lambda path: pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=str),
    ".parquet": pd.read_parquet,
}


def recommend(args: argparse.Namespace) -> None:
    """Serve `--user`, `--history`, `--like` or `--all-users`."""
    _check_output(args.output)
    predictor = load(args.folder)
    if not isinstance(predictor, RecommendPredictor):
        predictor.recommend()
    if args.user:
        table = predictor.recommend(users=args.user, k=args.k)
    elif args.all_users:
        table = predictor.recommend(k=args.k)
    else:
        history = args.history or _lines(args.like)
        table = predictor.recommend(histories=[history], k=args.k)
        table = table.drop(columns="user")
    _give(table, args.output)


def predict(args: argparse.Namespace) -> None:
    """Serve `--text`, `--image` or `--input`."""
    _check_output(args.output)
    predictor = load(args.folder)
    if isinstance(predictor, RecommendPredictor):
        raise ConfigError(
            f"{args.folder.name} recommends items; it has no labels to predict. "
            f"Type: marquee recommend {args.folder.name} --user ID"
        )
    wanted = "text" if isinstance(predictor, TextPredictor) else "image"
    given = "text" if args.text else "image" if args.image else None
    if given and given != wanted:
        raise ConfigError(
            f"{args.folder.name} classifies {wanted}s, and --{given} was given. Use --{wanted} or --input."
        )
    if args.input is None:
        inputs = args.text or args.image
        table = predictor.predict(inputs)
        table.insert(0, wanted, [str(value) for value in inputs])
    else:
        table = _predict_file(predictor, args.input, wanted)
    _give(table, args.output)


def _predict_file(predictor: TextPredictor | ImagePredictor, path: Path, column: str) -> pd.DataFrame:
    """The file's own columns with the predictions beside them."""
    frame = _read(path)
    if column not in frame:
        raise DataError(
            f"{path}: this run needs a column {column!r}; columns seen: {', '.join(map(str, frame.columns)) or 'none'}."
        )
    inputs = frame[column].tolist()
    if column == "image":
        # Paths in a table are meant from where the table lies.
        inputs = [image if Path(image).is_absolute() else path.parent / image for image in inputs]
    table = predictor.predict(inputs)
    return pd.concat(
        [frame.drop(columns=[name for name in table if name in frame]).reset_index(drop=True), table], axis=1
    )


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in READERS:
        raise DataError(f"{path}: unknown ending {path.suffix!r}; read are {', '.join(READERS)}.")
    try:
        return READERS[path.suffix](path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. --like takes a text file with one title or item id a line.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from None
    if not any(lines):
        raise DataError(f"{path} is empty. --like takes a text file with one title or item id a line.")
    return [line for line in lines if line]


def _check_output(path: Path | None) -> None:
    if path is not None and path.suffix not in WRITERS:
        raise ConfigError(f"--output {path}: unknown ending {path.suffix!r}; written are {', '.join(WRITERS)}.")


def _give(table: pd.DataFrame, output: Path | None) -> None:
    """Print a short table, or write a file in one step."""
    if output is None:
        print(_printed(table))
        return
    temporary = output.with_name(f".{output.name}-{os.getpid()}{output.suffix}")
    try:
        WRITERS[output.suffix](table, temporary)
        os.replace(temporary, output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(f"{output} cannot be written: {error.strerror or error}.") from error
    print(f"{len(table):,} rows written to {output}")


def _printed(table: pd.DataFrame) -> str:
    formats: dict[str, Any] = {name: "{:.4f}".format for name in table if table[name].dtype.kind == "f"}
    return table.to_string(index=False, formatters=formats, max_colwidth=60)
