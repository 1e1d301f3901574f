"""HSTU: gated attention without softmax, which keeps how strongly and how lately something was met."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.interactions.views import Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender

TIME_BUCKETS = 64  # two for each doubling of an interval in seconds: the last begins after 95 years


def time_buckets(times: Tensor) -> Tensor:
    """The bucket of how long before each item i item j was met: times [batch, length] to int64 [batch, length, length].

    floor(2 log2(seconds)), the first bucket for a second or less.
    """
    seconds = (times[:, :, None] - times[:, None]).clamp(min=1)
    return seconds.float().log2().mul_(2).long().clamp_(max=TIME_BUCKETS - 1)


class Block(nn.Module):
    """One layer: U, V, Q, K from one projection, point-wise aggregated attention, gating by U, and a residual.

    Zhai et al. 2024, eq. 1-3: U, V, Q, K = SiLU(f1(X)); AV = SiLU(Q K^T + rab) V; Y = f2(norm(AV) * U). As in their
    code, X is normalised first, and attention is divided by the length of the rows.
    """

    def __init__(self, dim: int, heads: int, dropout: float, max_length: int, times: bool):
        super().__init__()
        self.heads = heads
        self.max_length = max_length
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 4 * dim, bias=False)
        self.mixed_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(dim, dim)
        self.position_bias = nn.Parameter(torch.zeros(max_length))
        self.time_bias = nn.Parameter(torch.zeros(TIME_BUCKETS)) if times else None
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x: Tensor, distance: Tensor, buckets: Tensor | None) -> Tensor:
        """States [batch, length, dim], what stands how far before [length, length] (negative: behind), and when."""
        batch, length, dim = x.shape
        gate, value, query, key = F.silu(self.project(self.norm(x))).split(dim, -1)
        split = self.heads, dim // self.heads
        value, query, key = (part.view(batch, length, *split).transpose(1, 2) for part in (value, query, key))
        bias = self.position_bias[distance.clamp(min=0)]
        if buckets is not None:
            # Indexing, and not an embedding, whose gradient takes ten times as long where rows are single numbers.
            bias = (bias + self.time_bias[buckets])[:, None]
        weights = F.silu(query @ key.transpose(-1, -2) + bias) / self.max_length
        mixed = weights.masked_fill(distance < 0, 0) @ value
        mixed = self.mixed_norm(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.out(self.dropout(gate * mixed))


class HSTU(NextItemRecommender):
    """Zhai et al. 2024, "Actions speak louder than words: trillion-parameter sequential transducers", ICML.

    The relative bias `rab` of each layer is learnt for the distance of two items and, where the data has timestamps,
    for the time that lay between them, in logarithmic buckets; both are shared by the heads. The times compared are
    those of the items themselves: when the next one will be met is not known when recommending. A history without
    times is scored without that bias.
    """

    reads_times = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Sequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        tied: bool = True,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}")
        self.make_tables(spec, dim, dim**-0.5 / 2, features=features, tied=tied)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(dim, heads, dropout, view.max_length, spec.has_timestamps) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def _encode(self, items: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        places = torch.arange(items.shape[1], device=items.device)
        distance = places[:, None] - places
        buckets = None if times is None or self.blocks[0].time_bias is None else time_buckets(times)
        x = self.dropout(self.embed(items) * self.items.embedding_dim**0.5)
        for block in self.blocks:
            x = block(x, distance, buckets)
        return self.norm(x)
