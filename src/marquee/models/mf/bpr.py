"""BPR-MF: matrix factorisation trained to rank an observed item above an unobserved one."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender


class _PairLoss(torch.autograd.Function):
    """The loss with its gradient in closed form: autograd takes twice the time for an epoch.

    With m = <p_u, q_i - q_j> + b_i - b_j, the loss is the mean of -log sigmoid(m) over n pairs with k negatives each,
    hence d loss / d m = -sigmoid(-m) / nk. The rest is the product rule, and `l2` / n times each vector. With `sparse`
    the gradients of the tables hold the rows that the batch touches, a row as often as it does.
    """

    @staticmethod
    def forward(
        ctx, users: Tensor, items: Tensor, bias: Tensor | None, batch: PairBatch, l2: float, sparse: bool
    ) -> Tensor:
        user, item, negative = batch
        n, k = negative.shape
        p, q, r = users.index_select(0, user), items.index_select(0, item), items.index_select(0, negative.view(-1))
        # One negative is by far the usual case; without a third dimension the products are a third cheaper.
        difference = q - r if k == 1 else q[:, None] - r.view(n, k, -1)
        margin = ((p if k == 1 else p[:, None]) * difference).sum(-1)
        if bias is not None:
            margin += (bias[item][:, None] - bias[negative]).view_as(margin)
        loss = -F.logsigmoid(margin).mean()
        if l2:
            loss += l2 / 2 / n * sum(torch.dot(flat, flat) for flat in (part.view(-1).float() for part in (p, q, r)))
        ctx.save_for_backward(user, item, negative, p, q, r, difference, torch.sigmoid(-margin).div_(-n * k))
        ctx.decay, ctx.sparse = l2 / n, sparse
        ctx.shapes = users.shape, items.shape, None if bias is None else bias.shape
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        user, item, negative, p, q, r, difference, slope = ctx.saved_tensors
        n, k = negative.shape
        slope = slope * grad
        if k == 1:
            of_p, of_q = difference * slope[:, None], p * slope[:, None]
            of_r = -of_q
        else:
            of_p, of_q = torch.einsum("nk,nkd->nd", slope, difference), p * slope.sum(1, keepdim=True)
            of_r = (p[:, None] * -slope[:, :, None]).view(n * k, -1)
        if ctx.decay:
            decay = ctx.decay * grad
            of_p, of_q, of_r = of_p.addcmul_(p, decay), of_q.addcmul_(q, decay), of_r.addcmul_(r, decay)
        users, items, bias = ctx.shapes
        pairs = item, negative.view(-1)
        of_users = _table(users, (user,), (of_p,), ctx.sparse)
        of_items = _table(items, pairs, (of_q, of_r), ctx.sparse)
        of_bias = bias and _table(bias, pairs, (slope.view(n, k).sum(1), -slope.view(-1)), ctx.sparse)
        return of_users, of_items, of_bias, None, None, None


def _table(shape: torch.Size, rows: Sequence[Tensor], gradients: Sequence[Tensor], sparse: bool) -> Tensor:
    """The gradient of a table from those of its rows. `index_add_` takes a quarter of the time of embedding's own."""
    if sparse:
        return torch.sparse_coo_tensor(
            torch.cat(tuple(rows))[None], torch.cat(tuple(gradients)), shape, check_invariants=False
        )
    table = gradients[0].new_zeros(shape)
    for index, gradient in zip(rows, gradients, strict=True):
        table.index_add_(0, index, gradient)
    return table


class BPR(Recommender):
    """score(u, i) = <p_u, q_i> + b_i, trained on -log sigmoid(score(u, i) - score(u, j)) with L2 on what a pair uses.

    Rendle et al. 2009, "BPR: Bayesian personalized ranking from implicit feedback", section 4.3.1. The paper's
    regularisation is lambda/2 |theta|^2 over the embeddings of each triple, which is what `l2` weighs here.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 64,
        l2: Annotated[float, Ge(0)] = 0.0,
        item_bias: bool = False,
        sparse_gradients: bool = False,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__()
        self.view = view
        self.l2 = l2
        self.sparse_gradients = sparse_gradients
        self.users = nn.Embedding(spec.n_users, dim)
        self.items = nn.Embedding(spec.n_items, dim)
        self.item_bias = nn.Parameter(torch.zeros(spec.n_items)) if item_bias else None
        nn.init.normal_(self.users.weight, std=init_std)
        nn.init.normal_(self.items.weight, std=init_std)

    def loss(self, batch: PairBatch) -> Tensor:
        with torch.autocast(batch.users.device.type, enabled=False):  # there are no products of matrices to gain from
            return _PairLoss.apply(
                self.users.weight, self.items.weight, self.item_bias, batch, self.l2, self.sparse_gradients
            )

    @property
    def steps_at_once(self) -> int:
        return max(1, 2**15 // self.view.batch_size)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        scores = self.users(users) @ self.items.weight.T
        return scores if self.item_bias is None else scores + self.item_bias

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.users(users) if self.item_bias is None else F.pad(self.users(users), (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        items = self.items.weight
        return items if self.item_bias is None else torch.cat([items, self.item_bias[:, None]], 1)
