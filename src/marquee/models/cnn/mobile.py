"""A light network of inverted residuals, after MobileNetV2: most of its convolutions see one channel at a time."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, Len
from torch import Tensor, nn

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.pretrained import ImageClassifier


class Mobile(ImageClassifier):
    """A 3x3 convolution, stages of inverted residuals, a 1x1 convolution, mean pooling, a linear layer to logits.

    Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR.

    channels   of the stages; from the second on each halves the image (paper, by size: 16, 24, 32, 96, 320)
    blocks     inverted residuals in each stage
    width      all channels are multiplied with this
    expansion  width inside a block, as a multiple of its channels (paper: 6)
    head       channels before pooling (paper: 1280)
    stem       pixels that the first convolution steps (paper: 2)
    dropout    share of zeroed values before the output
    weights    a file with weights to begin with (see models/pretrained.py)

    Raises ConfigError where `channels` and `blocks` are not of one length.
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        channels: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (16, 24, 32, 64),
        blocks: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (1, 2, 2, 2),
        width: Annotated[float, Gt(0)] = 1.0,
        expansion: Annotated[int, Ge(1)] = 6,
        head: Annotated[int, Ge(1)] = 256,
        stem: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        weights: str | None = None,
    ):
        super().__init__()
        if len(channels) != len(blocks):
            raise ConfigError(f"model.channels={list(channels)} and model.blocks={list(blocks)} must be of one length.")
        self.view, self.weights = view, weights
        # Multiples of 8, as the paper's own code has it: kernels work on so many channels at once.
        widths = [max(8, 8 * round(width * n / 8)) for n in channels]
        layers = _convolution(spec.channels, widths[0], 3, stem)
        before = widths[0]
        for stage, (after, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                inside = before * (expansion if stage else 1)
                layers.append(InvertedResidual(before, inside, after, stride=2 if stage and not block else 1))
                before = after
        self.features = nn.Sequential(*layers, *_convolution(before, head, 1, 1))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(head, spec.n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # By what goes in, which of a channel's own convolution are 9 values: then each layer's outputs vary by
                # about 1, as the running statistics of batch normalisation assume at first.
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        states = self.features(as_float(batch.images).to(self.output.weight.dtype))
        return self.output(self.dropout(states.mean(dim=(2, 3))))


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 a channel, 1x1 to few without rectifier; added to the input where the sizes allow."""

    def __init__(self, before: int, inside: int, after: int, stride: int):
        super().__init__()
        widen = _convolution(before, inside, 1, 1) if inside != before else []
        self.layers = nn.Sequential(
            *widen,
            *_convolution(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _convolution(before: int, after: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (divided by its stride), batch normalisation, a rectifier that ends at 6."""
    return [
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(inplace=True),
    ]
