"""From a finished run straight to use. Needs neither Hydra nor Lightning nor the data set.

predictor = marquee.load("latest")
predictor.recommend(users=[1, 2], k=5)                       # a run on interactions
predictor.predict(["a slow start, but a wonderful end"])     # a run on texts
"""

import os
from pathlib import Path

from marquee.errors import ConfigError, DataError
from marquee.inference.predictor import DAMAGE, Predictor, predictor_of
from marquee.runs.finding import find_run
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest


def load(run: str | Path = "latest", output: str | Path | None = None) -> Predictor:
    """The predictor of a finished run: a folder, an id or fingerprint prefix, or "latest" below `output`.

    `output` is where runs land (default: MARQUEE_OUTPUT, else outputs). Raises ConfigError for an unknown or
    unfinished run and for one whose task names no predictor, DataError for a damaged one.
    """
    folder = find_run(str(run), Path(output or os.environ.get("MARQUEE_OUTPUT", "outputs")))
    manifest = read_manifest(folder)
    status = status_of(folder, manifest)
    if status != "finished":
        hint = f" To continue it: marquee train resume={folder.name}" if status in ("interrupted", "failed") else ""
        raise ConfigError(f"{folder.name} is {status}, and only finished runs can be used.{hint}")
    inference = folder / "inference"
    try:
        return predictor_of(inference)
    except DAMAGE as error:
        raise DataError(
            f"{inference} is damaged ({error}), so the run cannot be used. "
            f"To train it again: marquee rerun {folder.name}"
        ) from error
