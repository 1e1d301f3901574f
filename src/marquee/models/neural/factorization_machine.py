"""Factorization machine: users, items and their features as fields, every two of which have a product."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs, RatingBatch, Ratings
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.neural.objective import Objective, ranking_loss
from marquee.models.neural.sides import Side, refuse_without_fields


class FactorizationMachine(RatingModel):
    """y(u, i) = w_0 + sum of w_f + sum over pairs of fields f < g of <v_f, v_g>.

    Rendle 2010, "Factorization machines", ICDM, section III; the second order is (|sum v_f|^2 - sum |v_f|^2) / 2, as
    there. The sum falls into <sum of the user's v, sum of the item's v>, a number for the user and one for the item,
    so that all items are scored by one product.

    view       Pairs: learns to rank what was met above what was not; Ratings: learns values by squared error
    l2         weighs half the squared length of the vectors that a pair uses
    objective  of Pairs: bpr or bce
    ids        false: items are known by their features alone, so that new ones are scored like the others
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs | Ratings,
        dim: Annotated[int, Ge(1)] = 64,
        l2: Annotated[float, Ge(0)] = 0.01,
        objective: Objective = "bpr",
        ids: bool = True,
        init_std: Annotated[float, Gt(0)] = 0.05,
    ):
        super().__init__()
        self.view = view
        self.predicts_values = isinstance(view, Ratings)
        self.dim, self.l2, self.objective = dim, l2, objective
        # The last place of a vector is its field's linear weight.
        self.user, self.item = Side(spec, "user", dim + 1, init_std), Side(spec, "item", dim + 1, init_std, ids)
        refuse_without_fields(self.item)
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))

    def prepare(self, data: InteractionData) -> None:
        self.user.prepare(data)
        self.item.prepare(data)
        values = data.parts["train"].values
        if self.predicts_values and values is not None:
            self.mean.fill_(float(values.mean(dtype="float64")))

    def _reduced(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Of fields [n, fields, dim + 1] the sum of their vectors [n, dim], and all that they say without the other
        side [n]: the linear weights and the products among themselves."""
        vectors = fields[..., : self.dim]
        total = vectors.sum(1)
        within = (total.square().sum(1) - vectors.square().sum((1, 2))) / 2
        return total, fields[..., self.dim].sum(1) + within

    def _pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """y [n] of the fields of n users and n items; or [n, k] where there are n * k items."""
        (p, of_user), (q, of_item) = self._reduced(user), self._reduced(item)
        n = len(p)
        scores = (p[:, None] * q.view(n, -1, self.dim)).sum(-1) + of_user[:, None] + of_item.view(n, -1)
        return (scores + self.bias + self.mean).squeeze(1)

    def loss(self, batch: PairBatch | RatingBatch) -> Tensor:
        with torch.autocast(self.bias.device.type, enabled=False):  # there are no products of matrices to gain from
            user = self.user(batch.users)
            items = batch.items
            if not self.predicts_values:
                items = torch.cat([items[:, None], batch.negatives], 1).view(-1)
            item = self.item(items)
            scores = self._pairs(user, item)
            if self.predicts_values:
                loss = (scores - batch.values).square().mean()
            else:
                loss = ranking_loss(scores[:, 0], scores[:, 1:], self.objective)
            if self.l2:
                loss = loss + self.l2 * (user.square().sum() + item.square().sum()) / (2 * len(user))
            return loss

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        (p, of_user), (q, of_item) = self._reduced(self.user(users)), self._reduced(self.item())
        return p @ q.T + of_user[:, None] + of_item + self.bias + self.mean

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor | None:
        p, of_user = self._reduced(self.user(users))
        known = (of_user + self.bias + self.mean)[:, None]
        return torch.cat([p, known, torch.ones_like(known)], 1)

    def item_vectors(self) -> Tensor | None:
        q, of_item = self._reduced(self.item())
        return torch.cat([q, torch.ones_like(of_item)[:, None], of_item[:, None]], 1)

    def predict(self, users: Tensor, items: Tensor, histories: Histories) -> Tensor:
        return self._pairs(self.user(users), self.item(items))
