"""Biased matrix factorisation: a rating is a mean, two biases and a product of two vectors."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import RatingBatch, Ratings
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import training_mean
from marquee.models.mf.rating_loss import Tables, penalised_error


class BiasedMF(RatingModel):
    """r(u, i) = mu + b_u + b_i + <p_u, q_i>, trained on the squared error of the ratings that were observed.

    Koren, Bell & Volinsky 2009, "Matrix factorization techniques for recommender systems", IEEE Computer 42(8),
    equation 5: each rating adds l2 (|p_u|^2 + |q_i|^2 + b_u^2 + b_i^2) to its squared error.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Ratings,
        dim: Annotated[int, Ge(1)] = 64,
        l2: Annotated[float, Ge(0)] = 0.1,
        init_std: Annotated[float, Gt(0)] = 0.05,
    ):
        super().__init__()
        self.view = view
        self.l2 = l2
        self.users = nn.Embedding(spec.n_users, dim)
        self.items = nn.Embedding(spec.n_items, dim)
        self.user_bias = nn.Parameter(torch.zeros(spec.n_users))
        self.item_bias = nn.Parameter(torch.zeros(spec.n_items))
        self.register_buffer("mean", torch.zeros(()))
        nn.init.normal_(self.users.weight, std=init_std)
        nn.init.normal_(self.items.weight, std=init_std)

    def prepare(self, data: InteractionData) -> None:
        self.mean.copy_(training_mean(data))

    def loss(self, batch: RatingBatch) -> Tensor:
        with torch.autocast(batch.users.device.type, enabled=False):  # there are no products of matrices to gain from
            tables = Tables(self.users.weight, self.items.weight, self.user_bias, self.item_bias)
            return penalised_error(tables, self.mean, batch, self.l2)

    @property
    def steps_at_once(self) -> int:
        return max(1, 2**15 // self.view.batch_size)

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        known = self.mean + self.user_bias[users] + self.item_bias[items]
        return known + (self.users(users) * self.items(items)).sum(1)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        known = self.mean + self.user_bias[users][:, None] + self.item_bias
        return known + self.users(users) @ self.items.weight.T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        known = (self.mean + self.user_bias[users])[:, None]
        return torch.cat([self.users(users), known, torch.ones_like(known)], 1)

    def item_vectors(self) -> Tensor:
        bias = self.item_bias[:, None]
        return torch.cat([self.items.weight, torch.ones_like(bias), bias], 1)
