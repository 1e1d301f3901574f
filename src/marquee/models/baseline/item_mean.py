"""Predict the mean of an item's values, whoever the user is."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import shrunk_means, values_of


class ItemMean(RatingModel):
    """The mean of what an item was given, shrunk towards the mean of all by `shrinkage` values of that size."""

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, shrinkage: Annotated[float, Ge(0)] = 0.0):
        super().__init__()
        self.view = view
        self.shrinkage = shrinkage
        self.register_buffer("means", torch.zeros(spec.n_items))

    def fit(self, batch: MatrixBatch) -> None:
        values = values_of(batch)
        mean = values.double().mean()
        self.means.copy_(shrunk_means(batch.items, values, len(self.means), self.shrinkage, mean))

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        return self.means[items]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.means.expand(len(histories.offsets) - 1, -1)
