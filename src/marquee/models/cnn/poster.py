"""A plain convolutional network for posters: by default 32, 64 and 128 channels, each pooled 2 by 2, dense 512."""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Interval, Len
from torch import Tensor, nn

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.pretrained import ImageClassifier


class PosterCnn(ImageClassifier):
    """Convolutions, each halved by max pooling, then a dense layer and a linear layer to logits.

    After Chu & Guo 2017, "Movie Genre Classification based on Poster Images with Deep Neural Networks", MUSA2.

    channels    of the convolutions, one after the other
    kernel      side of each convolution, in pixels
    dense       width of the layer before the output
    dropout     share of zeroed values before and after the dense layer
    batch_norm  batch normalisation behind each convolution (Ioffe & Szegedy 2015); the paper has none
    weights     a file with weights to begin with (see models/pretrained.py)

    Raises ConfigError where the images are too small to be halved that often.
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        channels: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (32, 64, 128),
        kernel: Annotated[int, Ge(1)] = 3,
        dense: Annotated[int, Ge(1)] = 512,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        batch_norm: bool = False,
        weights: str | None = None,
    ):
        super().__init__()
        self.view, self.weights = view, weights
        shrink = 2 ** len(channels)
        height, width = spec.height // shrink, spec.width // shrink
        if not height * width:
            raise ConfigError(
                f"model.channels={list(channels)} halves the image {len(channels)} times, and {spec.height} by "
                f"{spec.width} pixels do not last that long. Use fewer convolutions or larger images."
            )
        widths = [spec.channels, *channels]
        # The largest of rectified values is the rectified largest, so pooling may come first: a quarter of the work.
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, kernel, padding="same", bias=not batch_norm), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(widths[-1] * height * width, dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense, spec.n_classes),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        return self.classifier(self.features(as_float(batch.images).to(self.classifier[-1].weight.dtype)))
