"""The finished run whose features pictures are compared by: found by its name, and named by its weights."""

import re
from pathlib import Path
from typing import Any

from marquee.data.cache import file_sha256
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import WEIGHTS
from marquee.runs.finding import find_run
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest

DIGITS = 12  # of a run's sha256 that stand behind its id


def with_extractor(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `task.extractor` as ID@DIGITS and `task.extractor_folder` filled in.

    The digits are those of the weights' sha256, so that values under another extractor are another protocol. A
    configuration without one is returned as it is. Raises ConfigError for a name that fits no finished run, and for a
    record whose run has other weights now.
    """
    node = config["task"]
    name = node.get("extractor")
    if not isinstance(name, str) or "extractor_folder" not in node:
        return config
    recorded = re.fullmatch(r"(.+)@([0-9a-f]+)", name)
    run, wanted = recorded.groups() if recorded else (name, "")
    before = node["extractor_folder"]
    try:
        folder = find_run(run, Path(config["paths"]["output"]).expanduser())
    except ConfigError as error:
        if before is None or not (Path(before) / "manifest.json").is_file():
            raise ConfigError(f"task.extractor: {error}") from error
        folder = Path(before)
    status = status_of(folder, read_manifest(folder))
    if status != "finished":
        raise ConfigError(f"task.extractor: {folder.name} is {status}, and features are those of a finished run.")
    digits = weights_sha256(folder, "task.extractor")
    if not digits.startswith(wanted):
        raise ConfigError(
            f"task.extractor: {folder.name} has other weights now (sha256 {digits[:DIGITS]}... instead of {wanted}). "
            f"To take them: task.extractor={folder.name}"
        )
    return {
        **config,
        "task": {**node, "extractor": f"{folder.name}@{digits[:DIGITS]}", "extractor_folder": str(folder)},
    }


def weights_sha256(folder: Path, key: str = "model.runs") -> str:
    """The sha256 of the weights that are there, which a record could only claim."""
    try:
        return file_sha256(folder / "inference" / WEIGHTS)
    except OSError as error:
        raise DataError(f"{key}: {folder.name} is damaged: {error}. To train it again: marquee rerun {folder.name}"
                        ) from error  # fmt: skip
