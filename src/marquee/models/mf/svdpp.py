"""SVD++: biased matrix factorisation in which what a user has rated, whatever the rating, says something, too."""

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
from marquee.models.mf.rating_loss import Rated, Tables, gathered, look_up, square
from marquee.models.sparse import Rows


class _PenalisedError(torch.autograd.Function):
    """The loss with its gradient in closed form, in which no row of y is looked up.

    The users' vectors are p + N y; N [n_users, n_items] is given by users (`rated`) and by items (`raters`). What the
    ratings add to the penalty of p and y is counted by row.
    """

    @staticmethod
    def forward(ctx, p, q, y, user_bias, item_bias, mean, batch: RatingBatch, l2: float, rated: Rows, raters: Rows):
        users = rated.times(y).add_(p)
        found = look_up(Tables(users, q, user_bias, item_bias), mean, batch)
        loss = square(found.error)
        of_users, of_items = (
            torch.bincount(rows, minlength=len(table)).to(p) for rows, table in ((batch.users, p), (batch.items, q))
        )
        if l2:
            loss += l2 * (square(found.user_bias) + square(found.item_bias) + square(found.items))
            for counts, table in ((of_users, p), (of_items, y)):
                loss += l2 * torch.dot(counts, torch.linalg.vecdot(table, table))
        ctx.save_for_backward(batch.users, batch.items, p, y, of_users, of_items, *found)
        ctx.l2, ctx.raters = l2, raters
        return loss / len(found.error)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        user, item, p, y, of_users, of_items, *rest = ctx.saved_tensors
        found = Rated(*rest)
        slope = found.slope(grad)
        column, decay = slope[:, None], grad * (2 * ctx.l2 / len(slope))
        of_p = gathered(user, found.items * column, len(p))
        of_y = ctx.raters.times(of_p)
        of_p.addcmul_(p, (of_users * decay)[:, None])
        of_y.addcmul_(y, (of_items * decay)[:, None])
        return (
            of_p,
            gathered(item, (found.users * column).addcmul_(found.items, decay), len(y)),
            of_y,
            gathered(user, torch.addcmul(slope, found.user_bias, decay), len(p)),
            gathered(item, torch.addcmul(slope, found.item_bias, decay), len(y)),
            *(None,) * 5,
        )


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
        weights = torch.bincount(users, minlength=len(self.user_bias)).clamp(min=1).float().rsqrt()[users]
        sides = {"rated": (users, items, len(self.user_bias)), "raters": (items, users, len(self.item_bias))}
        for name, (rows, columns, n) in sides.items():
            for part, tensor in Rows.of(rows, columns, weights, n)._asdict().items():
                self.register_buffer(f"{name}_{part}", tensor, persistent=False)

    def _rows(self, name: str) -> Rows:
        return Rows(*(getattr(self, f"{name}_{part}") for part in Rows._fields))

    def loss(self, batch: RatingBatch) -> Tensor:
        with torch.autocast(batch.users.device.type, enabled=False):  # sparse products have no narrower form
            return _PenalisedError.apply(
                self.users.weight, self.items.weight, self.implicit.weight, self.user_bias, self.item_bias, self.mean,
                batch, self.l2, self._rows("rated"), self._rows("raters"),
            )  # fmt: skip

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

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        vectors, bias = self._users(users, histories)
        known = (self.mean + bias)[:, None]
        return torch.cat([vectors, known, torch.ones_like(known)], 1)

    def item_vectors(self) -> Tensor:
        bias = self.item_bias[:, None]
        return torch.cat([self.items.weight, torch.ones_like(bias), bias], 1)
