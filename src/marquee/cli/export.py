"""The verbs `export` and `import`: a finished run as an artefact, and a packed run back among the others."""

import argparse
from glob import escape
from pathlib import Path

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.errors import ConfigError

FORMATS = {
    "onnx": "a graph that ONNX Runtime answers with, without torch, for models that have a fixed one",
    "torch": "the weights as safetensors with the run's configuration, for every model",
    "run": "the whole run as one .zip, which marquee import takes",
}


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "export", _export, "marquee export latest --format onnx exported", "marquee export 3fa9c1d2 --int8 exported8",
        "marquee export latest --format run packed", "marquee recommend exported --user 1",
        note="formats:\n" + "\n".join(f"  {name:6} {told}" for name, told in FORMATS.items()) + "\n\n"
             "The run's own test is evaluated through what was exported; parity.json, the card (README.md) and the\n"
             "run's manifest say what changed. What is worse beyond --tolerance, or beyond doubt, needs --force.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("folder", metavar="DIR", type=Path, help="an export of the same run in it is replaced")
    parser.add_argument("--format", choices=list(FORMATS), default="onnx", help="default: onnx")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits (onnx)")
    parser.add_argument("--tolerance", type=_tolerance, default=None, metavar="T",
                        help="by which the monitored metric may be worse (default 0.002)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write it although it is worse than the run")
    parser.add_argument("--index", action="store_true", help="also an approximate index of the items (onnx)")
    parser.add_argument("--index-from", type=positive, default=200_000, metavar="N",
                        help="with so many items or more (default 200000: exact search is as fast below)")  # fmt: skip

    parser = runs_option(
        verb("import", _import, "marquee import packed/3fa9c1d2-ease.zip", "marquee import run.zip --runs here")
    )
    parser.add_argument("file", metavar="FILE.zip", type=Path)


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0")
    return value


def _export(parsed: argparse.Namespace) -> None:
    from marquee.apply.predictor import export_at
    from marquee.runs.finding import find_run
    from marquee.runs.threads import set_threads

    if export_at(parsed.run) is not None:
        raise ConfigError(f"{parsed.run} is an export already; export the run that it was made of.")
    target, run = parsed.folder, find_run(parsed.run, parsed.runs)
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; the last argument names the folder to be written.")
    set_threads({})
    from marquee.apply.exporting.export import TOLERANCE, Wish, export

    tolerance = TOLERANCE if parsed.tolerance is None else parsed.tolerance
    wish = Wish(parsed.format, parsed.int8, parsed.force, tolerance, parsed.index, parsed.index_from)
    record = export(run, target, wish)
    model = target / record["model"]  # its weights may lie in a file beside it
    files = model.iterdir() if model.is_dir() else target.glob(f"{escape(model.name)}*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    print(f"{run.name} exported to {model} ({size / 1e6:.1f} MB)")
    if parity := record["parity"]:
        print(f"  test {parity['metric']}: {parity['before']:.6f} -> {parity['after']:.6f}, "
              f"{parity['changed_units']} units changed, scores differ by {parity['max_score_difference']:.2g} at most"
              f"{'' if parity['passed'] else '  NOT PASSED (--force)'}")  # fmt: skip
    if (index := record.get("index")) is not None:
        print(f"  index: {index['told']}")


def _import(parsed: argparse.Namespace) -> None:
    from marquee.apply.exporting.archive import import_run

    if not parsed.file.is_file():
        raise ConfigError(f"{parsed.file} does not exist.")
    folder, there = import_run(parsed.file, parsed.runs)
    if there:
        print(f"already there: {folder}")
        return
    print(f"imported: {folder}")
