"""Predict a value from how high the user rates and how high the item is rated."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import values_of


def biases(
    batch: MatrixBatch, n_users: int, n_items: int, l2_users: float, l2_items: float, sweeps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """mu, b_u [n_users] and b_i [n_items] (float64) by alternating least squares; 0 for who was not met.

    A sweep: b_i = sum of (r - mu - b_u) / (l2_items + n_i), then b_u = sum of (r - mu - b_i) / (l2_users + n_u).
    """
    users, items, values = batch.users, batch.items, values_of(batch).double()
    mean = values.mean()
    rest = values - mean
    heavy_users = (torch.bincount(users, minlength=n_users) + l2_users).clamp(min=1e-12)
    heavy_items = (torch.bincount(items, minlength=n_items) + l2_items).clamp(min=1e-12)
    of_users, of_items = rest.new_zeros(n_users), rest.new_zeros(n_items)
    for _ in range(sweeps):
        of_items = torch.bincount(items, rest - of_users[users], minlength=n_items) / heavy_items
        of_users = torch.bincount(users, rest - of_items[items], minlength=n_users) / heavy_users
    return mean, of_users, of_items


class Bias(RatingModel):
    """r(u, i) = mu + b_u + b_i, with an L2 penalty on both biases.

    Koren 2010, "Factor in the neighbors: scalable and accurate collaborative filtering", TKDD 4(1), section 2.1, where
    these are called baseline estimates; by alternating least squares.
    """

    max_epochs = 1

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        l2_users: Annotated[float, Ge(0)] = 15.0,
        l2_items: Annotated[float, Ge(0)] = 10.0,
        sweeps: Annotated[int, Ge(1)] = 10,
    ):
        super().__init__()
        self.view = view
        self.l2_users, self.l2_items, self.sweeps = l2_users, l2_items, sweeps
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("users", torch.zeros(spec.n_users))
        self.register_buffer("items", torch.zeros(spec.n_items))

    def fit(self, batch: MatrixBatch) -> None:
        found = biases(batch, len(self.users), len(self.items), self.l2_users, self.l2_items, self.sweeps)
        for mine, learnt in zip((self.mean, self.users, self.items), found, strict=True):
            mine.copy_(learnt)

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        return self.mean + self.users[users] + self.items[items]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.mean + self.users[users][:, None] + self.items
