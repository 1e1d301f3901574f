"""Item-kNN: items are recommended that resemble those in the history."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from scipy import sparse
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import PANEL_CELLS, binary_matrix, co_counts, history_matrix
from marquee.models.linear.kept import KeptWeights
from marquee.models.neighbours.known import Known, valued_matrix


class ItemKNN(Recommender):
    """score(u, i) = sum of r_uj * similarity(i, j) over the history's items j that are among i's nearest neighbours.

    Item-based neighbourhoods after Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms",
    WWW, section 3.1, with the shrinkage term of Bell & Koren 2007 in the denominator. Of items that are equally near,
    those with the lower numbers are neighbours. The similarities are formed in panels, never all at once.

    similarity  cosine: of the columns of the matrix, binary or of values as `weighting` says
                adjusted_cosine, pearson: of values less the user's or the item's mean, over the users who know both;
                only items that agree are neighbours
                jaccard: users who know both by users who know either
    weighting   binary: r_uj is 1
                values: the value (rating) that the user gave j in training; where it is not known, of an unseen user or
                an item that the history got later, the mean of all values
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
        similarity: Literal["cosine", "adjusted_cosine", "pearson", "jaccard"] = "cosine",
        weighting: Literal["binary", "values"] = "binary",
    ):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.shrinkage = shrinkage
        self.similarity = similarity
        self.nearest = KeptWeights(spec.n_items, neighbours)
        self.known = Known(spec, weighted=True) if weighting == "values" else None

    def fit(self, batch: MatrixBatch) -> None:
        matrix = binary_matrix(batch.users, batch.items, self.n_items)
        values = matrix
        if self.known is not None:
            values = valued_matrix(batch, self.n_items, "weighting=values")
            self.known.learn(values)
        if self.similarity in ("adjusted_cosine", "pearson"):
            values = valued_matrix(batch, self.n_items, f"similarity={self.similarity}")
            panels = self._of_deviations(values, axis=1 if self.similarity == "adjusted_cosine" else 0)
        elif self.similarity == "cosine":
            panels = self._cosines(values)
        else:
            panels = self._jaccard(matrix)
        for rows, similarity in panels:
            similarity.diagonal(rows.start).zero_()
            self.nearest.keep(rows, similarity)

    def _cosines(self, matrix: sparse.csr_matrix):
        squares = torch.from_numpy(np.asarray(matrix.multiply(matrix).sum(axis=0), np.float32)[0])
        for rows, products in co_counts(matrix):
            # In this order equal cosines are equal floats.
            products /= (squares[rows, None] * squares).sqrt_().add_(self.shrinkage).clamp_(min=1e-12)
            yield rows, products

    def _jaccard(self, matrix: sparse.csr_matrix):
        counts = torch.from_numpy(matrix.getnnz(axis=0)).float()
        for rows, both in co_counts(matrix):
            both /= (counts[rows, None] + counts - both).add_(self.shrinkage).clamp_(min=1e-12)
            yield rows, both

    def _of_deviations(self, values: sparse.csr_matrix, axis: int):
        """sum of d_ui d_uj / sqrt(sum of d_ui^2 * sum of d_uj^2), all three over the users who know i and j.

        d are the deviations from the mean of the user (axis 1) or of the item (axis 0).
        """
        means = np.asarray(values.sum(axis=axis)).ravel() / np.maximum(values.getnnz(axis=axis), 1)
        cells = values.tocoo()
        of = cells.row if axis == 1 else cells.col
        deviations, squares, ones = values.copy(), values.copy(), values.copy()
        deviations.data = (values.data - means[of]).astype(np.float32)
        squares.data, ones.data = deviations.data**2, np.ones_like(values.data)
        by_item = [matrix.T.tocsr() for matrix in (deviations, squares, ones)]
        size = max(1, PANEL_CELLS // self.n_items)
        for start in range(0, self.n_items, size):
            rows = slice(start, min(start + size, self.n_items))
            agreement, own, other = (
                torch.from_numpy((left[rows] @ right).toarray())
                for left, right in zip(by_item, (deviations, ones, squares), strict=True)
            )
            below = (own * other).sqrt_().add_(self.shrinkage).clamp_(min=1e-12)
            yield rows, agreement.div_(below).clamp_(min=0)

    @property
    def adds_up(self) -> bool:
        return self.known is None

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        if self.known is None:
            return self.nearest.score(histories)
        met = history_matrix(histories, self.n_items)
        known = self.known.matrix()
        mean = float(known.data.mean()) if known.nnz else 1.0
        if users is not None:
            given = known[users.cpu().numpy()]
            # What is known of the history's items replaces the mean; a value of 0 is known as well.
            cells = given.copy()
            cells.data = given.data - np.float32(mean)
            met = met * np.float32(mean) + cells.multiply(met).tocsr()
        else:
            met = met * np.float32(mean)
        return self.nearest.weigh(met).to(histories.items.device)

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
