"""NextItNet: stacked dilated causal convolutions read the history and predict the next item at every position."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, Len
from torch import Tensor, nn

from marquee.data.interactions.views import Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender


class CausalConv(nn.Module):
    """A convolution over the position and the `kernel` - 1 before it that are `dilation` apart, zeros before the row.

    One product of all taps side by side: on processors faster than conv1d, and channels stay last for layer norm.
    """

    def __init__(self, dim: int, kernel: int, dilation: int):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.taps = nn.Linear(kernel * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        padded = F.pad(x, (0, 0, (self.kernel - 1) * self.dilation, 0))
        starts = range(0, self.kernel * self.dilation, self.dilation)
        return self.taps(torch.cat([padded[:, start : start + length] for start in starts], -1))


class Block(nn.Module):
    """Two convolutions, the second with twice the dilation, each with layer norm and ReLU; a residual around both."""

    def __init__(self, dim: int, kernel: int, dilation: int):
        super().__init__()
        self.inside = nn.Sequential(
            CausalConv(dim, kernel, dilation), nn.LayerNorm(dim), nn.ReLU(),
            CausalConv(dim, kernel, 2 * dilation), nn.LayerNorm(dim), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class NextItNet(NextItemRecommender):
    """Yuan et al. 2019, "A simple convolutional generative network for next item recommendation", WSDM.

    Their residual block with two dilated layers. With kernel k, a block of dilation l sees 3 (k - 1) l positions
    further back. They have no dropout and an output layer of its own (`tied=false`).
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Sequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        kernel: Annotated[int, Ge(2)] = 3,
        dilations: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = (1, 4),
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        tied: bool = True,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        self.make_tables(spec, dim, dim**-0.5 / 2, features=features, tied=tied)
        self.dropout = Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, kernel, dilation) for dilation in dilations))
        self.norm = nn.LayerNorm(dim)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        x = self.dropout(self.embed(items) * self.items.embedding_dim**0.5)
        return self.norm(self.dropout(self.blocks(x)))
