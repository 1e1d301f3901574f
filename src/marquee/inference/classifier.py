"""Label texts or images with a finished run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.data.images.decoding import decode_image
from marquee.data.images.views import ImageBatch
from marquee.data.text.letters import Letters
from marquee.data.text.ngrams import NGramBatch
from marquee.data.text.tokenizer import Tokenizer, encode, word_numbers
from marquee.data.text.views import TextBatch
from marquee.errors import ConfigError
from marquee.inference.artefacts import read_model
from marquee.inference.predictor import Predictor
from marquee.metrics.decisions import Decision
from marquee.seeding import numpy_generator

AT_ONCE = 256


class ClassPredictor(Predictor):
    """The trained model with its label names; a sub-class turns inputs into batches.

    takes    what it labels (text, image): the name of the option and of the column that hold it
    content  what the data set wrote for it
    """

    verb = "predict"
    takes: ClassVar[str]
    facts: ClassVar[str]  # the file that the data set wrote

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.content = json.loads((folder / self.facts).read_text(encoding="utf-8"))
        self.labels: list[str] = list(self.content["labels"])
        self.multilabel: bool = self.spec.multilabel
        self.decision = decision_of(read_model(folder), self.labels, self.multilabel)

    def predict(self, inputs: Sequence[Any]) -> pd.DataFrame:
        """A row an input: `label`, and `p(<label>)` for each label. Multi-label: the likely labels joined by "|".

        Labels are decided as the run's test was (thresholds, costs). Where that left the least certain to a person,
        a column `ask` says which these are.
        """
        if isinstance(inputs, (str, Path)):
            raise ConfigError(f"predict takes a list of {self.takes}s; for one {self.takes} give a list of one.")
        return self._table(list(inputs))

    def batch(self, inputs: Sequence[Any]) -> Any:
        """The inputs as the model reads them."""
        raise NotImplementedError

    def golden(self) -> list[dict[str, Any]]:
        """Made-up inputs, none of the data: words of the vocabulary, or noise."""
        if self.takes == "image":
            return [{"noise": seed} for seed in range(2)]
        words = self.content.get("vocabulary") or []
        spread = [words[place :: max(len(words) // 12, 1)][:12] for place in (3, 5)]
        return [{"text": " ".join(map(str, chosen))} for chosen in spread] + [{"text": "a wonderful last act"}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        given = question["text"] if "text" in question else self._noise(question["noise"])
        table = self.predict([given]).filter(regex=r"^p\(")
        return {name: table[name].astype(float).tolist() for name in table}

    def _noise(self, seed: int) -> Any:
        from PIL import Image

        size = (self.content["height"], self.content["width"], self.content["channels"])
        pixels = numpy_generator(seed, "golden").integers(0, 256, size, dtype=np.uint8)
        return Image.fromarray(pixels[:, :, 0] if size[2] == 1 else pixels)

    @torch.inference_mode()
    def probabilities(self, batch: Any) -> np.ndarray:
        """Of each label, float32 [n, labels]; the labels of one input add up to 1 unless it may have several."""
        logits = self.model(batch).float()
        return (logits.sigmoid() if self.multilabel else logits.softmax(dim=1)).numpy()

    def _table(self, inputs: Sequence[Any]) -> pd.DataFrame:
        parts = []
        for start in range(0, len(inputs), AT_ONCE):
            parts.append(self.probabilities(self.batch(inputs[start : start + AT_ONCE])))
        probabilities = np.concatenate(parts) if parts else np.zeros((0, len(self.labels)), np.float32)
        predicted, names = self.decision.predict(probabilities), np.asarray(self.labels, dtype=object)
        columns: dict[str, Any] = {
            "label": ["|".join(names[row > 0]) for row in predicted] if self.multilabel else names[predicted]
        }
        if self.decision.least > 0:
            columns["ask"] = self.decision.asks(probabilities)
        columns |= {f"p({label})": probabilities[:, i] for i, label in enumerate(self.labels)}
        return pd.DataFrame(columns)


class TextPredictor(ClassPredictor):
    """Labels texts with the vocabulary that training made."""

    does, takes, facts = "classifies texts", "text", "text.json"
    example = '--text "a slow start, but the last act is wonderful"'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.encoding = word_numbers(self.content)

    def batch(self, inputs: Sequence[str]) -> TextBatch | NGramBatch:
        view = self.model.view
        if isinstance(view, Letters):
            return view.of_texts(inputs, Tokenizer(**self.content["tokenizer"]), *_nothing(len(inputs)))
        tokens, lengths = encode(
            inputs, self.encoding, getattr(view, "max_length", 400), getattr(view, "truncate", "head")
        )
        return TextBatch(tokens, lengths, *_nothing(len(inputs)))


class ImagePredictor(ClassPredictor):
    """Labels images (paths, encoded bytes or Pillow images), stretched to the size that training used."""

    does, takes, facts = "classifies images", "image", "image.json"
    example = "--image FILE"

    def batch(self, inputs: Sequence[Any]) -> ImageBatch:
        pixels = np.stack([decode_image(image, self.content) for image in inputs])
        return ImageBatch(torch.from_numpy(pixels), *_nothing(len(inputs)))


def decision_of(content: Mapping[str, Any], labels: Sequence[str], multilabel: bool) -> Decision:
    """What a run decided by in its test, of the content of `model.json`."""
    served = content.get("serves", {}).get("decision")
    return Decision.from_json(served) if served else Decision.plain(len(labels), multilabel)


def _nothing(n: int) -> tuple[Tensor, Tensor]:
    """Labels and row numbers of examples that have neither."""
    return torch.zeros(n, dtype=torch.int64), torch.arange(n)
