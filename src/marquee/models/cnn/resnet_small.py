"""A small residual network for small images, with identity shortcuts before pooling to one vector."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.models.pretrained import ImageClassifier


class ResNetSmall(ImageClassifier):
    """A 3x3 convolution, three stages of residual blocks, average pooling, a linear layer to logits.

    He, Zhang, Ren & Sun 2016, "Deep Residual Learning for Image Recognition", CVPR, section 4.2 (CIFAR-10): each stage
    has half the size and twice the channels of the one before. Shortcuts that change size are 1x1 convolutions (the
    paper's option B).

    width    channels of the first stage; the others have 2 and 4 times as many (paper: 16)
    blocks   residual blocks a stage; the network has 6 * blocks + 2 layers (paper: 3 for ResNet-20)
    stem     pixels that the first convolution steps; 2 or 4 makes large images affordable
    dropout  share of zeroed values before the output (paper: none)
    weights  a file with weights to begin with (see models/pretrained.py)
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        width: Annotated[int, Ge(1)] = 16,
        blocks: Annotated[int, Ge(1)] = 2,
        stem: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        weights: str | None = None,
    ):
        super().__init__()
        self.view, self.weights = view, weights
        self.first = nn.Sequential(
            nn.Conv2d(spec.channels, width, 3, stride=stem, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        layers, before = [], width
        for stage, after in enumerate((width, 2 * width, 4 * width)):
            for block in range(blocks):
                layers.append(Block(before, after, stride=2 if stage and not block else 1))
                before = after
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(before, spec.n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        images = as_float(batch.images).to(self.output.weight.dtype)
        return self.output(self.dropout(self.stages(self.first(images)).mean(dim=(2, 3))))


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to their input."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        # The pixels are chosen here: where a 1x1 convolution steps over them and the channels are no multiple of the
        # processor's vectors, oneDNN's kernels write past the end of its gradient.
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(kept), inplace=True)
