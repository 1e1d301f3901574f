"""Label texts or images with a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.apply.artefacts import load_model
from marquee.data.decoding import decode_image
from marquee.data.image_views import ImageBatch
from marquee.data.text_views import TextBatch
from marquee.data.tokenizer import encode, word_numbers
from marquee.errors import ConfigError

AT_ONCE = 256
LIKELY = 0.5  # a multi-label label is predicted from this probability on


class _Classifier:
    """The trained model with its label names; a sub-class turns inputs into batches."""

    def __init__(self, folder: Path, facts: dict[str, Any], multilabel: bool):
        self.model = load_model(folder)
        self.labels: list[str] = list(facts["labels"])
        self.multilabel = multilabel

    def _batch(self, inputs: Sequence[Any]) -> Any:
        raise NotImplementedError

    @torch.inference_mode()
    def _table(self, inputs: Sequence[Any]) -> pd.DataFrame:
        parts = []
        for start in range(0, len(inputs), AT_ONCE):
            logits = self.model(self._batch(inputs[start : start + AT_ONCE])).float()
            parts.append((logits.sigmoid() if self.multilabel else logits.softmax(dim=1)).numpy())
        probabilities = np.concatenate(parts) if parts else np.zeros((0, len(self.labels)), np.float32)
        if self.multilabel:
            chosen = ["|".join(np.asarray(self.labels, dtype=object)[row >= LIKELY]) for row in probabilities]
        else:
            chosen = np.asarray(self.labels, dtype=object)[probabilities.argmax(axis=1)] if len(inputs) else []
        columns = {f"p({label})": probabilities[:, i] for i, label in enumerate(self.labels)}
        return pd.DataFrame({"label": chosen, **columns})


class TextPredictor(_Classifier):
    """Labels texts with the vocabulary that training made."""

    def __init__(self, folder: Path, multilabel: bool):
        facts = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        super().__init__(folder, facts, multilabel)
        self._encoding = word_numbers(facts)

    def predict(self, texts: Sequence[str]) -> pd.DataFrame:
        """A row a text: `label`, and `p(<label>)` for each label. Multi-label: the likely labels joined by "|"."""
        if isinstance(texts, str):
            raise ConfigError("predict takes a list of texts; for one text give a list of one.")
        return self._table(list(texts))

    def recommend(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        raise ConfigError("This run classifies texts; it cannot recommend. Use predict, or --text on the command line.")

    def _batch(self, inputs: Sequence[str]) -> TextBatch:
        view = self.model.view
        tokens, lengths = encode(
            inputs, self._encoding, getattr(view, "max_length", 400), getattr(view, "truncate", "head")
        )
        return TextBatch(tokens, lengths, *_nothing(len(inputs)))


class ImagePredictor(_Classifier):
    """Labels images after stretching them to the size that training used."""

    def __init__(self, folder: Path, multilabel: bool):
        self._facts = json.loads((folder / "image.json").read_text(encoding="utf-8"))
        super().__init__(folder, self._facts, multilabel)

    def predict(self, images: Sequence[Any]) -> pd.DataFrame:
        """A row an image (path, encoded bytes or Pillow image): `label`, and `p(<label>)` for each label."""
        if isinstance(images, (str, Path)):
            raise ConfigError("predict takes a list of images; for one image give a list of one.")
        return self._table(list(images))

    def recommend(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        raise ConfigError(
            "This run classifies images; it cannot recommend. Use predict, or --image on the command line."
        )

    def _batch(self, inputs: Sequence[Any]) -> ImageBatch:
        pixels = np.stack([decode_image(image, self._facts) for image in inputs])
        return ImageBatch(torch.from_numpy(pixels), *_nothing(len(inputs)))


def _nothing(n: int) -> tuple[Tensor, Tensor]:
    """Labels and row numbers of examples that have neither."""
    return torch.zeros(n, dtype=torch.int64), torch.arange(n)
