"""The verbs that put finished runs to use: `recommend`, `predict`, `sync`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.errors import ConfigError, DataError, JobError

if TYPE_CHECKING:
    import pandas as pd

WRITERS = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".json": lambda frame, path: frame.to_json(path, orient="records", force_ascii=False, indent=1),
}


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "recommend", _recommend, "marquee recommend latest --user 1",
        'marquee recommend latest --history "Heat (1995)" "Toy Story (1995)" -k 5',
        "marquee recommend 3fa9c1d2 --like favourites.txt --output recommended.csv",
        'marquee recommend 3fa9c1d2 --like-text "a quiet film about two sisters" --like-image poster.jpg',
        note="Items that the user has seen are left out, unless the run was judged with them (task.mask_seen=false).",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", nargs="+", metavar="ID", help="one or more users of the training data")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="titles or ids that somebody liked, oldest first")
    who.add_argument("--like", type=Path, metavar="FILE", help="a text file with one title or id a line, oldest first")
    who.add_argument("--all-users", action="store_true", help="every user of the training data")
    parser.add_argument("--like-text", metavar="TEXT", help="what an item nobody knows would read like, and/or ...")
    parser.add_argument("--like-image", type=Path, metavar="FILE", help="... look like; for runs whose features of "
                        "items come from runs that read such (data.item_features=[NAME:RUN])")  # fmt: skip
    parser.add_argument("-k", type=positive, default=10, help="how many items for each (default 10)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")

    parser = runs_option(verb(
        "predict", _predict, 'marquee predict latest --text "a slow start, but the last act is wonderful"',
        "marquee predict 3fa9c1d2 --image poster.jpg",
        "marquee predict latest --input reviews.csv --output labels.parquet",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", nargs="+", metavar="TEXT", help="one or more texts")
    what.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="one or more image files")
    what.add_argument(
        "--input", type=Path, metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet with a column text or image"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")

    parser = runs_option(verb(
        "sync", _sync, "marquee sync", "marquee sync latest", "marquee sync my-sweep --timeout 600",
        note="Log in first: wandb login. Runs keep their group, so those of a sweep stay together.",
    ))  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="RUN|SWEEP", help="default: every run")
    parser.add_argument("--timeout", type=positive, default=300, metavar="SECONDS",
                        help="for one run (default 300); the first that takes longer ends the whole")  # fmt: skip


def _recommend(parsed: argparse.Namespace) -> None:
    alike = parsed.like_text is not None or parsed.like_image is not None
    if alike == bool(parsed.user or parsed.history or parsed.like or parsed.all_users):
        raise ConfigError(
            "Give one of --user, --history, --like FILE and --all-users, or --like-text and --like-image (or both)."
        )
    locate(parsed)
    recommend(parsed)


def _predict(parsed: argparse.Namespace) -> None:
    locate(parsed)
    predict(parsed)


def _sync(parsed: argparse.Namespace) -> None:
    sync(parsed.names, parsed.runs, parsed.timeout)


def locate(parsed: argparse.Namespace) -> None:
    """Add `folder`, the run's folder or what was exported of one, to the arguments, and set the threads before torch
    is loaded."""
    from marquee.apply.predictor import export_at
    from marquee.runs.finding import find_run
    from marquee.runs.threads import set_threads

    parsed.folder = export_at(parsed.run) or find_run(parsed.run, parsed.runs)
    set_threads({})


# recommend and predict: arguments in, a table or a file out ----------------------------------------------------------


def recommend(parsed: argparse.Namespace) -> None:
    """Serve `--user`, `--history`, `--like`, `--all-users`, `--like-text` or `--like-image` with the run in
    `parsed.folder`."""
    from marquee.apply.predictor import load
    from marquee.inference.recommender import RecommendPredictor

    check_output(parsed.output)
    predictor = load(parsed.folder)
    if not isinstance(predictor, RecommendPredictor):
        predictor.recommend()  # which says what it does instead
    if parsed.like_text is not None or parsed.like_image is not None:
        table = predictor.recommend_like(text=parsed.like_text, image=parsed.like_image, k=parsed.k)
    elif parsed.user:
        table = predictor.recommend(users=parsed.user, k=parsed.k)
    elif parsed.all_users:
        table = predictor.recommend(k=parsed.k)
    else:
        history = parsed.history or lines(parsed.like, "--like takes a text file with one title or item id a line")
        table = predictor.recommend(histories=[history], k=parsed.k)
        table = table.drop(columns="user")
    give(table, parsed.output)


def predict(parsed: argparse.Namespace) -> None:
    """Serve `--text`, `--image` or `--input` with the run in `parsed.folder`."""
    from marquee.apply.predictor import load
    from marquee.inference.classifier import ClassPredictor

    check_output(parsed.output)
    predictor = load(parsed.folder)
    if not isinstance(predictor, ClassPredictor):
        predictor.predict()  # which says what it does instead
    wanted = predictor.takes
    given = "text" if parsed.text else "image" if parsed.image else None
    if given and given != wanted:
        raise ConfigError(f"{parsed.folder.name} {predictor.does}, and --{given} was given. Use --{wanted} or --input.")
    if parsed.input is None:
        inputs = parsed.text or parsed.image
        table = predictor.predict(inputs)
        table.insert(0, wanted, [str(value) for value in inputs])
    else:
        table = _predict_file(predictor, parsed.input, wanted)
    give(table, parsed.output)


def _predict_file(predictor: Any, path: Path, column: str) -> "pd.DataFrame":
    """The file's own columns with the predictions beside them."""
    import pandas as pd

    frame = read_table(path)
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


def read_table(path: Path) -> "pd.DataFrame":
    import pandas as pd

    readers = {
        ".csv": lambda: pd.read_csv(path, dtype=str, keep_default_na=False),
        ".tsv": lambda: pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=str),
        ".parquet": lambda: pd.read_parquet(path),
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: unknown ending {path.suffix!r}; read are {', '.join(readers)}.")
    try:
        return readers[path.suffix]()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def lines(path: Path, wanted: str) -> list[str]:
    """The lines of a text file that hold something. Raises DataError, which says what is wanted, for no such file."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. {wanted}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not any(found):
        raise DataError(f"{path} is empty. {wanted}.")
    return [line for line in found if line]


def check_output(path: Path | None) -> None:
    if path is not None and path.suffix not in WRITERS:
        raise ConfigError(f"--output {path}: unknown ending {path.suffix!r}; written are {', '.join(WRITERS)}.")


def give(table: "pd.DataFrame", output: Path | None) -> None:
    """Print a short table, or write a file in one step."""
    from marquee.files import replacing

    if output is None:
        _print(table)
        return
    try:
        with replacing(output) as temporary:
            WRITERS[output.suffix](table, temporary)
    except OSError as error:
        raise JobError(f"{output} cannot be written: {error.strerror or error}.") from error
    print(f"{len(table):,} rows written to {output}")


def _print(frame: "pd.DataFrame") -> None:
    from marquee.runs import terminal

    formats: dict[str, Any] = {name: "{:.4f}".format for name in frame if frame[name].dtype.kind == "f"}
    if terminal.terminal_width() is None:
        print(terminal.printable(frame.to_string(index=False, formatters=formats, max_colwidth=60)))
        return
    columns = [[formats.get(name, str)(value) for value in frame[name]] for name in frame]
    terminal.table([str(name) for name in frame], list(zip(*columns, strict=True)))


# sync: names in, the folders of their runs to W&B -------------------------------------------------------------------


def sync(names: Sequence[str], output: Path, timeout: float = 300, command: Sequence[str] | None = None) -> None:
    """Upload the offline W&B runs of `names` (runs or sweeps; none: all below `output`) and print what was done.

    Raises ConfigError for a name that is no run and no sweep, JobError as `sync_folders` does.
    """
    from marquee.runs.finding import run_folders
    from marquee.tracking.sync import WANDB, sync_folders

    folders = [folder for name in names for folder in folders_of(name, output)] if names else run_folders(output)
    where = " ".join(names) if names else str(output / "runs")
    sync_folders(folders, where, _is_running, timeout, command or WANDB)


def folders_of(name: str, output: Path) -> list[Path]:
    """The folder of a run, or those of the runs of a sweep. Raises ConfigError for a name that is neither."""
    from marquee.runs.finding import find_run
    from marquee.sweeps.store import Sweep, find_sweep

    try:
        return [find_run(name, output)]
    except ConfigError as error:
        try:
            sweep = Sweep.open(find_sweep(name, output))
        except ConfigError:
            raise error from None
    return sweep.run_folders()


def _is_running(folder: Path) -> bool:
    from marquee.runs.liveness import status_of
    from marquee.runs.record import read_manifest

    try:
        return status_of(folder, read_manifest(folder)) == "running"
    except ConfigError:  # an unreadable manifest: what W&B recorded may still be whole
        return False
