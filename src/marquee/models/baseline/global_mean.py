"""Predict the mean of all training values: what a rating model must beat at the least."""

import torch
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import values_of


class GlobalMean(RatingModel):
    """The same value for every user and item."""

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, batch: MatrixBatch) -> None:
        self.mean.copy_(values_of(batch).double().mean())

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        return self.mean.expand(len(items))

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.mean.expand(len(histories.offsets) - 1, self.n_items)
