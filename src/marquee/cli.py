"""The verbs of the command line. Nothing heavy is imported until a verb needs it: no torch for help and listings."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marquee import __version__
from marquee.errors import ConfigError, MarqueeError

VERBS = {
    "train": "compose, check, train and record an experiment (also sweeps: -m)",
    "check": "report every mistake of a configuration without running it",
    "ls": "list the runs",
    "show": "show one run: metrics, configuration, code, machine",
    "diff": "show what differs between two runs",
    "rerun": "run again from a run's record and say whether the result is identical",
    "recommend": "recommend items with a finished run",
    "predict": "classify texts or images with a finished run",
}

# A run that is resumed keeps its configuration, or its weights could not equal those of an uninterrupted run. What may
# be changed: how long it goes on, where things lie, who watches, how it is run, what is printed.
RESUME_MAY_CHANGE = (
    "resume", "paths", "tracker", "threads", "tags", "name", "trainer.max_epochs", "trainer.max_time",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0, 2 (configuration), 3 (data), 4 (job), 130 (Ctrl-C), 1 for a bug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except MarqueeError as error:
        if os.environ.get("MARQUEE_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `marquee ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "train":
        return _train(words[1:])
    if words and words[0] in ("-sc", "--shell-completion"):
        return _complete(words)
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        from marquee.config.targets import closest

        near = closest(words[0], VERBS)
        raise ConfigError(
            f"{words[0]} is no verb of marquee.{f' Did you mean: marquee {near}' if near else ''}\n"
            f"  allowed: {', '.join(VERBS)}"
        )
    parsed = parser.parse_args(words)
    if not hasattr(parsed, "act"):
        parser.print_help()
        return 0
    return parsed.act(parsed) or 0


# The arguments of each verb -----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _described(
        argparse.ArgumentParser(prog="marquee", formatter_class=argparse.RawDescriptionHelpFormatter),
        "Config-driven, reproducible experiments for AI in culture and entertainment.",
        ["marquee train", "marquee train data=imdb model=rnn/lstm trainer.max_epochs=2", "marquee ls",
         "marquee recommend latest --user 1"],
        "RUN is a folder, an id or fingerprint prefix, or latest.\n"
        'Tab completion: eval "$(marquee -sc install=bash)"   (or zsh, fish)',
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"marquee {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")

    def verb(name: str, act: Callable[[argparse.Namespace], int | None] | None, *examples: str, note: str = "") -> Any:
        made = verbs.add_parser(name, help=VERBS[name], formatter_class=argparse.RawDescriptionHelpFormatter)
        made.set_defaults(act=act)
        return _described(made, VERBS[name][0].upper() + VERBS[name][1:] + ".", list(examples), note)

    verb("train", None)  # never parsed here: its words are Hydra's

    check = verb("check", _check, "marquee check data=movielens_100k model=mf/bpr model.dim=128", "marquee check --all")
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for marquee train")
    check.add_argument("--all", action="store_true", help="every data set with every model that fits, every experiment")
    check.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own YAML, laid out as conf/")

    ls = _runs_option(verb("ls", _ls, "marquee ls", "marquee ls --status failed", "marquee ls --json"))
    ls.add_argument("-n", "--last", type=_positive, metavar="N", help="only the last N")
    ls.add_argument("--status", choices=["running", "finished", "failed", "interrupted"])
    ls.add_argument("--json", action="store_true", help="machine-readable")

    show = _runs_option(verb("show", _show, "marquee show latest", "marquee show 3fa9c1d2 --json"))
    show.add_argument("run", metavar="RUN")
    show.add_argument("--json", action="store_true", help="the whole manifest")

    diff = _runs_option(verb("diff", _diff, "marquee diff 3fa9c1d2 latest"))
    diff.add_argument("first", metavar="A", help="a RUN")
    diff.add_argument("second", metavar="B", help="a RUN")
    diff.add_argument("--json", action="store_true", help="machine-readable")

    rerun = _runs_option(verb("rerun", _rerun, "marquee rerun latest"))
    rerun.add_argument("run", metavar="RUN")

    recommend = _runs_option(verb(
        "recommend", _recommend, "marquee recommend latest --user 1",
        'marquee recommend latest --history "Heat (1995)" "Toy Story (1995)" -k 5',
        "marquee recommend 3fa9c1d2 --like favourites.txt --output recommended.csv",
        note="Items that the user has seen are left out.",
    ))  # fmt: skip
    recommend.add_argument("run", metavar="RUN")
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", nargs="+", metavar="ID", help="one or more users of the training data")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="titles or ids that somebody liked, oldest first")
    who.add_argument("--like", type=Path, metavar="FILE", help="a text file with one title or id a line, oldest first")
    who.add_argument("--all-users", action="store_true", help="every user of the training data")
    recommend.add_argument("-k", type=_positive, default=10, help="how many items for each (default 10)")
    recommend.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")

    predict = _runs_option(verb(
        "predict", _predict, 'marquee predict latest --text "a slow start, but the last act is wonderful"',
        "marquee predict 3fa9c1d2 --image poster.jpg", "marquee predict latest --input reviews.csv --output labels.parquet",
    ))  # fmt: skip
    predict.add_argument("run", metavar="RUN")
    what = predict.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", nargs="+", metavar="TEXT", help="one or more texts")
    what.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="one or more image files")
    what.add_argument("--input", type=Path, metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet with a column text or image")
    predict.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")
    return parser


def _described(parser: Any, text: str, examples: list[str], note: str = "") -> Any:
    parser.description = text
    parser.epilog = "\n".join(["examples:", *(f"  {example}" for example in examples), *(["", note] if note else [])])
    return parser


def _runs_option(parser: Any) -> Any:
    default = Path(os.environ.get("MARQUEE_OUTPUT", "outputs"))
    parser.add_argument("--runs", type=Path, default=default, metavar="FOLDER",
                        help=f"where runs land, paths.output of the training (default {default})")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer >= 1")
    return int(text)


# The verbs -----------------------------------------------------------------------------------------------------------


def _check(parsed: argparse.Namespace) -> int:
    _add_config_folder(parsed.config_dir)
    from marquee.config.check import check, check_all
    from marquee.config.compose import compose

    if not parsed.all:
        composed = compose(parsed.overrides)
        set_threads(composed.config)
        check(composed)
        chosen = "  ".join(f"{group}={composed.choices[group]}" for group in ("data", "split", "task", "model"))
        print(f"The configuration is sound: {chosen}")
        return 0
    if parsed.overrides:
        raise ConfigError("marquee check --all checks what ships; leave the overrides out, or leave --all out.")
    set_threads({})
    results = check_all()
    wrong = [(words, problems) for words, problems in results if problems]
    for words, problems in wrong:
        print(f"marquee train {words}\n", file=sys.stderr)
        print("\n\n".join(map(str, problems)) + "\n", file=sys.stderr)
    print(f"{len(results)} configurations checked, {len(wrong)} with problems")
    return ConfigError.exit_code if wrong else 0


def _ls(parsed: argparse.Namespace) -> None:
    from marquee.runs.listing import list_runs

    list_runs(parsed.runs, parsed.last, parsed.status, parsed.json)


def _show(parsed: argparse.Namespace) -> None:
    from marquee.runs.listing import show_run
    from marquee.runs.manifest import find_run

    show_run(find_run(parsed.run, parsed.runs), parsed.json)


def _diff(parsed: argparse.Namespace) -> None:
    from marquee.runs.listing import diff_runs
    from marquee.runs.manifest import find_run

    diff_runs(find_run(parsed.first, parsed.runs), find_run(parsed.second, parsed.runs), parsed.json)


def _rerun(parsed: argparse.Namespace) -> int:
    from marquee.runs.manifest import find_run, read_manifest

    folder = find_run(parsed.run, parsed.runs)
    set_threads(read_manifest(folder).get("config") or {})
    from marquee.runs.rerun import rerun

    return _code(rerun(folder))


def _recommend(parsed: argparse.Namespace) -> int:
    _locate(parsed)
    from marquee.apply.cli import recommend

    return _code(recommend(parsed))


def _predict(parsed: argparse.Namespace) -> int:
    _locate(parsed)
    from marquee.apply.cli import predict

    return _code(predict(parsed))


def _locate(parsed: argparse.Namespace) -> None:
    """Add `folder`, the run's folder, to the arguments, and set the threads before torch is loaded."""
    from marquee.runs.manifest import find_run

    parsed.folder = find_run(parsed.run, parsed.runs)
    set_threads({})


def _code(result: Any) -> int:
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


# train ---------------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How one job of `train` ended."""

    overrides: list[str]
    manifest: Mapping[str, Any] | None = None
    error: Exception | None = None


def _train(words: list[str]) -> int:
    """Hand the words to Hydra, which composes and calls `job` once, or once for each job of a sweep."""
    words = _without_config_folder(words)
    from marquee.config.compose import normalised

    flags = _hydra_flags(words)
    overrides = list(flags.overrides)
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in overrides
    only_shows = flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion
    if multirun and not only_shows:
        _check_sweep(overrides)
    outcomes: list[Outcome] = []
    script = sys.argv[0]

    def job(node: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        from marquee.config.compose import plain, typed

        settings = HydraConfig.get()
        mine = typed(settings.overrides.task)
        outcome = Outcome(mine)
        outcomes.append(outcome)
        # Lightning starts the other processes of a distributed run from sys.argv: they must run this job, not the sweep.
        sys.argv = [script, "train", *mine]
        try:
            composed = plain(node, mine, dict(settings.runtime.choices))
            outcome.manifest = _run(composed)
        except Exception as error:  # a failed job must not take the others with it
            outcome.error = error
            if multirun:
                _report_failure(outcome)

    argv = sys.argv
    try:
        _hydra(["marquee", *(normalised([word])[0] if word in overrides else word for word in words)], job)
    finally:
        sys.argv = argv
        if multirun and outcomes:
            _sweep_table(outcomes)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not errors:
        return 0
    if multirun:
        return errors[0].exit_code if isinstance(errors[0], MarqueeError) else 1
    raise errors[0]


def _run(composed: Any) -> Mapping[str, Any]:
    """Check one job and run it."""
    folder = None
    if composed.config.get("resume"):
        composed, folder = resumed(composed)
    set_threads(composed.config)
    from marquee.config.check import check

    check(composed)
    from marquee.runs.train import train

    return train(composed.config, list(composed.overrides), folder)


def _check_sweep(overrides: list[str]) -> None:
    """Compose and check every job of a sweep before the first starts. Raises ConfigError naming the jobs at fault."""
    from marquee.config.compose import compose_all, expand

    if any(word.startswith(("hydra/sweeper=", "hydra.sweeper.")) for word in overrides):
        return  # a sweeper that chooses as it goes; each job is still checked when it starts
    jobs = [[word for word in job if not word.startswith("hydra.")] for job in expand(overrides)]
    composed = compose_all(jobs)
    composed = [resumed(job)[0] if job.config.get("resume") else job for job in composed]
    set_threads(composed[0].config)
    from marquee.config.check import problems, report

    wrong: dict[str, list[str]] = {}
    for words, job in zip(jobs, composed):
        found = problems(job)
        if found:
            wrong.setdefault(report(found), []).append(" ".join(words))
    if wrong:
        parts = ["\n".join([f"in: marquee train {job}" for job in affected]) + f"\n{text}" for text, affected in wrong.items()]
        raise ConfigError("No job of the sweep was started.\n\n" + "\n\n".join(parts))


def resumed(composed: Any) -> tuple[Any, Path]:
    """The configuration of the run that `resume` names, with the few changes that a resumed run allows; its folder.

    Raises ConfigError for any other override, and for a run that is not there.
    """
    import dataclasses

    import yaml

    from marquee.runs.manifest import find_run, read_manifest

    folder = find_run(str(composed.config["resume"]), Path(composed.config["paths"]["output"]).expanduser())
    forbidden = []
    for word in composed.overrides:
        name = word.lstrip("+~").partition("=")[0]
        if not any(name == allowed or name.startswith(allowed + ".") for allowed in RESUME_MAY_CHANGE):
            forbidden.append(word)
    if forbidden:
        raise ConfigError(
            f"resume continues {folder.name} with its own configuration; it cannot change {', '.join(forbidden)}.\n"
            f"  allowed: {', '.join(RESUME_MAY_CHANGE[1:])}\n"
            f"  fix:     marquee train resume={folder.name}, or start a new run without resume"
        )
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else read_manifest(folder)["config"]
    for word in composed.overrides:
        name = word.lstrip("+~").partition("=")[0]
        *parents, leaf = name.split(".")
        source, target = composed.config, config
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[leaf] = source[leaf]
    config["resume"] = None
    return dataclasses.replace(composed, config=config), folder


def _report_failure(outcome: Outcome) -> None:
    print(f"failed: marquee train {' '.join(outcome.overrides)}", file=sys.stderr)
    if isinstance(outcome.error, MarqueeError) and os.environ.get("MARQUEE_DEBUG") != "1":
        print(f"error: {outcome.error}", file=sys.stderr)
    else:
        traceback.print_exception(type(outcome.error), outcome.error, outcome.error.__traceback__)


def _sweep_table(outcomes: list[Outcome]) -> None:
    """All jobs of a sweep with their test metrics, the ones that failed too."""
    from marquee.runs.listing import Coloured, number, table

    found = [(outcome.manifest or {}).get("metrics") or {} for outcome in outcomes]
    names = list(dict.fromkeys(name for metrics in found for name in metrics if name.startswith("test/")))
    preferred = [name for name in names if name.endswith(("@10", "accuracy", "auroc", "log_loss"))]
    names = (preferred or names)[:3]
    words = [outcome.overrides for outcome in outcomes]
    shared = set(words[0]).intersection(*words[1:]) if len(words) > 1 else set()
    rows = []
    for index, (outcome, metrics) in enumerate(zip(outcomes, found)):
        status = (outcome.manifest or {}).get("status", "failed") if outcome.error is None else "failed"
        job = " ".join(word for word in outcome.overrides if word not in shared) or "(defaults)"
        colour = "green" if status == "finished" else "red"
        rows.append([f"{index} {job}", Coloured(status, colour), *(number(metrics.get(name)) for name in names)])
    print()
    table(["job", "status", *(name.removeprefix("test/") for name in names)], rows, numbers=True)


# Hydra ---------------------------------------------------------------------------------------------------------------


def _hydra_flags(words: list[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "marquee train"
    return parser.parse_args(words)


def _hydra(argv: list[str], job: Callable[[Any], None]) -> None:
    """Run Hydra's own command line over our conf/ with its exceptions coming through as ConfigError."""
    import hydra

    from marquee.config.compose import conf_folder, hydra_errors, search_path_override

    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself
    sys.argv = [*argv, *search_path_override()]
    try:
        with hydra_errors():
            hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job)()
    except SystemExit as error:
        if error.code not in (0, None):
            raise
    except OSError as error:
        from marquee.errors import JobError

        raise JobError(f"The output folder cannot be written: {error}. Choose another: paths.output=FOLDER") from error
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _complete(words: list[str]) -> int:
    """Tab completion: the shell calls `marquee -sc query=bash` with the line so far in COMP_LINE."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if any(word.startswith("query=") for word in words):
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join(VERBS))
            return 0
        if typed[1] not in ("train", "check"):
            return 0
        os.environ["COMP_LINE"] = line.replace(f" {typed[1]}", "", 1)  # Hydra knows no verbs
    argv = sys.argv
    try:
        _hydra(["marquee", *words], lambda node: None)
    finally:
        sys.argv = argv
    return 0


def _without_config_folder(words: list[str]) -> list[str]:
    """Take `--config-dir FOLDER` out: the check and the listing of options must know of it, not only Hydra."""
    rest = []
    waiting = iter(words)
    for word in waiting:
        if word in ("--config-dir", "-cd"):
            _add_config_folder(next(waiting, None) or "")
        elif word.startswith("--config-dir="):
            _add_config_folder(word.partition("=")[2])
        else:
            rest.append(word)
    return rest


def _add_config_folder(folder: str | None) -> None:
    if folder is None:
        return
    if not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder}: there is no such folder.")
    known = os.environ.get("MARQUEE_CONF")
    os.environ["MARQUEE_CONF"] = os.pathsep.join(filter(None, [str(Path(folder).resolve()), known]))


# Threads ------------------------------------------------------------------------------------------------------------


def set_threads(config: Mapping[str, Any]) -> None:
    """Set the thread count and the wait policy, which OpenMP reads once, when torch is loaded.

    `threads` of the configuration wins, then OMP_NUM_THREADS, then the cores that this process may use, shared among
    the processes of a distributed run. Waiting threads sleep: two that spin on a busy machine cost ten times as much.
    """
    from marquee.runs.environment import cores

    trainer = config.get("trainer") or {}
    devices = trainer.get("devices") if trainer.get("accelerator") == "cpu" else 1
    processes = devices if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0 else 1
    wanted = config.get("threads")
    wanted = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0 else None
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if wanted is not None:
            os.environ[name] = str(wanted)
        else:
            os.environ.setdefault(name, str(max(cores() // processes, 1)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    if wanted is not None and "torch" in sys.modules:  # a later job of a sweep
        sys.modules["torch"].set_num_threads(wanted)


if __name__ == "__main__":
    sys.exit(main())
