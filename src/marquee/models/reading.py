"""What networks that read texts share: word vectors, words that are hidden while training, pooling over real words."""

from typing import Literal

import torch
from torch import Tensor, nn

from marquee.data.text.store import PADDING, UNKNOWN

Pooled = Literal["max", "mean", "last", "attention"]


def word_vectors(words: int, dim: int) -> nn.Embedding:
    """A table of normal numbers with standard deviation 0.1; padding is the zero vector and stays it."""
    table = nn.Embedding(words, dim, padding_idx=PADDING)
    nn.init.normal_(table.weight, std=0.1)
    with torch.no_grad():
        table.weight[PADDING] = 0
    return table


def hide_words(tokens: Tensor, p: float) -> Tensor:
    """`tokens` with each real one unknown with probability `p` (Iyyer et al. 2015, "Deep Unordered Composition", ACL).

    The network cannot learn a review by heart from a few rare words, and the vector of the unknown word is trained.
    """
    if not p:
        return tokens
    hidden = torch.rand(tokens.shape, device=tokens.device) < p
    return torch.where(hidden & (tokens != PADDING), UNKNOWN, tokens)


def real_words(lengths: Tensor, width: int) -> Tensor:
    """Where words stand and no padding: bool [batch, width]."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


class Attention(nn.Module):
    """A mean of the states by weights that are learnt: each is softmax(u . tanh(W h + b)) over the real words.

    Yang et al. 2016, "Hierarchical Attention Networks for Document Classification", NAACL, equations 5 to 7; the
    scores are those of Bahdanau et al. 2015 with one fixed question, "which words tell?".
    """

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.question = nn.Linear(width, 1, bias=False)

    def forward(self, states: Tensor, inside: Tensor) -> Tensor:
        """`states` [batch, length, width] and `inside` bool [batch, length] to [batch, width]."""
        scores = self.question(self.hidden(states).tanh()).squeeze(-1)
        weights = scores.float().masked_fill(~inside, -torch.inf).softmax(dim=1).to(states.dtype)
        return (weights[:, None] @ states).squeeze(1)


def pool_max(states: Tensor, inside: Tensor) -> Tensor:
    """The largest value of each column over the real words: [batch, length, width] to [batch, width]."""
    return states.masked_fill(~inside[..., None], torch.finfo(states.dtype).min).amax(dim=1)


def pool_mean(states: Tensor, inside: Tensor) -> Tensor:
    """The mean over the real words, of which each text has one at least: [batch, length, width] to [batch, width]."""
    return (states * inside[..., None]).sum(dim=1) / inside.sum(dim=1, keepdim=True)
