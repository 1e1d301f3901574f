"""Non-negative matrix factorisation of the ratings that were observed."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import DataError
from marquee.models.base import RatingModel
from marquee.models.baseline.means import values_of
from marquee.models.mf.least_squares import both_sides

TINY = 1e-9  # what is divided by is never less, and no factor sinks to 0, which it could not leave


class NMF(RatingModel):
    """r(u, i) = <p_u, q_i> with p, q >= 0, by multiplicative updates that look at observed ratings only.

    p_uk <- p_uk (sum of q_ik r_ui) / (sum of q_ik <p_u, q_i> + l2 n_u p_uk), and likewise for the items: Lee & Seung
    2001, "Algorithms for non-negative matrix factorization", restricted to what was observed and penalised for each
    rating as in Luo et al. 2014, "An efficient non-negative matrix-factorization-based approach to collaborative
    filtering for recommender systems", IEEE TII 10(2). The objective never rises.

    sweeps  updates of all users and all items an epoch

    Raises DataError for values below 0.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        dim: Annotated[int, Ge(1)] = 20,
        l2: Annotated[float, Ge(0)] = 0.1,
        sweeps: Annotated[int, Ge(1)] = 5,
    ):
        super().__init__()
        self.view = view
        self.l2, self.sweeps = l2, sweeps
        for name, n in (("users", spec.n_users), ("items", spec.n_items)):
            self.register_buffer(name, nn.init.uniform_(torch.empty(n, dim), 0.1, 1.0))

    @torch.no_grad()
    def fit(self, batch: MatrixBatch) -> Tensor:
        """`sweeps` updates; the mean squared error before the last of them."""
        values = values_of(batch)
        if len(values) and float(values.min()) < 0:
            raise DataError(
                f"model=mf/nmf: a value of {float(values.min()):g} is no product of factors that are not negative."
                "\n  fix: data.min_rating=0, or model=mf/biased_mf"
            )
        by_user, by_item, to_items, _ = both_sides(batch.users, batch.items, len(self.users), len(self.items))
        with torch.autocast(values.device.type, enabled=False):
            for _ in range(self.sweeps):
                found = by_user.predictions(self.users, self.items)
                loss = (values - found).square().mean()
                self._update(self.users, self.items, by_user, values, found)
                found = by_user.predictions(self.users, self.items)
                self._update(self.items, self.users, by_item, values[to_items], found[to_items])
        return loss

    def _update(self, mine: Tensor, others: Tensor, rows, values: Tensor, found: Tensor) -> None:
        below = rows.times(found, others).addcmul_(mine, rows.counts[:, None].to(mine), value=self.l2)
        # Who has no rating keeps what they have, and is predicted by it.
        ratio = torch.where(rows.counts[:, None] > 0, rows.times(values, others) / below.clamp(min=TINY), 1.0)
        mine.mul_(ratio).clamp_(min=TINY)

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        return (self.users[users] * self.items[items]).sum(1)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.users[users] @ self.items.T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.users[users]

    def item_vectors(self) -> Tensor:
        return self.items
