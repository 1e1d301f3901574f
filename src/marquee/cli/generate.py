"""The verb `generate`: new texts, tunes and pictures of a finished run, with their provenance."""

import argparse
from pathlib import Path
from typing import Any

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.cli.use import locate
from marquee.errors import ConfigError, DataError, JobError

# The options of each kind of run, by name: what argparse is told of them, and the help. A run refuses those of others.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "runs on text and tunes": {
        "prompt": {"metavar": "TEXT", "help": "what comes before; unknown characters are refused (default: nothing)"},
        "tokens": {"type": int, "metavar": "N", "help": "how many to write at most (default 400)"},
        "temperature": {"type": float, "metavar": "T", "help": "below 1 the likely become likelier; 0: the likeliest"},
        "top-k": {"type": int, "metavar": "K", "help": "only the K likeliest tokens; 0: all (default)"},
        "top-p": {"type": float, "metavar": "P", "help": "only the likeliest that reach P together; 1: all (default)"},
        "min-p": {"type": float, "metavar": "P", "help": "only those at least P times as likely as the first; 0: all"},
        "repetition-penalty": {"type": float, "metavar": "R",
                               "help": "over 1: what was written is less likely (default 1)"},
        "stop": {"action": "append", "metavar": "TEXT", "help": "end before this text; may be given several times"},
    },
    "runs on pictures": {
        "class": {"metavar": "NAME", "help": "of the pictures, where it is asked for (default: all)"},
    },
    "runs on piano rolls (and --temperature)": {
        "frames": {"type": int, "metavar": "N", "help": "of the piece (default 64)"},
        "tempo": {"type": float, "metavar": "BPM", "help": "quarter notes a minute (default 90)"},
    },
}  # fmt: skip


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "generate", _generate, 'marquee generate latest --prompt "ROMEO:" --temperature 0.8 -n 5',
        "marquee generate 3fa9c1d2 --tokens 1000 --seed 7 --output scene.txt",
        "marquee generate latest -n 64 --output grid.png", "marquee generate --verify scene.txt",
        note="Sampling steps, in this order: repetition penalty, temperature, top-k, top-p, min-p.\n"
             "Each sample has a random stream of its own, of (seed, number): -n 5 begins with the sample of -n 1.\n"
             "With --output a provenance file is written beside it; --verify makes the file again from that.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN", nargs="?", help="may be left out with --verify, which knows the run")
    parser.add_argument("-n", type=positive, default=None, metavar="N", help="how many samples (default 1)")
    parser.add_argument("--seed", type=int, default=None, metavar="SEED", help="of the random streams (default 1)")
    parser.add_argument("--format", metavar="FORMAT", help="default: by the ending of --output, else the run's first")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write FILE and FILE.provenance.json, print nothing"
    )
    parser.add_argument("--verify", type=Path, metavar="FILE", help="make FILE again and say whether it is identical")
    for kind, options in OPTIONS.items():
        group = parser.add_argument_group(f"options of {kind}")
        for name, told in options.items():
            group.add_argument(f"--{name}", default=None, **told)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="an option of a plug-in's kind of run; the value as in JSON, else a text")  # fmt: skip


def _generate(parsed: argparse.Namespace) -> None:
    given = _given(parsed)
    if parsed.verify is not None:
        if given or parsed.output or parsed.format or parsed.n or parsed.seed is not None:
            raise ConfigError("--verify goes by the provenance of its file; leave the other options out.")
        return _verify(parsed)
    if parsed.run is None:
        raise ConfigError("generate needs a RUN: a folder, an id or fingerprint prefix, or latest.")
    if parsed.output is not None and not parsed.output.parent.is_dir():
        raise ConfigError(f"--output {parsed.output}: there is no folder {parsed.output.parent}.")
    locate(parsed)
    from marquee.apply.generate import generate, write
    from marquee.runs.terminal import printable

    seed = 1 if parsed.seed is None else parsed.seed
    work = generate(parsed.folder, parsed.n or 1, seed, given, parsed.format, parsed.output)
    if parsed.output is None:
        print(printable(work.generator.shown(work.made)))
        return
    beside = write(work, parsed.output)
    what = work.generator.makes
    print(f"{work.n} {what}{'s' * (work.n > 1)} written to {parsed.output}, its provenance to {beside.name}")


def _given(parsed: argparse.Namespace) -> dict[str, Any]:
    """The options that were typed, by name."""
    import json

    names = [name.replace("-", "_") for options in OPTIONS.values() for name in options]
    given = {name: value for name in dict.fromkeys(names) if (value := getattr(parsed, name)) is not None}
    for word in parsed.set:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {word}: write NAME=VALUE.")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given


def _verify(parsed: argparse.Namespace) -> None:
    from marquee.apply.generate import differences, read_provenance

    told = read_provenance(parsed.verify)
    parsed.run = parsed.run or told["run"]["id"]
    try:
        locate(parsed)
    except ConfigError as error:
        raise DataError(f"{error}\nThe file is of the run {told['run']['id']}; name its folder: "
                        f"marquee generate FOLDER --verify {parsed.verify}") from None  # fmt: skip
    if found := differences(parsed.verify, told, parsed.folder):
        raise JobError(f"{parsed.verify} is not identical:\n" + "\n".join(f"  {line}" for line in found))
    print(f"{parsed.verify}: identical")
