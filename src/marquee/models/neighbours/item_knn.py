"""Item-kNN: items are recommended that resemble those in the history."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import co_counts


class ItemKNN(Recommender):
    """score(u, i) = sum of similarity(i, j) over the history's items j that are among i's nearest neighbours.

    Cosine similarity with the shrinkage term of Bell & Koren 2007 in the denominator; item-based neighbourhoods after
    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms".
    """

    scores_unseen_users = True
    max_epochs = 1

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        neighbours: Annotated[int, Ge(1)] = 100,
        shrinkage: Annotated[float, Ge(0)] = 0.0,
        similarity: Literal["cosine", "jaccard"] = "cosine",
    ):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.neighbours = min(neighbours, spec.n_items)
        self.shrinkage = shrinkage
        self.similarity = similarity
        self.register_buffer("weight", torch.zeros(spec.n_items, spec.n_items))

    def fit(self, batch: MatrixBatch) -> None:
        similarity = co_counts(batch.users, batch.items, self.n_items)
        counts = similarity.diagonal().clone()
        if self.similarity == "cosine":
            scale = counts.sqrt()
            denominator = scale[:, None] * scale
        else:
            denominator = counts[:, None] + counts - similarity
        similarity /= (denominator + self.shrinkage).clamp(min=1e-12)
        similarity.fill_diagonal_(0)
        values, nearest = similarity.topk(self.neighbours, dim=1)
        # Row j of the weight spreads item j's vote; column i holds the neighbours of item i.
        self.weight.zero_().scatter_(1, nearest, values)
        self.weight.copy_(self.weight.T.clone())

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return histories.matrix(self.n_items) @ self.weight
