"""A decoder-only Transformer: each place attends to those before it and says what comes next."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.spec import TokenSpec
from marquee.data.tokens.views import TokenWindows
from marquee.errors import ConfigError
from marquee.models.dropout import Dropout
from marquee.models.language import LanguageModel, initialise
from marquee.models.transformer.attention import attend
from marquee.models.transformer.text import angles


@dataclass
class Cache:
    """What has been read of a window: tokens [batch, context], keys and values of each layer, and how many."""

    tokens: Tensor
    keys: list[Tensor]  # [batch, heads, context, width]
    values: list[Tensor]
    filled: int = 0


class Gpt(LanguageModel):
    """Token vectors, pre-norm blocks of causal attention and a feed-forward layer, a norm and a linear layer to logits.

    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; the modern block: rotary positions (Su
    et al. 2021), RMSNorm (Zhang & Sennrich 2019) and SwiGLU (Shazeer 2020), as in Touvron et al. 2023, "LLaMA".

    dim                width of token vectors and states
    heads              attention heads; divides dim, and dim / heads is even
    layers             blocks
    block              modern: rotary positions, RMSNorm, SwiGLU, no biases; classic: learnt positions, LayerNorm, GELU
    feed               width of the feed-forward layer, as a multiple of dim; SwiGLU takes two thirds of it, so that
                       both blocks have as many weights
    dropout            share of zeroed values in token vectors and behind each layer
    attention_dropout  likewise of attention weights
    tie                the output has the token vectors for its weights (Press & Wolf 2017)

    In writing, a window that is full is begun again with the newer half of its tokens, which are read anew. So every
    token is predicted from what a forward pass over its window sees: at least half of `view.length`, as in evaluation.
    """

    def __init__(
        self,
        spec: TokenSpec,
        *,
        view: TokenWindows,
        dim: Annotated[int, Ge(2)] = 128,
        heads: Annotated[int, Ge(1)] = 4,
        layers: Annotated[int, Ge(1)] = 4,
        block: Literal["modern", "classic"] = "modern",
        feed: Annotated[float, Interval(ge=0.5, le=16)] = 4.0,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        attention_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        tie: bool = True,
    ):
        super().__init__()
        if dim % heads or (block == "modern" and dim // heads % 2):
            raise ConfigError(
                f"model.dim={dim} with model.heads={heads}: heads must divide dim, and rotary positions turn pairs, so "
                "that dim / heads must be even."
            )
        self.view, self.context, self.heads = view, view.length, heads
        self.embedding = nn.Embedding(spec.vocab_size, dim)
        self.places = nn.Embedding(view.length, dim) if block == "classic" else None
        arguments = (dim, heads, block == "modern", feed, dropout, attention_dropout)
        self.blocks = nn.ModuleList(Block(*arguments) for _ in range(layers))
        self.norm = norm(dim, block == "modern")
        # Tied weights are one tensor with one name: safetensors, rightly, refuses the same memory twice.
        self.output = None if tie else nn.Linear(dim, spec.vocab_size, bias=False)
        self.dropout = Dropout(dropout)
        initialise(self)
        for part in self.blocks:  # what is added up over the blocks keeps its size (Radford et al. 2019, section 2.3)
            for out in (part.mix, part.feed_out):
                nn.init.normal_(out.weight, std=0.02 / math.sqrt(2 * layers))
        angle = angles(view.length, dim // heads)
        turns = torch.stack([angle.cos(), angle.sin()]) if block == "modern" else torch.zeros(2, 0, 0)
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self._vectors(inputs, 0)
        turns = self.turns[:, : inputs.shape[1]]
        for block in self.blocks:
            states = block(states, turns)
        return self._logits(states)

    def start(self, batch: int) -> Cache:
        weight = self.embedding.weight
        tokens = torch.zeros(batch, self.context, dtype=torch.int64, device=weight.device)
        shape = (batch, self.heads, self.context, weight.shape[1] // self.heads)
        keys, values = ([weight.new_zeros(shape) for _ in self.blocks] for _ in range(2))
        return Cache(tokens, keys, values)

    def step(self, tokens: Tensor, memory: Cache) -> tuple[Tensor, Cache]:
        n = tokens.shape[1]
        if memory.filled + n > self.context:
            kept = max(self.context // 2, min(n, self.context))
            tokens = torch.cat([memory.tokens[:, : memory.filled], tokens], dim=1)[:, -kept:]
            memory.filled, n = 0, kept
        begin, end = memory.filled, memory.filled + n
        memory.tokens[:, begin:end] = tokens
        states = self._vectors(tokens, begin)
        turns = self.turns[:, begin:end]
        for block, keys, values in zip(self.blocks, memory.keys, memory.values):
            states = block.further(states, turns, keys, values, begin)
        memory.filled = end
        return self._logits(states[:, -1]), memory

    def _logits(self, states: Tensor) -> Tensor:
        return F.linear(self.norm(states), (self.output or self.embedding).weight)

    def _vectors(self, tokens: Tensor, begin: int) -> Tensor:
        states = self.embedding(tokens)
        if self.places is not None:
            states = states + self.places.weight[begin : begin + tokens.shape[1]]
        return self.dropout(states)


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each behind a norm and added to what goes in."""

    def __init__(self, dim: int, heads: int, modern: bool, feed: float, dropout: float, attention_dropout: float):
        super().__init__()
        self.heads, self.modern, self.attention_dropout = heads, modern, attention_dropout
        width = max(round(feed * dim * 2 / 3 / 8) * 8, 8) if modern else round(feed * dim)
        self.attention_norm, self.feed_norm = norm(dim, modern), norm(dim, modern)
        self.queries_keys_values = nn.Linear(dim, 3 * dim, bias=not modern)
        self.mix = nn.Linear(dim, dim, bias=not modern)
        self.feed_in = nn.Linear(dim, 2 * width if modern else width, bias=not modern)
        self.feed_out = nn.Linear(width, dim, bias=not modern)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, turns: Tensor) -> Tensor:
        """`states` [batch, length, dim]; `turns` [2, length, width / 2], cosine and sine of each place."""
        queries, keys, values = self._split(states, turns)
        read = attend(queries, keys, values, self.attention_dropout if self.training else 0.0)
        return self._onwards(states, read)

    def further(self, states: Tensor, turns: Tensor, keys: Tensor, values: Tensor, begin: int) -> Tensor:
        """As `forward`, of states that stand behind `begin` others whose keys and values are known; both grow."""
        queries, own_keys, own_values = self._split(states, turns)
        end = begin + states.shape[1]
        keys[:, :, begin:end], values[:, :, begin:end] = own_keys, own_values
        keys, values = keys[:, :, :end], values[:, :, :end]
        if states.shape[1] == 1:
            read = F.scaled_dot_product_attention(queries, keys, values)
        elif not begin:
            read = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        else:
            seen = torch.ones(end - begin, end, dtype=torch.bool, device=states.device).tril(begin)
            read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        return self._onwards(states, read)

    def _split(self, states: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, dim = states.shape
        joined = self.queries_keys_values(self.attention_norm(states))
        if not self.modern:
            return joined.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        # Queries and keys are turned together.
        joined = joined.view(batch, length, 3 * self.heads, -1).transpose(1, 2)
        both, values = joined.split([2 * self.heads, self.heads], dim=1)
        cosine, sine = turns.to(both.dtype)
        left, right = both.chunk(2, dim=-1)
        both = torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1)
        queries, keys = both.chunk(2, dim=1)
        return queries, keys, values

    def _onwards(self, states: Tensor, read: Tensor) -> Tensor:
        states = states + self.dropout(self.mix(read.transpose(1, 2).reshape(states.shape)))
        inner = self.feed_in(self.feed_norm(states))
        if self.modern:
            gate, inner = inner.chunk(2, dim=-1)
            inner = F.silu(gate) * inner
        else:
            inner = F.gelu(inner)
        return states + self.dropout(self.feed_out(inner))


def norm(dim: int, modern: bool) -> nn.Module:
    return nn.RMSNorm(dim, eps=1e-5) if modern else nn.LayerNorm(dim)
