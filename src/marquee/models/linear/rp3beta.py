"""RP3beta: a walk of three steps between users and items, at the end of which popular items count less."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from scipy import sparse
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import binary_matrix, co_counts
from marquee.models.linear.kept import KeptWeights


class RP3Beta(Recommender):
    """score(u, i) = sum over j of the history of w(j, i), w(j, i) = sum_v (p_jv p_vi)^alpha / n_i^beta.

    Paudel et al. 2017, "Updatable, accurate, diverse, and scalable recommendations for interactive applications", ACM
    TiiS. p_jv = 1 / n_j is the chance to go on from item j to a user v of its n_j, p_vi = 1 / n_v likewise. The chance
    of the first step, from u to j, is the same for all j and left out: it does not change the order. alpha = 1,
    beta = 0 is the plain walk P3.

    neighbours  items j that are kept for each item i, those with the largest w(j, i)
    """

    scores_unseen_users = adds_up = True
    max_epochs = 1

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        neighbours: Annotated[int, Ge(1)] = 100,
        alpha: Annotated[float, Ge(0)] = 0.8,
        beta: Annotated[float, Ge(0)] = 0.4,
    ):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.alpha, self.beta = alpha, beta
        self.nearest = KeptWeights(spec.n_items, neighbours)

    def fit(self, batch: MatrixBatch) -> None:
        matrix = binary_matrix(batch.users, batch.items, self.n_items)
        n_users, n_items = (np.maximum(matrix.getnnz(axis=axis), 1).astype(np.float32) for axis in (1, 0))
        # Its product with itself has the root of n_v^-alpha twice.
        walked = (sparse.diags(n_users ** (-self.alpha / 2)) @ matrix).tocsr().astype(np.float32)
        forth, back = torch.from_numpy(n_items**-self.alpha), torch.from_numpy(n_items**-self.beta)
        for rows, weights in co_counts(walked):
            weights *= forth
            weights *= back[rows, None]
            weights.diagonal(rows.start).zero_()
            self.nearest.keep(rows, weights)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.nearest.score(histories)
