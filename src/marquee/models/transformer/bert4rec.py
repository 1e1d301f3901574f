"""BERT4Rec: self-attention in both directions fills in hidden items; a mask behind the history asks for the next."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.interactions.views import MaskedSequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender
from marquee.models.transformer.attention import attend


class Block(nn.Module):
    """Self-attention and a feed-forward network four times as wide, each with dropout, a residual, then layer norm."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.feed_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """States [batch, length, dim]; `real` (bool [batch, 1, 1, length]) says which positions may be attended to."""
        batch, length, dim = x.shape
        query, key, value = (
            self.attention(x).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        )
        mixed = attend(query, key, value, self.dropout.p if self.training else 0.0, real)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        x = self.attention_norm(x + self.dropout(mixed))
        return self.feed_norm(x + self.dropout(self.feed(x)))


class BERT4Rec(NextItemRecommender):
    """Sun et al. 2019, "BERT4Rec: sequential recommendation with bidirectional encoder representations", CIKM.

    Scores are GELU(h W + b) E^T + b_o with the (shared) item embeddings E (their eq. 7), layer norm behind the GELU as
    in their code. Positions are counted back from the newest item. To recommend, the mask token is put behind the
    history. It learns from the hidden positions only, so it wants several times as many epochs as SASRec: Petrov &
    Macdonald 2022, "A systematic review and replicability study of BERT4Rec", RecSys.
    """

    view: MaskedSequences

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: MaskedSequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}")
        self.make_tables(spec, dim, 0.02, features=features, bias=True, extra_tokens=view.extra_tokens)
        self.positions = nn.Embedding(view.max_length, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        nn.init.normal_(self.positions.weight, std=0.02)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        age = lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)
        x = self.dropout(self.norm(self.embed(items) + self.positions(age.clamp(min=0))))
        real = (age >= 0)[:, None, None]
        for block in self.blocks:
            x = block(x, real)
        return self.head(x)

    @property
    def reads(self) -> int:
        return self.view.max_length - 1  # the mask takes the last place

    def newest(self, items: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        items = F.pad(items, (0, 1), value=self.n_items)
        items = items.scatter(1, lengths[:, None], self.n_items + 1)
        return self._encode(items, lengths + 1)[torch.arange(items.shape[0], device=items.device), lengths]
