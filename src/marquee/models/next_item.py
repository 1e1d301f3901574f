"""What models that predict the next item share: train on every position of a row, score from the newest state."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import MaskedSequences, SequenceBatch, Sequences
from marquee.models.base import Recommender
from marquee.models.losses import NextItemLoss


class NextItemRecommender(Recommender):
    """A sub-class encodes histories; scores are products of a state with the (shared) item embeddings.

    items  embeddings [n_items + 1 or more, dim]: the items, padding, and further tokens such as a mask
    """

    scores_unseen_users = True

    view: Sequences | MaskedSequences
    items: nn.Embedding

    def __init__(self, n_items: int, view: Sequences | MaskedSequences, loss: NextItemLoss):
        super().__init__()
        self.n_items = n_items
        self.view = view
        self.criterion = loss

    @abstractmethod
    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Items [batch, length], right-padded, with lengths [batch], to states [batch, length, dim]."""

    def loss(self, batch: SequenceBatch) -> Tensor:
        wanted = batch.targets != self.n_items
        states = self._encode(batch.items, self.view.lengths(batch, self.n_items))
        return self.criterion(states[wanted], self.items.weight[: self.n_items], batch.targets[wanted])

    def query(self, histories: Histories) -> Tensor:
        """The state [batch, dim] whose product with the items' embeddings is their score: that of the newest item.

        A sub-class that predicts otherwise (from a mask behind the history) overrides this.
        """
        items, lengths = histories.padded(self.view.max_length, self.n_items)
        states = self._encode(items, lengths)
        return states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.query(histories) @ self.items.weight[: self.n_items].T
