"""fastText: the mean of a text's word and n-gram vectors, and a linear layer; an epoch takes seconds."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import hashed
from marquee.data.text.store import PADDING
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.linear.terms import spread


class FastText(Classifier):
    """The mean of the vectors of all words and hashed n-grams of a text, then a linear layer.

    Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", EACL. Both layers are linear, so the model is
    one of n-grams whose weights have rank `dim` at most, and n-grams share what they have in common.

    dim               length of the vectors
    longest           words of the longest n-gram; 1 reads single words alone
    buckets           vectors that the n-grams of two and three words share by hashing
    dropout           share of zeroed values in the mean
    sparse_gradients  only the rows that a batch touches; pays from some 2^22 buckets on, with optimizer=adagrad
    """

    adds_up = True

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 10,
        longest: Annotated[int, Interval(ge=1, le=3)] = 2,
        buckets: Annotated[int, Ge(2)] = 1 << 18,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        sparse_gradients: bool = False,
    ):
        super().__init__()
        self.view = view
        self.words, self.longest = spec.vocab_size, longest
        self.buckets = buckets if longest > 1 else 0
        self.sparse_gradients = sparse_gradients
        # Row 0 is padding's: it is not part of the mean.
        self.vectors = nn.EmbeddingBag(
            self.words + self.buckets, dim, mode="mean", padding_idx=PADDING, sparse=sparse_gradients
        )
        nn.init.uniform_(self.vectors.weight, -1 / dim, 1 / dim)  # as the authors' code does
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, spec.n_classes)
        nn.init.zeros_(self.output.weight)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        return self.output(self.dropout(self.vectors(self._rows(batch.tokens))))

    @torch.no_grad()
    def contributions(self, tokens: Tensor) -> Tensor:
        """As any; the part of an n-gram is spread evenly over its words."""
        rows = self._rows(tokens[None])[0]
        real = rows != PADDING
        parts = self.output(self.vectors.weight[rows]) - self.output.bias
        return spread(parts * (real / real.sum().clamp(min=1))[:, None], len(tokens), self.longest)

    def _rows(self, tokens: Tensor) -> Tensor:
        """The rows of words and n-grams, 0 where an n-gram would reach into the padding: [batch, up to 3 * length]."""
        rows, key = [tokens], tokens
        for order in range(2, self.longest + 1):
            key = hashed(key[:, :-1] * self.words + tokens[:, order - 1 :])
            rows.append(torch.where(tokens[:, order - 1 :] == PADDING, PADDING, self.words + key % self.buckets))
        return torch.cat(rows, dim=1)
