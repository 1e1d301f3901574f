"""SVD++: biased matrix factorisation in which what a user has rated, whatever the rating, says something, too."""

import warnings
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import RatingBatch, Ratings
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.means import training_mean
from marquee.models.mf.rating_loss import Tables, penalty, squared_error


class _Sums(torch.autograd.Function):
    """users + N implicit with N [n_users, n_items] in two sparse forms, so that neither way gathers a row twice."""

    @staticmethod
    def forward(ctx, users: Tensor, implicit: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.columns = columns
        return users + rows @ implicit

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad, ctx.columns @ grad, None, None


class SVDpp(RatingModel):
    """r(u, i) = mu + b_u + b_i + <q_i, p_u + |N(u)|^(-1/2) sum of y_j over j in N(u)>, where N(u) is u's history.

    Koren 2008, "Factorization meets the neighborhood: a multifaceted collaborative filtering model", KDD, section 4.
    Each rating adds l2 times the squares of p_u, q_i, y_i and the biases to its squared error. A step forms the sums
    over y once for all users, as one product with a sparse matrix, and not for each of its ratings: it pays where a
    batch has as many ratings as there are users, or more.

    Users whom training never saw are scored by their history alone.
    """

    scores_unseen_users = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Ratings,
        dim: Annotated[int, Ge(1)] = 20,
        l2: Annotated[float, Ge(0)] = 0.1,
        init_std: Annotated[float, Gt(0)] = 0.05,
    ):
        super().__init__()
        self.view = view
        self.l2 = l2
        self.users = nn.Embedding(spec.n_users, dim)
        self.items = nn.Embedding(spec.n_items, dim)
        self.implicit = nn.Embedding(spec.n_items, dim)
        self.user_bias = nn.Parameter(torch.zeros(spec.n_users))
        self.item_bias = nn.Parameter(torch.zeros(spec.n_items))
        self.register_buffer("mean", torch.zeros(()))
        for table in (self.users, self.items, self.implicit):
            nn.init.normal_(table.weight, std=init_std)

    def prepare(self, data: InteractionData) -> None:
        self.mean.copy_(training_mean(data))
        train = data.parts["train"]
        users, items = (torch.from_numpy(column).long() for column in (train.users, train.items))
        counts = torch.bincount(users, minlength=len(self.user_bias))
        weights = counts.clamp(min=1).float().rsqrt()[users]
        order = items.argsort(stable=True)
        sides = (counts, items, weights), (torch.bincount(items, minlength=len(self.item_bias)), users, weights)
        for name, (sizes, columns, values), sort in zip(("rated", "raters"), sides, (slice(None), order), strict=True):
            offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
            for part, tensor in zip(("offsets", "columns"), (offsets.int(), columns[sort].int()), strict=True):
                self.register_buffer(f"{name}_{part}", tensor, persistent=False)
            self.register_buffer(f"{name}_weights", values[sort], persistent=False)

    def _sparse(self, name: str, shape: tuple[int, int]) -> Tensor:
        parts = [getattr(self, f"{name}_{part}") for part in ("offsets", "columns", "weights")]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(*parts, shape, check_invariants=False)

    def loss(self, batch: RatingBatch) -> Tensor:
        with torch.autocast(batch.users.device.type, enabled=False):  # sparse products have no narrower form
            p, q, y = self.users.weight, self.items.weight, self.implicit.weight
            rated, raters = self._sparse("rated", (len(p), len(q))), self._sparse("raters", (len(q), len(p)))
            users = _Sums.apply(p, y, rated, raters)
            loss = squared_error(Tables(users, q, self.user_bias, self.item_bias), self.mean, batch)
            if self.l2:
                loss = loss + penalty(self.l2, batch.users, p, self.user_bias)
                loss = loss + penalty(self.l2, batch.items, q, y, self.item_bias)
            return loss

    @property
    def steps_at_once(self) -> int:
        return max(1, 2**15 // self.view.batch_size)

    def _users(self, users: Tensor | None, histories: Histories) -> tuple[Tensor, Tensor]:
        """Vectors [batch, dim] and biases [batch]."""
        counts = histories.offsets[1:] - histories.offsets[:-1]
        sums = F.embedding_bag(histories.items, self.implicit.weight, histories.offsets[:-1], mode="sum")
        vectors = sums * counts.clamp(min=1).to(sums.dtype).rsqrt()[:, None]
        if users is None:
            return vectors, vectors.new_zeros(len(vectors))
        return vectors + self.users(users), self.user_bias[users]

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        if users is None:
            vectors, bias = self._users(None, histories)
        else:  # the pairs of a user stand together, and their history is read once
            _, place, counts = users.unique_consecutive(return_inverse=True, return_counts=True)
            first = counts.cumsum(0) - counts
            vectors, bias = (part[place] for part in self._users(users[first], histories.take(first)))
        return self.mean + bias + self.item_bias[items] + (vectors * self.items(items)).sum(1)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        vectors, bias = self._users(users, histories)
        return self.mean + bias[:, None] + self.item_bias + vectors @ self.items.weight.T
