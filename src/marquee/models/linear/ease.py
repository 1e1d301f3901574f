"""EASE: a linear item-to-item model with a closed form, hard to beat on dense data."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import co_counts


class EASE(Recommender):
    """B = I - P / diag(P) with P = (X^T X + lambda I)^-1, scores = history @ B.

    Steck 2019, "Embarrassingly shallow autoencoders for sparse data", eq. 8. The weight takes n_items^2 x 4 bytes.
    """

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, l2: Annotated[float, Gt(0)] = 500.0):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.l2 = l2
        self.register_buffer("weight", torch.zeros(spec.n_items, spec.n_items))

    def fit(self, batch: MatrixBatch) -> None:
        gram = co_counts(batch.users, batch.items, self.n_items)
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        self.weight.copy_(inverse / -inverse.diagonal())
        self.weight.fill_diagonal_(0)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return histories.matrix(self.n_items) @ self.weight
