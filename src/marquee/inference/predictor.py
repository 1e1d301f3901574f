"""What answers with a finished run: built from its `inference/` folder alone, without Hydra, Lightning or the data."""

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from safetensors import SafetensorError

from marquee.config.targets import resolve
from marquee.data.spec import Spec
from marquee.errors import ConfigError
from marquee.inference.artefacts import load_model, read_model
from marquee.models.base import Model

# What reading a damaged `inference/` folder may raise.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)


class Predictor(ABC):
    """The trained model with all that turns a person's question into a batch, and scores into an answer.

    folder   a run's `inference/` folder

    model    in evaluation mode
    spec     of the data that it was trained on

    A sub-class overrides what it can answer and says:

    does     what such a run does, in words ("recommends items")
    verb     the verb of the command line that asks it
    example  the arguments of that verb behind the run's name, to be typed as they are
    """

    does: ClassVar[str]
    verb: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, folder: Path):
        self.model: Model
        self.spec: Spec
        self.model, self.spec = load_model(folder)

    def recommend(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Items for users. Raises ConfigError where this run does something else."""
        raise self._cannot("recommend")

    def predict(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Labels of inputs. Raises ConfigError where this run does something else."""
        raise self._cannot("predict")

    def generate(self, *args: Any, **kwargs: Any) -> list[Any]:
        """New things of the kind that it has learnt. Raises ConfigError where this run does something else."""
        raise self._cannot("generate")

    def golden(self) -> list[dict[str, Any]]:
        """A few questions as JSON, by which a loaded run is tried; none where this kind of run has none."""
        return []

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The answer to one of `golden`, columns by name as JSON."""
        raise NotImplementedError

    def _cannot(self, verb: str) -> ConfigError:
        return ConfigError(
            f"This run {self.does}; it cannot {verb}. Use {self.verb}, on the command line: "
            f"marquee {self.verb} RUN {self.example}"
        )


def predictor_of(folder: Path) -> Predictor:
    """The predictor that the `inference/` folder of a run names, loaded.

    Raises ConfigError where it names none, and one of DAMAGE where the folder is damaged.
    """
    name = read_model(folder)["predictor"]
    if name is None:
        raise ConfigError(
            f"{folder.parent.name}: its task names nothing that could use the run, so it can only be read."
        )
    kind = resolve(name)
    if not issubclass(kind, Predictor):
        raise ConfigError(f"{folder}: {name} is no Predictor.")
    return kind(folder)
