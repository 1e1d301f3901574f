"""The verbs that change what a finished run knows: `update`, `forget`."""

import argparse
from pathlib import Path

from marquee.cli.arguments import Verb, positive, runs_option


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "update", _update, "marquee update latest --events new.csv",
        "marquee update 3fa9c1d2 --events new.csv --certify",
        note="Events are a .csv, .tsv, .jsonl or .parquet file with a header: user, item, and timestamp and value\n"
        "where the run's data has them; text and label, or image and label, for classifiers. The run itself stays\n"
        "as it is; its child is a run of its own. Events of the run's validation or test part are refused.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--events", type=Path, required=True, metavar="FILE", help="what has happened since")
    parser.add_argument("--replay", type=_share, default=1.0, metavar="SHARE", help="old users or examples that train "
                        "beside each new one, where a model is trained on (default 1)")  # fmt: skip
    parser.add_argument("--epochs", type=positive, default=5, metavar="N",
                        help="epochs, or sweeps, of a model that is trained on (default 5)")  # fmt: skip
    _common(parser)

    parser = runs_option(verb(
        "forget", _forget, "marquee forget latest --user 17", "marquee forget 3fa9c1d2 --user 17 22 --certify",
        note="Exact where the model has a closed form, otherwise trained anew without them. Their ids are in no file\n"
        "of the child. The run itself, and the data that it was made of, stay as they are: delete those, too.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--user", nargs="+", required=True, metavar="ID", help="one or more users of the training data")
    _common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--certify", action="store_true", help="train another from scratch on all of it, and compare")
    parser.add_argument("--name", metavar="NAME", help="of the child's folder")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0")
    return value


def _update(parsed: argparse.Namespace) -> None:
    folder = _ready(parsed)
    from marquee.apply.updating.child import Options, update

    update(folder, parsed.events, Options(parsed.epochs, parsed.replay, parsed.certify, parsed.name))


def _forget(parsed: argparse.Namespace) -> None:
    folder = _ready(parsed)
    from marquee.apply.updating.child import Options, forget

    forget(folder, parsed.user, Options(certify=parsed.certify, name=parsed.name))


def _ready(parsed: argparse.Namespace) -> Path:
    """The run's folder, with the threads set before torch is loaded."""
    from marquee.runs.finding import find_run
    from marquee.runs.record import read_manifest
    from marquee.runs.threads import set_threads

    folder = find_run(parsed.run, parsed.runs)
    set_threads(read_manifest(folder).get("config") or {})
    return folder
