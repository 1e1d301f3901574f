"""Recommend what most others interacted with: the baseline that every recommender must beat."""

import torch
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender


class Popular(Recommender):
    """Scores an item with its number of training interactions, the same for every user."""

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix):
        super().__init__()
        self.view = view
        self.register_buffer("counts", torch.zeros(spec.n_items))

    def fit(self, batch: MatrixBatch) -> None:
        self.counts.copy_(torch.bincount(batch.items, minlength=len(self.counts)))

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.counts.expand(len(histories.offsets) - 1, -1)
