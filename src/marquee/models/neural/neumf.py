"""NeuMF: a product of factors and a perceptron, joined in the last layer."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.neural.objective import Objective, ranking_loss
from marquee.models.neural.perceptron import PairPerceptron, squares


class NeuMF(Recommender):
    """score(u, i) = h^T [p_u * q_i, MLP(p'_u, q'_i)], trained on observed and sampled pairs.

    He et al. 2017, "Neural collaborative filtering", WWW, section 3.4: both parts have vectors of their own. They are
    trained together from the start, without the pre-training of section 3.4.1.

    factors    length of the vectors of the product (GMF); 0 leaves the perceptron alone
    dim        length of the vectors that the perceptron reads
    layers     widths of its layers
    objective  bpr or bce (the paper's)
    l2         weighs half the squared length of the vectors that a pair uses; `l2_layers` half the squares of the
               perceptron's matrices, which else learn pairs by heart
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        factors: Annotated[int, Ge(0)] = 64,
        dim: Annotated[int, Ge(1)] = 32,
        layers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [32, 16, 8],  # noqa: B006  (never mutated)
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        objective: Objective = "bpr",
        l2: Annotated[float, Ge(0)] = 0.01,
        l2_layers: Annotated[float, Ge(0)] = 0.01,
        init_std: Annotated[float, Gt(0)] = 0.01,
    ):
        super().__init__()
        self.view = view
        self.factors = factors
        self.objective, self.l2, self.l2_layers = objective, l2, l2_layers
        # One table a side holds the vectors of both parts: one look-up, one gradient.
        self.users = nn.Parameter(nn.init.normal_(torch.empty(spec.n_users, factors + dim), std=init_std))
        self.items = nn.Parameter(nn.init.normal_(torch.empty(spec.n_items, factors + dim), std=init_std))
        self.perceptron = PairPerceptron(dim, dim, layers, dropout)
        self.weights = nn.Parameter(torch.ones(factors)) if factors else None  # of the product, in the last layer

    def _parts(self, table: Tensor) -> tuple[Tensor, ...]:
        return table.split([self.factors, table.shape[1] - self.factors], 1)

    def _side(self, table: Tensor, layer: nn.Linear, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of some rows of a table: the part of the product [n, factors], the share in the perceptron's first layer
        [n, layers[0]], and the sum of all squares.

        Where a batch has more rows than the table, the layer reads the table, and the rows look up what it says.
        """
        if len(rows) <= len(table):
            used = table.index_select(0, rows)
            part, vectors = self._parts(used)
            return part, layer(vectors), used.square().sum()
        part, vectors = self._parts(table)
        uses = torch.bincount(rows, minlength=len(table)).to(table.dtype)
        return part.index_select(0, rows), layer(vectors).index_select(0, rows), table.square().sum(1) @ uses

    def loss(self, batch: PairBatch) -> Tensor:
        n, k = batch.negatives.shape
        p, user, of_users = self._side(self.users, self.perceptron.of_user, batch.users)
        items = torch.cat([batch.items[:, None], batch.negatives], 1).view(-1)
        q, item, of_items = self._side(self.items, self.perceptron.of_item, items)
        logits = self.perceptron.join(user[:, None], item.view(n, k + 1, -1)).float()
        if self.weights is not None:
            logits = logits + ((p * self.weights)[:, None] * q.view(n, k + 1, -1)).sum(-1)
        loss = ranking_loss(logits[:, 0], logits[:, 1:], self.objective)
        if self.l2:
            loss = loss + self.l2 / (2 * n) * (of_users + of_items)
        return loss + self.l2_layers / 2 * squares(self.perceptron) if self.l2_layers else loss

    @property
    def steps_at_once(self) -> int:
        return max(1, 2**14 // self.view.batch_size)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        (p, user), (q, item) = self._parts(self.users[users]), self._parts(self.items)
        scores = self.perceptron.all_pairs(user, item)
        return scores if self.weights is None else scores + (p * self.weights) @ q.T
