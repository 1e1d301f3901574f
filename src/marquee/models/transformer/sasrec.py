"""SASRec: causal self-attention over the history predicts the next item at every position."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.interactions.views import Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender
from marquee.models.transformer.attention import attend


class Block(nn.Module):
    """Self-attention and a point-wise feed-forward network, each with dropout, layer norm and a residual.

    norm_first True: x + f(norm(x)), today's pre-norm. False: the paper's block as its published code has it: only
    queries are normalised before attention, the residual is taken from the normalised queries, and likewise for the
    feed-forward part.
    """

    def __init__(self, dim: int, heads: int, dropout: float, norm_first: bool):
        super().__init__()
        self.heads = heads
        self.norm_first = norm_first
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim, eps=1e-8)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim, eps=1e-8)
        self.feed = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), Dropout(dropout), nn.Linear(dim, dim), Dropout(dropout)
        )

    def _attend(self, queries: Tensor, context: Tensor) -> Tensor:
        batch, length, dim = queries.shape
        split = self.heads, dim // self.heads
        query = self.query(queries).view(batch, length, *split).transpose(1, 2)
        key, value = self.key_value(context).view(batch, length, 2, *split).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    def forward(self, x: Tensor) -> Tensor:
        normal = self.attention_norm(x)
        if self.norm_first:
            x = x + self._attend(normal, normal)
            return x + self.feed(self.feed_norm(x))
        x = self.feed_norm(normal + self._attend(normal, x))
        return x + self.feed(x)


class SASRec(NextItemRecommender):
    """Kang & McAuley 2018, "Self-attentive sequential recommendation", with any of the losses of `models.losses`.

    Items are scored by products with the (shared) item embeddings (their eq. 6). Rows are right-padded and positions
    are counted back from the newest item, which is what the paper's left padding amounts to.

    With the loss `gbce` this is gSASRec (Petrov & Macdonald 2023, "gSASRec: reducing overconfidence in sequential
    recommendation trained with negative sampling", RecSys), whose output vectors are its own (`tied=false`).
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Sequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        norm_first: bool = True,
        tied: bool = True,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}")
        self.make_tables(spec, dim, dim**-0.5 / 2, features=features, tied=tied)
        self.positions = nn.Embedding(view.max_length, dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout, norm_first) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, eps=1e-8)
        nn.init.normal_(self.positions.weight, std=dim**-0.5 / 2)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        age = (lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)).clamp(min=0)
        x = self.dropout(self.embed(items) * self.items.embedding_dim**0.5 + self.positions(age))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
