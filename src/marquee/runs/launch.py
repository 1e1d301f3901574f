"""`marquee train`: Hydra composes, each job is checked, then run; a sweep's jobs do not harm each other."""

import argparse
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml

from marquee.config.compose import (
    Composed,
    compose_all,
    conf_folder,
    expand,
    groups,
    hydra_errors,
    normalised,
    options,
    plain,
    search_path_override,
    typed,
    yaml_text,
)  # fmt: skip
from marquee.errors import ConfigError, JobError, MarqueeError
from marquee.runs.listing import Coloured, number, table
from marquee.runs.manifest import find_run, read_manifest
from marquee.runs.threads import set_threads

# A run that is resumed keeps its configuration, or its weights could not equal those of an uninterrupted run. What may
# be changed: how long it goes on, where things lie, who watches, how it is run, what is printed.
RESUME_MAY_CHANGE = (
    "resume", "paths", "tracker", "tags", "name", "trainer.max_epochs", "trainer.max_time",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip


@dataclass
class Outcome:
    """How one job of `train` ended."""

    overrides: list[str]
    manifest: Mapping[str, Any] | None = None
    error: Exception | None = None


def train(words: list[str]) -> int:
    """Hand the words to Hydra, which composes and calls `job` once, or once for each job of a sweep."""
    words = _without_config_folder(words)
    flags = _hydra_flags(words)
    if flags.help:
        return _train_help(flags.overrides)
    overrides = list(flags.overrides)
    multirun = flags.multirun or "hydra.mode=MULTIRUN" in overrides
    only_shows = flags.hydra_help or flags.cfg or flags.info or flags.shell_completion
    if multirun and not only_shows:
        _check_sweep(overrides)
    outcomes: list[Outcome] = []
    script = sys.argv[0]

    def job(node: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        settings = HydraConfig.get()
        mine = typed(settings.overrides.task)
        outcome = Outcome(mine)
        outcomes.append(outcome)
        # Lightning starts the other processes of a distributed run from sys.argv: this job, not the whole sweep.
        sys.argv = [script, "train", *mine]
        try:
            composed = plain(node, mine, dict(settings.runtime.choices))
            outcome.manifest = run_job(composed)
        except Exception as error:  # a failed job must not take the others with it
            outcome.error = error
            if multirun:
                _report_failure(outcome)

    argv = sys.argv
    try:
        run_hydra(["marquee", *(normalised([word])[0] if word in overrides else word for word in words)], job)
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


_TRAIN_HELP = """\
usage: marquee train [group=choice ...] [key=value ...]

Compose one experiment, check it, run it and record it.

examples:
  marquee train                                       the embedded default, half a minute
  marquee train data=imdb model=rnn/lstm              other data, another model
  marquee train model.dim=128 optimizer.lr=3e-3       other values
  marquee train -m model=mf/bpr,linear/ease seed=1,2  every combination, one after the other
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
    for group in (name for name in groups() if name != "hydra" and options(name)):
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


def _check_sweep(overrides: list[str]) -> None:
    """Compose and check every job of a sweep before the first starts. Raises ConfigError naming the jobs at fault."""
    if any(word.startswith(("hydra/sweeper=", "hydra.sweeper.")) for word in overrides):
        return  # a sweeper that chooses as it goes; each job is still checked when it starts
    jobs = [[word for word in job if not word.startswith("hydra.")] for job in expand(overrides)]
    composed = compose_all(jobs)
    composed = [resumed(job)[0] if job.config.get("resume") else job for job in composed]
    set_threads(composed[0].config)
    from marquee.config.check import problems, report

    wrong: dict[str, list[str]] = {}
    for words, job in zip(jobs, composed, strict=True):
        found = problems(job)
        if found:
            wrong.setdefault(report(found), []).append(" ".join(words))
    if wrong:
        parts = [
            "\n".join([f"in: marquee train {job}" for job in affected]) + f"\n{text}"
            for text, affected in wrong.items()
        ]
        raise ConfigError("No job of the sweep was started.\n\n" + "\n\n".join(parts))


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


def _report_failure(outcome: Outcome) -> None:
    print(f"failed: marquee train {' '.join(outcome.overrides)}", file=sys.stderr)
    if isinstance(outcome.error, MarqueeError) and os.environ.get("MARQUEE_DEBUG") != "1":
        print(f"error: {outcome.error}", file=sys.stderr)
    else:
        traceback.print_exception(type(outcome.error), outcome.error, outcome.error.__traceback__)


def _sweep_table(outcomes: list[Outcome]) -> None:
    """All jobs of a sweep with their test metrics, the ones that failed too."""
    found = [(outcome.manifest or {}).get("metrics") or {} for outcome in outcomes]
    from marquee.runs.summary import shown_metrics

    names = [f"test/{name}" for outcome in outcomes for name in shown_metrics(outcome.manifest or {})]
    names = list(dict.fromkeys(names))[:3]  # 80 columns
    words = [outcome.overrides for outcome in outcomes]
    shared = set(words[0]).intersection(*words[1:]) if len(words) > 1 else set()
    rows = []
    for index, (outcome, metrics) in enumerate(zip(outcomes, found, strict=True)):
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


def run_hydra(argv: list[str], job: Callable[[Any], None]) -> None:
    """Run Hydra's own command line over our conf/ with its exceptions coming through as ConfigError."""
    import hydra

    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself
    sys.argv = [*argv, *search_path_override()]
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
