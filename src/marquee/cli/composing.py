"""Hydra's command line over our conf/: its flags, its process, and a job as it composed it. Imports no torch."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.config.complaints import hydra_errors
from marquee.config.compose import Composed, normalised, plain, search_path_override, typed
from marquee.config.folders import conf_folder
from marquee.config.hydra_section import guarded
from marquee.errors import ConfigError, JobError
from marquee.runs.environment import SCRIPT
from marquee.runs.resume import resumed
from marquee.runs.threads import set_threads


def run_hydra(argv: list[str], job: Callable[[Any], None]) -> None:
    """Run Hydra's own command line over our conf/ with its exceptions coming through as ConfigError."""
    import hydra

    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself
    typed_argv, sys.argv = sys.argv, [*argv, *search_path_override()]
    try:
        with hydra_errors(), guarded():
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


def hydra_flags(words: list[str]) -> argparse.Namespace:
    """What Hydra's parser makes of the words: its flags, and `overrides`.

    Raises ConfigError for the flags that would put another root in the place of conf/train.yaml, or read a pickle.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "marquee train"
    flags = parser.parse_intermixed_args(words)  # flags between the overrides, too
    refuse_other_root(flags)
    if flags.experimental_rerun:
        raise ConfigError(
            f"--experimental-rerun {flags.experimental_rerun}: Marquee repeats a run from its record, not from a "
            "pickle.\n  fix: marquee rerun RUN"
        )
    return flags


def refuse_other_root(flags: argparse.Namespace) -> None:
    """Raise ConfigError for the flags that would put another root in the place of conf/train.yaml."""
    for flag in ("config_name", "config_path"):
        if value := getattr(flags, flag):
            name = Path(value).stem
            raise ConfigError(
                f"--{flag.replace('_', '-')} {value}: Marquee has one root, conf/train.yaml; a recipe of yours is an "
                f"experiment.\n  fix: --config-dir FOLDER experiment={name}, which is FOLDER/experiment/{name}.yaml"
            )


def hydra_words(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Flags first: Hydra's parser takes the overrides in one piece, and further ones are put behind them."""
    return ["marquee", *(word for word in words if word not in overrides), *normalised(overrides)]


def without_config_folder(words: list[str]) -> list[str]:
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


# One job --------------------------------------------------------------------------------------------------------------


def run_composed(node: Any) -> Mapping[str, Any]:
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
