"""What models that predict the next item share: train on every position of a row, score from the newest state."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from marquee.data.views import SequenceBatch, Sequences
from marquee.models.base import Histories, Recommender
from marquee.models.losses import NextItemLoss


class NextItemRecommender(Recommender):
    """A sub-class encodes histories; scores are products of a state with the (shared) item embeddings.

    items  embeddings [n_items + 1, dim], the last of them padding
    """

    scores_unseen_users = True

    view: Sequences
    items: nn.Embedding

    def __init__(self, n_items: int, view: Sequences, loss: NextItemLoss):
        super().__init__()
        self.n_items = n_items
        self.view = view
        self.criterion = loss

    @abstractmethod
    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Items [batch, length], right-padded, with lengths [batch], to states [batch, length, dim]."""

    def loss(self, batch: SequenceBatch) -> Tensor:
        real = batch.targets != self.n_items
        states = self._encode(batch.items, real.sum(1))
        return self.criterion(states[real], self.items.weight[: self.n_items], batch.targets[real])

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        items, lengths = histories.padded(self.view.max_length, self.n_items)
        states = self._encode(items, lengths)
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)]
        return last @ self.items.weight[: self.n_items].T
