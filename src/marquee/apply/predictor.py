"""From a finished run straight to use: recommend for known and unseen users, predict labels for texts and images.

Needs neither Hydra nor Lightning nor the data set: id maps, vocabulary and labels travel in the run's folder.
"""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from marquee.apply.artefacts import load_model
from marquee.data.known import Known
from marquee.data.views import gather_rows
from marquee.errors import ConfigError, DataError
from marquee.models.base import Histories, Model
from marquee.runs.manifest import find_run

USERS_AT_ONCE = 1024


def load(run: str | Path, output: str | Path = "outputs") -> "Recommender | Classifier":
    """The predictor of a finished run: a folder, an id or fingerprint prefix, or "latest" below `output`.

    Raises ConfigError for an unknown or unfinished run, DataError for a damaged one.
    """
    folder = find_run(str(run), Path(output))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["status"] != "finished":
        raise ConfigError(
            f"{folder} is {manifest['status']}, and only finished runs can be used. "
            f"To continue it: marquee train resume={folder}"
        )
    model = load_model(folder / "inference")
    kinds = {"InteractionSpec": Recommender, "TextSpec": TextClassifier, "ImageSpec": ImageClassifier}
    return kinds[manifest["data"]["spec"]["kind"]](model, folder)
