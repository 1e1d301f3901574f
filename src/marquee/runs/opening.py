"""The folder that a run works in: a new one, or that of a run to continue, held against all other processes."""

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from marquee.config.build import build
from marquee.config.fingerprint import canonical, fingerprint, pool
from marquee.config.fingerprint import identity as identity_of
from marquee.config.folders import choice_of
from marquee.data.dataset import DataSet, Split
from marquee.errors import ConfigError
from marquee.runs.environment import environment
from marquee.runs.finding import first_of
from marquee.runs.liveness import status_of
from marquee.runs.lock import Taken, hold, is_here, owner, release, told
from marquee.runs.record import Run, read_manifest, unwritable
from marquee.tasks.base import Task

log = logging.getLogger("marquee")

Config = dict[str, Any]


def take_over(folder: Path) -> None:
    """Hold a run's folder, to continue it: only where something is left to do and nobody else is doing it."""
    if int(os.environ.get("LOCAL_RANK", 0)):  # the first process of a distributed run holds it for all
        return
    if origin := came_about(read_manifest(folder)):
        raise ConfigError(f"{folder.name} is no run of `train`, so it is not resumed. {origin}")
    try:
        free = status_of(folder, read_manifest(folder)) != "running" and hold(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not free:
        who = owner(folder)
        ways = "Wait for it, or stop it first" if is_here(who) else "Wait for it; a minute without a sign means its end"
        again = f"marquee train resume={folder.name}"
        raise Taken(f"{folder.name} is being run by {told(folder)}. {ways}; then: {again}", folder)
    # Not before: until the folder was held, another process may have finished it.
    if read_manifest(folder).get("status") == "finished":
        release(folder)
        raise Taken(
            f"{folder.name} is finished, so there is nothing to resume. To run it again: marquee rerun {folder.name}",
            folder,
        )


def came_about(manifest: Config) -> str | None:
    """How a child came about, and what to type to make it again; None for a run of `train`."""
    parent = manifest.get("parent")
    if not parent:
        return None
    if events := manifest.get("events"):
        return (
            f"It is {parent['id']} with the events of a file whose sha256 is {events.get('sha256')}. To make it again: "
            f"marquee update {parent['id']} --events FILE"
        )
    return f"It is {parent['id']} without some users. To make it again: marquee forget {parent['id']} --user ID"


def open_run(
    config: Config,
    overrides: Sequence[str],
    data: DataSet,
    task: Task,
    resume: Path | None,
    code: Config,
    once: bool = False,
) -> Run:
    """A new folder with a manifest that says `running`, or the folder to continue in."""
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if rank:
        return Run.open(Path(os.environ["MARQUEE_RUN_FOLDER"]))
    identity = fingerprint(config, data.fingerprint, data.split_fingerprint, code)
    if resume is not None:
        run = Run.open(resume)
        if run.manifest["data"]["fingerprint"] != data.fingerprint:
            raise ConfigError(f"{resume}: the data has changed since this run began, so it cannot be continued.")
        if run.manifest["fingerprint"] != identity:
            log.warning("The code or configuration has changed since this run began; the result may differ.")
        if (run.manifest["environment"] or {}).get("threads") != environment()["threads"]:
            log.warning("The number of threads differs from this run's own; the last digits of the result may, too.")
        if canonical(identity_of(config)) != canonical(identity_of(run.manifest["config"])):
            run.reconfigure(config, identity)
        run.restart(overrides)
    else:
        data_name, model_name = choice_of("data", config["data"]), choice_of("model", config["model"])
        content = {
            "name": config["name"],
            "tags": config["tags"],
            "sweep": config.get("sweep"),
            "environment": environment(),
            "fingerprint": identity,
            "config": config,
            "overrides": list(overrides),
            "code": code,
            "model": model_name,
            "data": {
                "name": data_name,
                "fingerprint": data.fingerprint,
                "spec": data.spec.to_json(),
                "report": data.report,
            },
            "split": {
                "name": choice_of("split", config["split"]),
                "fingerprint": data.split_fingerprint,
                "config": config["split"],
                **_repetition(config["split"], data.fingerprint),
            },
            "seed": config["seed"],
            "monitor": task.monitor,
            "mode": task.mode,
            "task": task.described(),
            "parameters": task.model.n_parameters,
            "pretrained": asdict(pretrained) if (pretrained := getattr(task.model, "pretrained", None)) else None,
        }
        slug = config["name"] or f"{data_name}-{model_name.split('/')[-1]}-s{config['seed']}"
        output = Path(config["paths"]["output"]).expanduser()
        with first_of(output, identity) if once else nullcontext():
            run = Run.create(output, identity, slug, content)
    os.environ["MARQUEE_RUN_FOLDER"] = str(run.folder)
    return run


def _repetition(node: Config, data_fingerprint: str) -> Config:
    """Of a run that is one fold or draw of several: which, of how many, and what all of them share (`pool`)."""
    split: Split = build(node)
    shared = pool(data_fingerprint, node, split.fold_key)
    found = {"draw": node["seed"]} if "seed" in node else {}
    if split.fold_key is not None:
        found |= {"fold": getattr(split, split.fold_key), "folds": split.folds, "fold_key": split.fold_key}
    return {**found, "pool": shared} if shared else {}
