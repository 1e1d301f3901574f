"""The verbs that run experiments: `train`, `check`, `rerun`, and `job`, which launchers and clusters use."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from marquee.cli.arguments import Verb, runs_option
from marquee.errors import ConfigError, JobError


def add_verbs(verb: Verb) -> None:
    verb("train", None)  # never parsed here: its words are Hydra's

    check = verb(
        "check", _check, "marquee check data=movielens_100k model=mf/bpr model.dim=128", "marquee check --all",
        note="No data is loaded. Keys and types are read from the classes themselves, so torch and Lightning are\n"
        "imported: that is nearly all of the time it takes, 4 to 10 CPU seconds.",
    )  # fmt: skip
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for marquee train")
    check.add_argument("--all", action="store_true",
                       help="every data set with every model that fits, every experiment and search space")  # fmt: skip
    check.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own YAML, laid out as conf/")
    for flags in (("--config-name", "-cn"), ("--config-path", "-cp")):  # Hydra's, refused with a word
        check.add_argument(*flags, help=argparse.SUPPRESS)

    rerun = runs_option(verb("rerun", _rerun, "marquee rerun latest"))
    rerun.add_argument("run", metavar="RUN", help="exit code 0: identical; 1: trained, and not identical")


# train ---------------------------------------------------------------------------------------------------------------


def train(words: list[str]) -> int:
    """Hand the words to Hydra, which composes one job and calls `job`, or hands a sweep's jobs to a launcher."""
    from marquee.cli.composing import hydra_flags, hydra_words, run_composed, run_hydra, without_config_folder

    command = list(words)
    words = without_config_folder(words)
    flags = hydra_flags(words)
    if flags.help:
        return _train_help(flags.overrides)
    overrides = list(flags.overrides)
    if flags.multirun or "hydra.mode=MULTIRUN" in overrides:
        return _sweep(command, words, overrides)
    for word in overrides:
        if word.lstrip("+~").startswith(("hydra.launcher", "hydra/launcher", "hydra.sweeper", "hydra/sweeper")):
            raise ConfigError(f"{word} is for sweeps, and this is a single run.\n  fix: marquee train -m ...")
    failure: list[Exception] = []

    def job(node: Any) -> None:
        try:
            run_composed(node)
        except Exception as error:  # Hydra would print and exit by itself
            failure.append(error)

    run_hydra(hydra_words(words, overrides), job)
    if failure:
        raise failure[0]
    return 0


def _sweep(command: list[str], words: list[str], overrides: list[str]) -> int:
    """Run a sweep; the exit code is 0, or the first failed job's. Raises what stopped it before a job was started."""
    from marquee.cli.composing import hydra_words, run_composed, run_hydra
    from marquee.sweeps import session, store

    place = [] if any(word.startswith("hydra.sweep.dir=") for word in overrides) else [_sweep_dir(overrides)]
    launched = session.begin(["marquee", "train", *command])
    interrupt: BaseException | None = None
    failures: list[Exception] = []

    def job(node: Any) -> None:
        """Under a launcher of Hydra's or of others, in this process: what fails is told here, and is not the end."""
        try:
            run_composed(node)
        except Exception as error:
            failures.append(error)
            print(f"error: {error}", file=sys.stderr)
            raise

    try:
        run_hydra([*hydra_words(words, overrides), *place], job)
    except KeyboardInterrupt as error:
        interrupt = error
    finally:
        store.release()
    from marquee.sweeps.ends import error_of
    from marquee.sweeps.listing import print_outcome

    if launched.jobs:
        print_outcome(launched.jobs, launched.places[-1], brief=len(launched.places) > 1)
    if interrupt is not None:
        raise interrupt
    failures += [error_of(job) for job in launched.jobs if job.status == "failed"]
    return getattr(failures[0], "exit_code", JobError.exit_code) if failures else 0


def _sweep_dir(overrides: Sequence[str]) -> str:
    """The word that tells Hydra, and so sweepers and launchers, where the sweep lies."""
    from marquee.sweeps.store import sweep_name

    typed_name = [word.partition("=")[2] for word in overrides if word.lstrip("+").startswith("sweep=")]
    about = [word.partition("=")[2] for word in overrides if word.startswith(("data=", "experiment="))]
    name = sweep_name(typed_name[-1] if typed_name else None, overrides, "-".join(about) or "sweep")
    return f"hydra.sweep.dir='${{paths.output}}/sweeps/{name}'"


_TRAIN_HELP = """\
usage: marquee train [group=choice ...] [key=value ...]

Compose one experiment, check it, run it and record it.

examples:
  marquee train                                       the embedded default, half a minute
  marquee train data=imdb model=rnn/lstm              other data, another model
  marquee train model.dim=128 optimizer.lr=3e-3       other values
  marquee train -m model=mf/bpr,linear/ease seed=1,2  every combination; the same again runs only what is missing
  marquee train resume=latest                         continue an interrupted run
  marquee train --cfg job                             show the composed configuration, run nothing

`marquee check` takes the same arguments and reports every mistake at once.
Hydra's own flags: marquee train --hydra-help
Your own YAML:     --config-dir FOLDER, or the environment variable MARQUEE_CONF; your classes: MARQUEE_PLUGINS
Tab completion:    eval "$(marquee -sc install=bash)"   (or zsh, fish)
"""


def _train_help(overrides: Sequence[str]) -> int:
    """Usage, the choices of every group, and the configuration that the other words compose, with all its keys."""
    from marquee.config.compose import yaml_text
    from marquee.config.folders import groups, options

    print(_TRAIN_HELP)
    print("groups (group=choice):\n")
    for group in (name for name in groups() if name not in ("hydra", "search") and options(name)):
        print(fill(f"{group}: {', '.join(options(group))}", 100, initial_indent="  ", subsequent_indent="      ",
                   break_on_hyphens=False))  # fmt: skip
    print("\nconfiguration (key=value overrides any of it):\n")
    print(yaml_text(overrides))
    return 0


# check, rerun, job ---------------------------------------------------------------------------------------------------


def _check(parsed: argparse.Namespace) -> int:
    from marquee.cli.composing import add_config_folder, refuse_other_root
    from marquee.config.check import check, check_all
    from marquee.config.compose import compose
    from marquee.runs.resume import resumed
    from marquee.runs.threads import set_threads
    from marquee.search.space import check_spaces

    refuse_other_root(parsed)
    add_config_folder(parsed.config_dir)
    if not parsed.all:
        composed = compose(parsed.overrides)
        if composed.config.get("resume"):
            composed, _ = resumed(composed)
        set_threads(composed.config)
        check(composed)
        chosen = "  ".join(f"{group}={composed.choices[group]}" for group in ("data", "split", "task", "model"))
        print(f"The configuration is sound: {chosen}")
        return 0
    if parsed.overrides:
        raise ConfigError("marquee check --all checks what ships; leave the overrides out, or leave --all out.")
    set_threads({})
    results = check_all() + check_spaces()
    wrong = [(words, problems) for words, problems in results if problems]
    for words, problems in wrong:
        print(f"marquee train {words}\n", file=sys.stderr)
        print("\n\n".join(map(str, problems)) + "\n", file=sys.stderr)
    print(f"{len(results)} configurations checked, {len(wrong)} with problems")
    return ConfigError.exit_code if wrong else 0


def _rerun(parsed: argparse.Namespace) -> int:
    from marquee.runs.finding import find_run
    from marquee.runs.record import read_manifest
    from marquee.runs.threads import set_threads

    folder = find_run(parsed.run, parsed.runs)
    before = read_manifest(folder)
    # As many threads as the run had, which in a sweep were its share: they decide the last digits of a sum.
    if threads := (before.get("environment") or {}).get("threads"):
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    set_threads(before.get("config") or {})
    from marquee.runs.rerun import rerun

    return rerun(folder)


def frozen_job(file: Path) -> int:
    """`marquee job FILE`: run a frozen job of a sweep; returns its exit code."""
    from marquee.sweeps.worker import run

    return run(file)
