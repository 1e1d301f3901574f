"""What pictures are compared by: the features of a finished classifier, or principal components of pixels."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from marquee.data.images.dataset import ImageData
from marquee.data.images.views import ImageBatch
from marquee.errors import ConfigError
from marquee.inference.classifier import ImagePredictor
from marquee.inference.embedding import last_layer, what_it_sees
from marquee.inference.predictor import predictor_of

COMPONENTS = 64
SIDE = 16  # pixels that images are averaged down to before components are looked for
MOST = 10_000  # training images that components are found with
AT_ONCE = 250


class Extractor(ABC):
    """Features of images, and the classes that they are taken for.

    name       in words, for the protocol
    n_classes  0 where it knows none
    """

    name: str
    n_classes: int

    @abstractmethod
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [n, d] and class scores [n, n_classes] of uint8 images [n, channels, height, width]."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features float32 [n, d] and classes int64 [n], or None."""
        parts = [self.look(chunk.cpu()) for chunk in images.split(AT_ONCE)]
        features = torch.cat([features for features, _ in parts])
        if not self.n_classes:
            return features, None
        return features, torch.cat([scores.argmax(dim=1) for _, scores in parts])


class RunFeatures(Extractor):
    """What stands before the last layer of a finished image classifier.

    folder  its `inference/` folder

    Images are stretched to the size that it was trained on (bilinear, with smoothing where they shrink).
    """

    def __init__(self, folder: Path, run: str, channels: int):
        predictor = predictor_of(folder)
        if not isinstance(predictor, ImagePredictor) or (layer := last_layer(predictor.model)) is None:
            raise ConfigError(
                f"task.extractor={run} {predictor.does}, and pictures are looked at by a run that classifies images "
                "and ends in a linear layer."
            )
        if predictor.spec.channels != channels:
            raise ConfigError(
                f"task.extractor={run} looks at images of {predictor.spec.channels} channels, and these have "
                f"{channels}. Train one on this data: marquee train data=... task=classification model=cnn/poster"
            )
        self.model, self.size = predictor.model, (predictor.spec.height, predictor.spec.width)
        self.n_classes = 0 if predictor.multilabel else len(predictor.labels)
        self._seen = what_it_sees(layer)
        self.name = f"{type(self.model).__name__} of run {run}, {layer.in_features} values before its last layer"

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[2:] != self.size:
            wide = F.interpolate(images.float(), self.size, mode="bilinear", antialias=True, align_corners=False)
            images = wide.round().clamp(0, 255).to(torch.uint8)
        nothing = torch.zeros(len(images), dtype=torch.int64)
        self._seen.clear()
        logits = self.model(ImageBatch(images, nothing, nothing)).float()
        return self._seen.pop(), logits


class PixelFeatures(Extractor):
    """Principal components of the training pixels, each divided by its deviation; no run and no download is needed.

    Images are averaged down to at most SIDE by SIDE pixels before. A class is that of the nearest class mean. Values
    under it follow colour and layout, not content: a classifier of the same images sees more.
    """

    def __init__(self, data: ImageData):
        train = data.parts["train"]
        rows = train[:: -(-len(train) // MOST)]
        height, width = data.spec.height, data.spec.width
        self.size = (min(SIDE, height), min(SIDE, width))
        pixels = torch.cat([self._small(torch.from_numpy(np.asarray(data.images[rows[start : start + AT_ONCE]])))
                            for start in range(0, len(rows), AT_ONCE)]).double()  # fmt: skip
        mean = pixels.mean(dim=0)
        values, vectors = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / len(pixels))
        kept = min(COMPONENTS, int((values > 1e-6 * values[-1]).sum()), len(pixels) - 1)
        # The sign of a component is arbitrary: its largest entry is positive.
        vectors = vectors[:, -kept:]
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
        self.mean, self.turn = mean.float(), (vectors / values[-kept:].sqrt()).float()
        self.name = f"{kept} principal components of {self.size[0]} by {self.size[1]} training pixels"
        self.n_classes = 0 if data.spec.multilabel else data.spec.n_classes
        if self.n_classes:
            labels = torch.from_numpy(np.asarray(data.labels[rows]))
            sums = torch.zeros(self.n_classes, kept).index_add_(0, labels, (pixels.float() - self.mean) @ self.turn)
            self.centres = sums / torch.bincount(labels, minlength=self.n_classes).clamp(min=1)[:, None]

    def _small(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), self.size).flatten(1)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = (self._small(images) - self.mean) @ self.turn
        return features, -torch.cdist(features, self.centres) if self.n_classes else features
