"""Item-kNN: items are recommended that resemble those in the history."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import binary_matrix, co_counts
from marquee.models.linear.kept import KeptWeights


class ItemKNN(Recommender):
    """score(u, i) = sum of similarity(i, j) over the history's items j that are among i's nearest neighbours.

    Cosine similarity with the shrinkage term of Bell & Koren 2007 in the denominator; item-based neighbourhoods after
    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms". Of items that are equally near,
    those with the lower numbers are neighbours. The similarities are formed in panels, never all at once.
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
        self.shrinkage = shrinkage
        self.similarity = similarity
        self.nearest = KeptWeights(spec.n_items, neighbours)

    def fit(self, batch: MatrixBatch) -> None:
        matrix = binary_matrix(batch.users, batch.items, self.n_items)
        counts = torch.from_numpy(matrix.getnnz(axis=0)).float()
        for rows, similarity in co_counts(matrix):
            if self.similarity == "cosine":
                denominator = (counts[rows, None] * counts).sqrt_()  # in this order equal cosines are equal floats
            else:
                denominator = counts[rows, None] + counts - similarity
            similarity /= denominator.add_(self.shrinkage).clamp_(min=1e-12)
            similarity.diagonal(rows.start).zero_()
            self.nearest.keep(rows, similarity)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.nearest.score(histories)

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        """Earlier versions kept a dense `weight` [n_items, n_items], whose column i had the neighbours of item i."""
        weight = state_dict.pop(prefix + "weight", None)
        if weight is not None:
            for start in range(0, self.n_items, 256):
                rows = slice(start, start + 256)
                self.nearest.keep(rows, weight[:, rows].T.contiguous())
            for name, kept in self.nearest.state_dict().items():
                state_dict[f"{prefix}nearest.{name}"] = kept.clone()
        super()._load_from_state_dict(state_dict, prefix, *arguments)
