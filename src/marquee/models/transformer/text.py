"""A small pre-norm Transformer encoder that pools its states over the real words of a text."""

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.spec import TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.base import Classifier
from marquee.models.dropout import Dropout
from marquee.models.reading import Attention, hide_words, pool_max, pool_mean, real_words, word_vectors
from marquee.models.transformer.attention import attend


class TextTransformer(Classifier):
    """Word and position vectors, pre-norm encoder blocks, pooling over the words, a linear layer to logits.

    Vaswani et al. 2017, "Attention Is All You Need", NeurIPS; normalisation before each block: Xiong et al. 2020, "On
    Layer Normalization in the Transformer Architecture", ICML; rotary positions: Su et al. 2021, "RoFormer".

    dim                width of word vectors and states
    heads              attention heads; divides dim
    layers             encoder blocks
    feed               width of the feed-forward layer, as a multiple of dim
    positions          a vector a place that is learnt, or sines of it (both added to the words), or queries and keys
                       that are turned by an angle a place (rope)
    pooling            max or mean over the words, a mean by learnt weights (attention), or the state of a learnt token
                       that stands before the words (first), as in BERT
    dropout            share of zeroed values in word vectors and behind each block
    attention_dropout  share of zeroed attention weights
    word_dropout       share of the words that are unknown to a training step

    Raises ConfigError where `heads` does not divide `dim`, and where sines or rope get an odd width.
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
        positions: Literal["learnt", "sinusoidal", "rope"] = "learnt",
        pooling: Literal["max", "mean", "attention", "first"] = "mean",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        attention_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"model.heads={heads} must divide model.dim={dim}.")
        if positions == "rope" and dim // heads % 2 or positions == "sinusoidal" and dim % 2:
            raise ConfigError(
                f"model.positions={positions} needs an even width: model.dim={dim} with model.heads={heads} gives "
                f"{dim // heads if positions == 'rope' else dim}. Type another model.dim, or model.positions=learnt."
            )
        self.view = view
        self.pooling = pooling
        self.word_dropout = word_dropout
        self.words = word_vectors(spec.vocab_size, dim)
        if positions == "learnt":
            self.positions = nn.Parameter(torch.randn(view.max_length, dim) * 0.02)
        elif positions == "sinusoidal":
            # Sines are as large as 1 and word vectors begin at 0.1, which would drown in them.
            self.register_buffer("positions", 0.1 * sinusoids(view.max_length, dim), persistent=False)
        else:
            self.positions = None
        turns = angles(view.max_length + (pooling == "first"), dim // heads) if positions == "rope" else None
        self.register_buffer("angles", turns, persistent=False)
        self.blocks = nn.ModuleList(Block(dim, heads, feed * dim, dropout, attention_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(dim, spec.n_classes)
        if pooling == "attention":
            self.attention = Attention(dim)
        if pooling == "first":
            self.first = nn.Parameter(torch.randn(dim) * 0.1)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]. Texts must not be longer than the view's max_length."""
        tokens, lengths = batch.tokens, batch.lengths
        if self.training:
            tokens = hide_words(tokens, self.word_dropout)
        states = self.words(tokens)
        if self.positions is not None:
            states = states + self.positions[: tokens.shape[1]]
        if self.pooling == "first":
            states = torch.cat([self.first.expand(len(states), 1, -1), states], dim=1)
            lengths = lengths + 1
        inside = real_words(lengths, states.shape[1])
        # Without padding in the batch no mask is needed, and attention may take its fastest kernel.
        # An exported graph always has it: whether a batch is padded is not known beforehand.
        unpadded = not torch.compiler.is_exporting() and bool(inside.all())
        mask = None if unpadded else inside[:, None, None, :]
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, mask, self.angles)
        return self.output(self.dropout(self._pool(self.norm(states), inside)))

    def _pool(self, states: Tensor, inside: Tensor) -> Tensor:
        """[batch, length, dim] to [batch, dim]."""
        if self.pooling == "first":
            return states[:, 0]
        if self.pooling == "attention":
            return self.attention(states, inside)
        return pool_max(states, inside) if self.pooling == "max" else pool_mean(states, inside)


class Block(nn.Module):
    """Attention among all words, then a feed-forward layer, each added to its input."""

    def __init__(self, dim: int, heads: int, feed: int, dropout: float, attention_dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, feed), nn.GELU(), nn.Linear(feed, dim))
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None, angles: Tensor | None = None) -> Tensor:
        """`states` [batch, length, dim]; `mask` bool [batch, 1, 1, length], true where a word stands."""
        batch, length, dim = states.shape
        joined = self.queries_keys_values(self.attention_norm(states))
        queries, keys, values = joined.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if angles is not None:
            queries, keys = turn(queries, angles[:length]), turn(keys, angles[:length])
        if self.training and self.attention_dropout:
            everywhere = torch.ones(batch, 1, 1, length, dtype=torch.bool, device=states.device)
            read = attend(queries, keys, values, self.attention_dropout, everywhere if mask is None else mask)
        else:
            read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        states = states + self.dropout(self.mix(read.transpose(1, 2).reshape(batch, length, dim)))
        return states + self.dropout(self.feed(self.feed_norm(states)))


def angles(length: int, width: int) -> Tensor:
    """The angle of each place for each pair of columns, place / 10000^(2i / width): float32 [length, width / 2]."""
    speed = torch.exp(torch.arange(0, width, 2) * (-math.log(10000) / width))
    return torch.arange(length)[:, None] * speed


def sinusoids(length: int, width: int) -> Tensor:
    """Sine and cosine of the angles in turns, as in Vaswani et al. 2017: float32 [length, width]."""
    angle = angles(length, width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def turn(vectors: Tensor, angle: Tensor) -> Tensor:
    """`vectors` [..., length, width] with columns i and i + width / 2 turned by `angle` [length, width / 2]."""
    left, right = vectors.chunk(2, dim=-1)
    sine, cosine = angle.sin().to(vectors.dtype), angle.cos().to(vectors.dtype)
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1)
