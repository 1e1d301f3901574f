"""A small pre-norm Transformer encoder that pools its states over the real words of a text."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.spec import TextSpec
from marquee.data.text.store import PADDING
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.base import Classifier


class TextTransformer(Classifier):
    """Word and position vectors, pre-norm encoder blocks, pooling over the words, a linear layer to logits.

    Vaswani et al. 2017, "Attention Is All You Need", NeurIPS; normalisation before each block: Xiong et al. 2020, "On
    Layer Normalization in the Transformer Architecture", ICML.

    dim      width of word vectors and states
    heads    attention heads; divides dim
    layers   encoder blocks
    feed     width of the feed-forward layer, as a multiple of dim
    pooling  max or mean over the words
    dropout  share of zeroed values in word vectors and behind each block

    Raises ConfigError where `heads` does not divide `dim`.
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 64,
        heads: Annotated[int, Ge(1)] = 4,
        layers: Annotated[int, Ge(1)] = 2,
        feed: Annotated[int, Ge(1)] = 2,
        pooling: Literal["max", "mean"] = "mean",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"model.heads={heads} must divide model.dim={dim}.")
        self.view = view
        self.pooling = pooling
        self.words = nn.Embedding(spec.vocab_size, dim, padding_idx=PADDING)
        self.positions = nn.Parameter(torch.randn(view.max_length, dim) * 0.02)
        nn.init.normal_(self.words.weight, std=0.1)
        with torch.no_grad():
            self.words.weight[PADDING] = 0
        self.blocks = nn.ModuleList(Block(dim, heads, feed * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, spec.n_classes)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]. Texts must not be longer than the view's max_length."""
        length = batch.tokens.shape[1]
        inside = torch.arange(length, device=batch.tokens.device) < batch.lengths[:, None]
        states = self.dropout(self.words(batch.tokens) + self.positions[:length])
        # Without padding in the batch no mask is needed, and attention may take its fastest kernel.
        mask = None if bool(inside.all()) else inside[:, None, None, :]
        for block in self.blocks:
            states = block(states, mask)
        states = self.norm(states)
        if self.pooling == "max":
            pooled = states.masked_fill(~inside[..., None], torch.finfo(states.dtype).min).amax(dim=1)
        else:
            pooled = (states * inside[..., None]).sum(dim=1) / batch.lengths[:, None]
        return self.output(self.dropout(pooled))


class Block(nn.Module):
    """Attention among all words, then a feed-forward layer, each added to its input."""

    def __init__(self, dim: int, heads: int, feed: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, feed), nn.GELU(), nn.Linear(feed, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """`states` [batch, length, dim]; `mask` bool [batch, 1, 1, length], true where a word stands."""
        batch, length, dim = states.shape
        joined = self.queries_keys_values(self.attention_norm(states))
        queries, keys, values = joined.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        states = states + self.dropout(self.mix(read.transpose(1, 2).reshape(batch, length, dim)))
        return states + self.dropout(self.feed(self.feed_norm(states)))
