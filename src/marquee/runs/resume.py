"""What a resumed run goes on with: the configuration that it began with, and the few changes that are allowed."""

import dataclasses
import os
from pathlib import Path

import yaml

from marquee.config.compose import Composed
from marquee.config.former import modern
from marquee.errors import ConfigError
from marquee.runs.finding import find_run
from marquee.runs.record import read_manifest

# A run that is resumed keeps its configuration, or its weights could not equal those of an uninterrupted run. What may
# be changed: how long it goes on, where things lie, who watches, how it is run, what is printed.
RESUME_MAY_CHANGE = (
    "resume", "paths", "tracker", "tags", "name", "sweep", "trainer.max_epochs", "trainer.max_time",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip


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
    config = modern(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else manifest["config"]
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
