"""`marquee train`: Hydra composes, the job is checked, then run; a sweep is handed to a launcher."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml

from marquee.config.complaints import hydra_errors
from marquee.config.compose import Composed, normalised, plain, search_path_override, typed, yaml_text
from marquee.config.folders import conf_folder, groups, options
from marquee.errors import ConfigError, JobError
from marquee.runs.manifest import find_run, read_manifest
from marquee.runs.threads import set_threads

# What was typed: the other processes of a distributed run are started by it.
SCRIPT = sys.argv[0]

# A run that is resumed keeps its configuration, or its weights could not equal those of an uninterrupted run. What may
# be changed: how long it goes on, where things lie, who watches, how it is run, what is printed.
RESUME_MAY_CHANGE = (
    "resume", "paths", "tracker", "tags", "name", "sweep", "trainer.max_epochs", "trainer.max_time",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip


def train(words: list[str]) -> int:
    """Hand the words to Hydra, which composes one job and calls `job`, or hands a sweep's jobs to a launcher."""
    command = list(words)
    words = _without_config_folder(words)
    flags = _hydra_flags(words)
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
            _hydra_job(node)
        except Exception as error:  # Hydra would print and exit by itself
            failure.append(error)

    run_hydra(_hydra_words(words, overrides), job)
    if failure:
        raise failure[0]
    return 0


def _sweep(command: list[str], words: list[str], overrides: list[str]) -> int:
    """Run a sweep; the exit code is 0, or the first failed job's. Raises what stopped it before a job was started."""
    from marquee.sweeps import hydra_bridge, store

    place = [] if any(word.startswith("hydra.sweep.dir=") for word in overrides) else [_sweep_dir(overrides)]
    hydra_bridge.launched.clear()
    hydra_bridge.places.clear()
    hydra_bridge.command[:] = ["marquee", "train", *command]
    interrupt: BaseException | None = None
    failures: list[Exception] = []

    def job(node: Any) -> None:
        """Under a launcher of Hydra's or of others, in this process: what fails is told here, and is not the end."""
        try:
            _hydra_job(node)
        except Exception as error:
            failures.append(error)
            print(f"error: {error}", file=sys.stderr)
            raise

    try:
        run_hydra([*_hydra_words(words, overrides), *place], job)
    except KeyboardInterrupt as error:
        interrupt = error
    finally:
        store.release()
    from marquee.sweeps.launcher import error_of
    from marquee.sweeps.listing import print_outcome

    jobs = hydra_bridge.launched
    if jobs:
        print_outcome(jobs, hydra_bridge.places[-1], brief=len(hydra_bridge.places) > 1)
    if interrupt is not None:
        raise interrupt
    failures += [error_of(job) for job in jobs if job.status == "failed"]
    return getattr(failures[0], "exit_code", JobError.exit_code) if failures else 0


def _sweep_dir(overrides: Sequence[str]) -> str:
    """The word that tells Hydra, and so sweepers and launchers, where the sweep lies."""
    from marquee.sweeps.store import sweep_name

    typed_name = [word.partition("=")[2] for word in overrides if word.lstrip("+").startswith("sweep=")]
    about = [word.partition("=")[2] for word in overrides if word.startswith(("data=", "experiment="))]
    name = sweep_name(typed_name[-1] if typed_name else None, overrides, "-".join(about) or "sweep")
    return f"hydra.sweep.dir='${{paths.output}}/sweeps/{name}'"


def _hydra_words(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Flags first: Hydra's parser takes the overrides in one piece, and further ones are put behind them."""
    return ["marquee", *(word for word in words if word not in overrides), *normalised(overrides)]


def _hydra_job(node: Any) -> Mapping[str, Any]:
    """One job as Hydra composed it, in this process: a single run, or a sweep's job under a foreign launcher."""
    from hydra.core.hydra_config import HydraConfig

    settings = HydraConfig.get()
    mine = typed(settings.overrides.task)
    before = sys.argv
    # Lightning starts the other processes of a distributed run from sys.argv: this job, not the whole sweep.
    sys.argv = [SCRIPT, "train", *mine]
    try:
        return run_job(plain(node, mine, dict(settings.runtime.choices)))
    finally:
        sys.argv = before


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
    print(_TRAIN_HELP)
    print("groups (group=choice):\n")
    for group in (name for name in groups() if name not in ("hydra", "search") and options(name)):
        print(fill(f"{group}: {', '.join(options(group))}", 100, initial_indent="  ", subsequent_indent="      ",
                   break_on_hyphens=False))  # fmt: skip
    print("\nconfiguration (key=value overrides any of it):\n")
    print(yaml_text(overrides))
    return 0


def run_job(composed: Composed) -> Mapping[str, Any]:
    """Check one job and run it."""
    folder = None
    if composed.config.get("resume"):
        composed, folder = resumed(composed)
    set_threads(composed.config)
    from marquee.config.check import check

    check(composed)
    from marquee.runs import train as training

    return training.train(composed.config, list(composed.overrides), folder)


def resumed(composed: Composed) -> tuple[Composed, Path]:
    """The configuration of the run that `resume` names, with the few changes that a resumed run allows; its folder.

    Raises ConfigError for any other override, and for a run that is not there.
    """
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
    file, manifest = folder / "config.yaml", read_manifest(folder)
    config = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else manifest["config"]
    # The number of threads decides the last digits of a sum: go on with as many as the run had.
    if threads := (manifest.get("environment") or {}).get("threads"):
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    for word in composed.overrides:
        name = word.lstrip("+~").partition("=")[0]
        *parents, leaf = name.split(".")
        source, target = composed.config, config
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[leaf] = source[leaf]
    config["resume"] = None
    return dataclasses.replace(composed, config=config), folder


# Hydra ---------------------------------------------------------------------------------------------------------------


def _hydra_flags(words: list[str]) -> argparse.Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "marquee train"
    return parser.parse_intermixed_args(words)  # flags between the overrides, too


def run_hydra(argv: list[str], job: Callable[[Any], None]) -> None:
    """Run Hydra's own command line over our conf/ with its exceptions coming through as ConfigError."""
    import hydra

    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself
    typed_argv, sys.argv = sys.argv, [*argv, *search_path_override()]
    try:
        with hydra_errors():
            hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job)()
    except SystemExit as error:
        if error.code not in (0, None):
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise JobError(f"The output folder cannot be written: {error}. Choose another: paths.output=FOLDER") from error
    finally:
        sys.argv = typed_argv
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _without_config_folder(words: list[str]) -> list[str]:
    """Take `--config-dir FOLDER` out: the check and the listing of options must know of it, not only Hydra."""
    rest = []
    waiting = iter(words)
    for word in waiting:
        if word in ("--config-dir", "-cd"):
            add_config_folder(next(waiting, None) or "")
        elif word.startswith("--config-dir="):
            add_config_folder(word.partition("=")[2])
        else:
            rest.append(word)
    return rest


def add_config_folder(folder: str | None) -> None:
    if folder is None:
        return
    if not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder}: there is no such folder.")
    known = os.environ.get("MARQUEE_CONF")
    os.environ["MARQUEE_CONF"] = os.pathsep.join(filter(None, [str(Path(folder).resolve()), known]))
