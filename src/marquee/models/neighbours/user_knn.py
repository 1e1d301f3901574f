"""User-kNN: items are recommended that users with a similar history met."""

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
from marquee.models.linear.gram import binary_matrix, history_matrix
from marquee.models.neighbours.known import Known, valued_matrix


class UserKNN(Recommender):
    """score(u, i) = sum of similarity(u, v) * r_vi over the training users v that are nearest to the history of u.

    User-based neighbourhoods after Herlocker et al. 1999, "An algorithmic framework for performing collaborative
    filtering", SIGIR, on what was met. The similarity is that of sets of items, so that a user is served by the history
    alone, seen in training or not; the training matrix is part of the state. A user who is asked for by id is no
    neighbour of her own. Of users who are equally near, which are neighbours is not defined but repeatable.

    similarity  cosine: items of both by the root of the product of their numbers; jaccard: by the items of either
    shrinkage   is added to the denominator
    weighting   binary: r_vi is 1; values: the value (rating) that v gave i in training
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
        weighting: Literal["binary", "values"] = "binary",
    ):
        super().__init__()
        self.view = view
        self.n_users, self.n_items = spec.n_users, spec.n_items
        self.neighbours = min(neighbours, spec.n_users)
        self.shrinkage = shrinkage
        self.similarity = similarity
        self.known = Known(spec, weighted=weighting == "values")
        self._ones: tuple[sparse.csr_matrix, sparse.csr_matrix] | None = None

    def fit(self, batch: MatrixBatch) -> None:
        if self.known.weighted:
            self.known.learn(valued_matrix(batch, self.n_items, "weighting=values"))
        else:
            self.known.learn(binary_matrix(batch.users, batch.items, self.n_items))

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        met, known = history_matrix(histories, self.n_items), self.known.matrix()
        if self._ones is None or self._ones[0] is not known:
            ones = known.copy()
            ones.data = np.ones_like(known.data)
            self._ones = known, ones.T.tocsr()
        similarity = torch.from_numpy((met @ self._ones[1]).toarray())
        own, theirs = (torch.from_numpy(np.diff(matrix.indptr)).float() for matrix in (met, known))
        cosine = self.similarity == "cosine"
        below = (own[:, None] * theirs).sqrt_() if cosine else own[:, None] + theirs - similarity
        similarity /= below.add_(self.shrinkage).clamp_(min=1e-12)
        if users is not None:
            similarity[torch.arange(len(similarity)), users.cpu()] = 0
        values, nearest = similarity.topk(self.neighbours, dim=1)
        offsets = np.arange(len(values) + 1) * self.neighbours
        parts = values.numpy().ravel(), nearest.numpy().ravel(), offsets
        votes = sparse.csr_matrix(parts, shape=similarity.shape)
        return torch.from_numpy((votes @ known).toarray()).to(histories.items.device)
