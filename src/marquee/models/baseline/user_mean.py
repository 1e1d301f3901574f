"""Predict the mean of a user's values, whatever the item."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import shrunk_means, values_of


class UserMean(RatingModel):
    """The mean of what a user gave, shrunk towards the mean of all by `shrinkage` values of that size.

    It ranks all items alike.
    """

    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, shrinkage: Annotated[float, Ge(0)] = 0.0):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.shrinkage = shrinkage
        self.register_buffer("means", torch.zeros(spec.n_users))

    def fit(self, batch: MatrixBatch) -> None:
        values = values_of(batch)
        mean = values.double().mean()
        self.means.copy_(shrunk_means(batch.users, values, len(self.means), self.shrinkage, mean))

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        return self.means[users]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.means[users][:, None].expand(-1, self.n_items)
