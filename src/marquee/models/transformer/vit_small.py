"""A small Vision Transformer: an image as a sequence of patches."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.images.views import ImageBatch, ImageBatches, as_float
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError
from marquee.models.dropout import Dropout
from marquee.models.pretrained import ImageClassifier
from marquee.models.transformer.text import Block


class VitSmall(ImageClassifier):
    """Patch and position vectors, pre-norm encoder blocks, pooling over the patches, a linear layer to logits.

    Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words", ICLR; positions from sines, and the mean instead of a
    token of the class: Beyer, Zhai & Kolesnikov 2022, "Better plain ViT baselines for ImageNet-1k".

    patch      side of a patch in pixels; an image that is no multiple of it is continued in grey
    dim        width of patch vectors and states; with sines a multiple of 4
    heads      attention heads; divides dim
    layers     encoder blocks
    feed       width of the feed-forward layer, as a multiple of dim
    positions  learnt, or sincos: sines and cosines of row and column, which are not trained
    pooling    mean over the patches, or cls: a further token, trained to stand for the whole image
    dropout    share of zeroed values in patch vectors, behind each block and before the output
    weights    a file with weights to begin with (see models/pretrained.py)

    Raises ConfigError where `heads` does not divide `dim`, or sines do not.
    """

    def __init__(
        self,
        spec: ImageSpec,
        *,
        view: ImageBatches,
        patch: Annotated[int, Ge(1)] = 10,
        dim: Annotated[int, Ge(1)] = 96,
        heads: Annotated[int, Ge(1)] = 3,
        layers: Annotated[int, Ge(1)] = 4,
        feed: Annotated[int, Ge(1)] = 2,
        positions: Literal["learnt", "sincos"] = "sincos",
        pooling: Literal["mean", "cls"] = "mean",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        weights: str | None = None,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"model.heads={heads} must divide model.dim={dim}.")
        if positions == "sincos" and dim % 4:
            raise ConfigError(f"model.positions=sincos needs a model.dim that is a multiple of 4, and {dim} is not.")
        self.view, self.weights, self.patch = view, weights, patch
        rows, columns = -(-spec.height // patch), -(-spec.width // patch)
        self.patches = nn.Conv2d(spec.channels, dim, patch, stride=patch)
        if positions == "learnt":
            self.positions = nn.Parameter(torch.randn(rows * columns, dim) * 0.02)
        else:
            self.register_buffer("positions", sines(rows, columns, dim), persistent=False)
        self.whole = nn.Parameter(torch.randn(dim) * 0.02) if pooling == "cls" else None
        self.blocks = nn.ModuleList(Block(dim, heads, feed * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(dim, spec.n_classes)

    def forward(self, batch: ImageBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        images = as_float(batch.images).to(self.output.weight.dtype)
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        states = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        if self.whole is not None:
            states = torch.cat([self.whole.to(states.dtype).expand(len(states), 1, -1), states], dim=1)
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, None)
        states = self.norm(states)
        return self.output(self.dropout(states.mean(dim=1) if self.whole is None else states[:, 0]))


def sines(rows: int, columns: int, dim: int) -> Tensor:
    """Positions [rows * columns, dim]: a quarter each of sines and cosines of the column, and of the row.

    The wavelengths go from 2 pi to 10,000 * 2 pi, as in Vaswani et al. 2017.
    """
    rates = 10_000.0 ** -(torch.arange(dim // 4) / max(dim // 4 - 1, 1))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (column, row)]
    return torch.cat([function(angle) for angle in angles for function in (torch.sin, torch.cos)], dim=1)
