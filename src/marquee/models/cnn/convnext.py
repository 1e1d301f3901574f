"""A small ConvNeXt: large depthwise convolutions with the parts of a Transformer around them."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, Len
from torch import Tensor, nn

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.pretrained import ImageClassifier


class ConvNext(ImageClassifier):
    """A stem of patches, stages of inverted bottlenecks, each of half the size before, mean pooling, a linear layer.

    Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022, "A ConvNet for the 2020s", CVPR. Scale of each branch: Touvron et
    al. 2021, "Going Deeper with Image Transformers", ICCV; stochastic depth: Huang et al. 2016, ECCV.

    channels          of the stages, one after the other (the paper's smallest: 96, 192, 384, 768)
    blocks            in each stage (paper: 3, 3, 9, 3)
    stem              side of the patches that the first convolution steps over (paper: 4)
    kernel            side of the depthwise convolutions (paper: 7)
    expansion         width inside a block, as a multiple of its channels (paper: 4)
    layer_scale       what each branch is multiplied with at first, a channel (paper: 1e-6)
    stochastic_depth  share of images for which the last block is left out in training; earlier ones less often
    dropout           share of zeroed values before the output
    weights           a file with weights to begin with (see models/pretrained.py)

    Raises ConfigError where `channels` and `blocks` are not of one length, or the images are too small.
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        channels: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (32, 64, 128),
        blocks: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (1, 2, 1),
        stem: Annotated[int, Ge(1)] = 4,
        kernel: Annotated[int, Ge(1)] = 7,
        expansion: Annotated[int, Ge(1)] = 4,
        layer_scale: Annotated[float, Gt(0)] = 0.1,
        stochastic_depth: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        weights: str | None = None,
    ):
        super().__init__()
        if len(channels) != len(blocks):
            raise ConfigError(f"model.channels={list(channels)} and model.blocks={list(blocks)} must be of one length.")
        if not kernel % 2:
            raise ConfigError(f"model.kernel={kernel} must be odd, or the image would move.")
        if min(spec.height, spec.width) < stem * 2 ** (len(channels) - 1):
            raise ConfigError(
                f"model.stem={stem} and {len(channels)} stages need images of {stem * 2 ** (len(channels) - 1)} pixels "
                f"a side, and these have {spec.height} by {spec.width}. Use a smaller stem, fewer stages or larger "
                "images."
            )
        self.view, self.weights = view, weights
        self.stem = nn.Sequential(nn.Conv2d(spec.channels, channels[0], stem, stride=stem), ChannelNorm(channels[0]))
        rates = torch.linspace(0, stochastic_depth, sum(blocks)).tolist()
        layers: list[nn.Module] = []
        before = channels[0]
        for stage, (after, count) in enumerate(zip(channels, blocks, strict=True)):
            if stage:
                layers += [ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2)]
            layers += [Block(after, kernel, expansion, layer_scale, rates.pop(0)) for _ in range(count)]
            before = after
        self.stages = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(before, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(before, spec.n_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        states = self.stages(self.stem(as_float(batch.images).to(self.output.weight.dtype)))
        return self.output(self.dropout(self.norm(states.mean(dim=(2, 3)))))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel [batch, channels, height, width]."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # With channels last in memory neither turn moves a value.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A depthwise convolution, then two layers a pixel with more channels between them, added to the input."""

    def __init__(self, channels: int, kernel: int, expansion: int, scale: float, stochastic_depth: float):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))
        self.stochastic_depth = stochastic_depth

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(nn.functional.gelu(self.widen(y))) * self.scale
        if self.training and self.stochastic_depth:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.stochastic_depth
            y = y * (kept / (1 - self.stochastic_depth)).to(y.dtype)
        return x + y.permute(0, 3, 1, 2)
