"""What a finished run makes of an example, as a vector: what stands before its last layer, or its classes' chances."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from marquee.data.dataset import DataSet
from marquee.errors import ConfigError
from marquee.inference.classifier import AT_ONCE, ClassPredictor
from marquee.inference.predictor import Predictor, predictor_of


def last_layer(model: nn.Module) -> nn.Linear | None:
    """The linear layer that was defined last, which makes the logits of a classifier."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def what_it_sees(layer: nn.Linear) -> list[Tensor]:
    """A list that each forward pass adds to: what the layer was given, float32 [n, width]."""
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0].float().flatten(1)))
    return seen


class Reader:
    """A finished run that turns texts or images into vectors.

    folder  its `inference/` folder
    key     the setting that names it, for messages
    scores  the probabilities of its classes, instead of what stands before its last layer

    Raises ConfigError for a run that classifies nothing, and for one without a linear layer unless `scores`.
    """

    def __init__(self, folder: Path, key: str, scores: bool = False):
        self.predictor: Predictor = predictor_of(folder)
        model, self.scores = self.predictor.model, scores
        if not isinstance(self.predictor, ClassPredictor):
            raise ConfigError(f"{key} {self.predictor.does}, and vectors are those of a run that classifies.")
        self.takes = self.predictor.takes
        if scores:
            return
        layer = last_layer(model)
        if layer is None:
            raise ConfigError(
                f"{key} is a {type(model).__name__}, which adds up words and has no layer before its last. Take the "
                "probabilities of its classes instead: NAME:RUN:scores"
            )
        self._seen = what_it_sees(layer)

    def read(self, inputs: Sequence[Any]) -> np.ndarray:
        """float32 [n, dim] of texts, or of images (paths, encoded bytes or Pillow images)."""
        chunks = (inputs[start : start + AT_ONCE] for start in range(0, len(inputs), AT_ONCE))
        return np.concatenate([self._vectors(self.predictor.batch(chunk)) for chunk in chunks])

    def read_data(self, data: DataSet) -> np.ndarray:
        """float32 [n, dim] of all examples of the data that it was trained on, set up again."""
        return np.concatenate([self._vectors(batch) for batch in self._batches(data)])

    def _batches(self, data: DataSet) -> Iterator[Any]:
        rows = np.arange(len(data.labels))
        for start in range(0, len(rows), AT_ONCE):
            yield self.predictor.model.view.batch(data, rows[start : start + AT_ONCE])

    @torch.inference_mode()
    def _vectors(self, batch: Any) -> np.ndarray:
        if self.scores:
            return self.predictor.probabilities(batch)
        self._seen.clear()
        self.predictor.model(batch)
        return self._seen.pop().numpy()
