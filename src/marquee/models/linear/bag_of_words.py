"""Logistic regression on the words, and optionally word pairs, that a text holds: the baseline to beat for long texts.

Wang & Manning 2012, "Baselines and Bigrams", ACL, use presence, not counts, and so does this. Word pairs share
`buckets` weights by hashing: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", ICML.
"""

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from marquee.data.spec import TextSpec
from marquee.data.text.store import PADDING
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.linear.terms import spread


class BagOfWords(Classifier):
    """Each word that occurs, however often, adds its weights to the logits.

    The sum is divided by the root of how many occur: the cosine normalisation that keeps long texts from being louder
    than short ones.

    bigrams  also weigh pairs of neighbouring words
    buckets  weights that the pairs share
    """

    adds_up = True

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        bigrams: bool = False,
        buckets: Annotated[int, Ge(1)] = 1 << 20,
    ):
        super().__init__()
        self.view = view
        self.words = spec.vocab_size
        self.buckets = buckets if bigrams else 0
        # Row 0 is padding's and stays zero.
        self.weights = nn.EmbeddingBag(self.words + self.buckets, spec.n_classes, mode="sum", padding_idx=PADDING)
        nn.init.zeros_(self.weights.weight)
        self.bias = nn.Parameter(torch.zeros(spec.n_classes))

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        features = batch.tokens
        if self.buckets:
            features = torch.cat([features, self._pairs(batch.tokens)], dim=1)
        features = _distinct(features)
        present = (features != PADDING).sum(dim=1, keepdim=True)
        scale = math.sqrt(200) / present.clamp(min=1).sqrt()  # about 1 for a text of usual length
        return self.weights(features) * scale + self.bias

    @torch.no_grad()
    def contributions(self, tokens: Tensor) -> Tensor:
        """As any; what occurs several times shares its part among them, a pair its own between its words."""
        features = torch.cat([tokens, self._pairs(tokens[None])[0]]) if self.buckets else tokens
        distinct, place, counts = features.unique(return_inverse=True, return_counts=True)
        scale = math.sqrt(200 / max(int((distinct != PADDING).sum()), 1))
        parts = self.weights.weight[features] * scale / counts[place, None]
        return spread(parts, len(tokens), 2 if self.buckets else 1)

    def _pairs(self, tokens: Tensor) -> Tensor:
        """Rows of the weights for neighbouring words, 0 where either is padding: int64 [batch, length - 1]."""
        left, right = tokens[:, :-1], tokens[:, 1:]
        # Multiplication by large odd constants spreads pairs evenly; int64 wraps around, which is what a hash wants.
        mixed = left * 0x9E3779B97F4A7C1 + right * 0x85EBCA6B2F0F9D3
        bucket = ((mixed ^ (mixed >> 29)) & 0x7FFFFFFFFFFFFFFF) % self.buckets
        return torch.where(right == PADDING, PADDING, self.words + bucket)


def _distinct(features: Tensor) -> Tensor:
    """Each row sorted, with repetitions replaced by padding."""
    ordered = features.sort(dim=1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(repeated, PADDING)
