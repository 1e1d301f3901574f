"""Logistic MF: the probability of a meeting is the logistic function of a product of vectors."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender

CELLS = 2**21  # (user, item) cells that are formed at a time: 8 MB of float32


class LogisticMF(Recommender):
    """P(u meets i) = sigmoid(<x_u, y_i> + b_u + b_i), where each meeting counts `alpha` times, and all others once.

    Johnson 2014, "Logistic matrix factorization for implicit feedback data", NIPS workshop on distributed machine
    learning and matrix computations, section 3: the log likelihood over all pairs, less l2 / 2 times the squares of the
    vectors, is climbed by AdaGrad, the users for fixed items and then the items for fixed users, once each an epoch.

    alpha  weight of an observed pair, which is an observation of the positive class that many times
    lr     step size of AdaGrad, the paper's gamma
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        dim: Annotated[int, Ge(1)] = 32,
        alpha: Annotated[float, Gt(0)] = 4.0,
        l2: Annotated[float, Ge(0)] = 20.0,
        lr: Annotated[float, Gt(0)] = 0.3,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__()
        self.view = view
        self.alpha, self.l2, self.lr = alpha, l2, lr
        for name, n in (("users", spec.n_users), ("items", spec.n_items)):
            self.register_buffer(name, nn.init.normal_(torch.empty(n, dim), std=init_std))
            self.register_buffer(f"{name}_bias", torch.zeros(n))
            self.register_buffer(f"{name}_squares", torch.zeros(n, dim + 1))  # of AdaGrad; the last is the bias's

    @torch.no_grad()
    def fit(self, batch: MatrixBatch) -> Tensor:
        """A step of the users and one of the items; the mean log loss of all pairs before them, penalty left out."""
        with torch.autocast(batch.users.device.type, enabled=False):
            pairs = (batch.users * len(self.items) + batch.items).unique()
            users, items = pairs // len(self.items), pairs % len(self.items)
            loss = self._climb("users", "items", users, items)
            order = items.argsort(stable=True)
            self._climb("items", "users", items[order], users[order])
            return loss

    def _climb(self, mine: str, other: str, rows: Tensor, columns: Tensor) -> Tensor:
        """One step of AdaGrad for one side; pairs are sorted by `rows`."""
        vectors, fixed = getattr(self, mine), getattr(self, other)
        bias, fixed_bias = getattr(self, f"{mine}_bias"), getattr(self, f"{other}_bias")
        squares = getattr(self, f"{mine}_squares")
        total = vectors.new_zeros((), dtype=torch.float64)
        size = max(1, CELLS // len(fixed))
        edges = torch.arange(0, len(vectors) + size, size, device=rows.device).clamp(max=len(vectors))
        bounds = torch.searchsorted(rows, edges).tolist()
        for place, start in enumerate(range(0, len(vectors), size)):
            own, part = slice(start, start + size), slice(bounds[place], bounds[place + 1])
            met = rows[part] - start, columns[part]
            logits = torch.addmm(fixed_bias, vectors[own], fixed.T).add_(bias[own, None])
            at = logits[met]
            # Of a pair: (1 + alpha r) log(1 + e^logit) - alpha r logit, whose slope is (1 + alpha r) sigmoid - alpha r.
            total += nn.functional.softplus(logits).sum(dtype=torch.float64)
            total += self.alpha * (nn.functional.softplus(at) - at).sum(dtype=torch.float64)
            slope = logits.sigmoid_()
            slope[met] += self.alpha * (slope[met] - 1)
            gradient = torch.cat([slope @ fixed + self.l2 * vectors[own], slope.sum(1, keepdim=True)], 1)
            squares[own] += gradient.square()
            step = self.lr * gradient / squares[own].sqrt().clamp(min=1e-12)
            vectors[own] -= step[:, :-1]
            bias[own] -= step[:, -1]
        return (total / (len(vectors) * len(fixed))).float()

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.users[users] @ self.items.T + self.items_bias

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return nn.functional.pad(self.users[users], (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        return torch.cat([self.items, self.items_bias[:, None]], 1)
