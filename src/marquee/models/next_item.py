"""What models that predict the next item share: train on every position of a row, score from the newest state."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import MaskedSequences, SequenceBatch, Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.features import FeatureVectors
from marquee.models.losses import NextItemLoss


class NextItemRecommender(Recommender):
    """A sub-class encodes histories; scores are products of a state with an output vector for each item.

    items        embeddings [n_items + 1 or more, dim]: the items, padding, and further tokens such as a mask
    outputs      embeddings [n_items, dim] that states are multiplied with; None where those are `items` again
    side         what describes the items, as vectors that are added to `items`; None where the model reads no features
    bias         [n_items], added to the scores; None without
    reads_times  `_encode` is also given the times of the items, int64 [batch, length], or None where there are none

    `make_tables` makes the first four; a sub-class that makes its own needs `items` only.
    """

    scores_unseen_users = True
    reads_times: ClassVar[bool] = False

    view: Sequences | MaskedSequences
    items: nn.Embedding

    def __init__(self, n_items: int, view: Sequences | MaskedSequences, loss: NextItemLoss):
        super().__init__()
        self.n_items = n_items
        self.view = view
        self.criterion = loss
        self.outputs: nn.Embedding | None = None
        self.side: FeatureVectors | None = None
        self.bias: nn.Parameter | None = None

    def make_tables(
        self,
        spec: InteractionSpec,
        dim: int,
        std: float,
        *,
        features: bool,
        tied: bool = True,
        bias: bool = False,
        extra_tokens: int = 0,
    ) -> None:
        """The tables of vectors of length `dim`, drawn from a normal distribution with standard deviation `std`."""
        self.items = nn.Embedding(spec.n_items + 1 + extra_tokens, dim, padding_idx=spec.n_items)
        nn.init.normal_(self.items.weight, std=std)
        with torch.no_grad():
            self.items.weight[spec.n_items] = 0
        if not tied:
            self.outputs = nn.Embedding(spec.n_items, dim)
            nn.init.normal_(self.outputs.weight, std=std)
        if bias:
            self.bias = nn.Parameter(torch.zeros(spec.n_items))
        if features:
            if not spec.item_features:
                raise ValueError(
                    "features=true reads the columns that data.item_features names, and it names none. Name some, "
                    "such as data.item_features={genres: multi_hot}, or type model.features=false"
                )
            self.side = FeatureVectors(spec.item_features, spec.n_items, dim, std=std)

    def prepare(self, data: InteractionData) -> None:
        if self.side is not None:
            self.side.fill(data.encoded("item"))

    @abstractmethod
    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Items [batch, length], right-padded, with lengths [batch], to states [batch, length, dim]."""

    def _read(self, items: Tensor, lengths: Tensor, times: Tensor | None) -> Tensor:
        return self._encode(items, lengths, times) if self.reads_times else self._encode(items, lengths)

    def vectors(self) -> Tensor:
        """What stands for each item and token when it is read, [n_items + 1 or more, dim]."""
        if self.side is None:
            return self.items.weight
        return self.items.weight + F.pad(self.side.all().sum(1), (0, 0, 0, len(self.items.weight) - self.n_items))

    def embed(self, items: Tensor) -> Tensor:
        """Vectors [*items.shape, dim] of items and tokens."""
        return F.embedding(items, self.vectors(), self.items.padding_idx)

    def output(self) -> Tensor:
        """What `_with_bias(states)` is multiplied with: [n_items, dim], and one column more that holds the bias."""
        weight = self.vectors()[: self.n_items] if self.outputs is None else self.outputs.weight
        return weight if self.bias is None else torch.cat([weight, self.bias[:, None]], 1)

    def _with_bias(self, states: Tensor) -> Tensor:
        return states if self.bias is None else F.pad(states, (0, 1), value=1.0)

    def loss(self, batch: SequenceBatch) -> Tensor:
        wanted = batch.targets != self.n_items
        states = self._read(batch.items, self.view.lengths(batch, self.n_items), batch.times)
        return self.criterion(self._with_bias(states[wanted]), self.output(), batch.targets[wanted])

    def query(self, histories: Histories) -> Tensor:
        """The state [batch, dim] whose product with the output vectors are the scores: that of the newest item.

        A sub-class that predicts otherwise (from a mask behind the history) overrides `newest` and `reads`.
        """
        items, lengths = histories.padded(self.reads, self.n_items)
        return self.newest(items, lengths, histories.padded_times(self.reads) if self.reads_times else None)

    @property
    def reads(self) -> int:
        """How many of the newest items `newest` takes at most."""
        return self.view.max_length

    def newest(self, items: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """The state [batch, dim] behind items [batch, length], right-padded, with lengths [batch]: tensors alone, so
        that it can be exported as a graph."""
        states = self._read(items, lengths, times)
        return states[torch.arange(items.shape[0], device=items.device), (lengths - 1).clamp(min=0)]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self._with_bias(self.query(histories)) @ self.output().T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self._with_bias(self.query(histories))

    def item_vectors(self) -> Tensor:
        return self.output()

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor | None:
        if self.side is None or self.outputs is not None:
            return None
        vectors = self.side.of(encoded).sum(1)
        return vectors if self.bias is None else F.pad(vectors, (0, 1))
