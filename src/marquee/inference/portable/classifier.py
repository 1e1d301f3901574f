"""Label texts and images with an exported run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marquee.data.images.decoding import decode_image
from marquee.data.text.tokenizer import cut, word_numbers
from marquee.inference.classifier import ImagePredictor, TextPredictor
from marquee.inference.portable.artefact import Artefact


class PortableTexts(TextPredictor):
    """As `TextPredictor`: tokenizer and vocabulary are the run's."""

    def __init__(self, artefact: Artefact):
        self.artefact = artefact
        self._know(artefact.json(self.facts), artefact.told["settings"]["multilabel"], artefact.told)
        self.encoding = word_numbers(self.content)

    def chances(self, inputs: Sequence[str]) -> np.ndarray:
        settings = self.artefact.told["settings"]
        tokens, lengths = cut(inputs, self.encoding, settings["max_length"], settings["truncate"])
        return probability(self.logits(tokens, lengths), self.multilabel)

    def logits(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Float32 [batch, classes] of token rows [batch, length], padded on the right with 0, of `lengths` [batch]."""
        feeds = {"tokens": tokens, "lengths": lengths}
        return self.artefact.run(**{name: feeds[name] for name in self.artefact.inputs})[0]


class PortableImages(ImagePredictor):
    """As `ImagePredictor`: images are stretched to the run's own size."""

    def __init__(self, artefact: Artefact):
        self.artefact = artefact
        self._know(artefact.json(self.facts), artefact.told["settings"]["multilabel"], artefact.told)

    def chances(self, inputs: Sequence[Any]) -> np.ndarray:
        return probability(
            self.logits(np.stack([decode_image(image, self.content) for image in inputs])), self.multilabel
        )

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Float32 [batch, classes] of uint8 images [batch, channels, height, width]."""
        return self.artefact.run(images=images)[0]


def probability(logits: np.ndarray, multilabel: bool) -> np.ndarray:
    """Probabilities of logits [batch, classes]: a sigmoid a label, or a softmax over the classes."""
    logits = logits.astype(np.float32)
    if multilabel:
        return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # the sigmoid, which no large number breaks
    heights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return heights / heights.sum(axis=1, keepdims=True)
