"""PureSVD: a history is projected onto the directions in which users differ most."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from scipy.sparse.linalg import svds
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.models.base import Recommender
from marquee.models.linear.gram import binary_matrix


class TruncatedSVD(Recommender):
    """score(u, .) = x_u V V^T with the `dim` first right singular vectors V of X, which holds a 1 for each pair.

    Cremonesi, Koren & Turrin 2010, "Performance of recommender algorithms on top-n recommendation tasks", RecSys,
    section 3 (PureSVD). x_u is the history, so that users whom training never saw are served alike. The same matrix
    gives the same vectors: the iteration starts from a constant, and each vector's largest entry is positive.

    Raises ConfigError where `dim` is not below the number of users and of items.
    """

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, dim: Annotated[int, Ge(1)] = 32):
        super().__init__()
        if dim >= min(spec.n_users, spec.n_items):
            raise ConfigError(
                f"model.dim={dim}: a matrix of {spec.n_users:,} users and {spec.n_items:,} items has fewer directions "
                f"that can be told apart. Allowed: 1 ... {min(spec.n_users, spec.n_items) - 1}."
            )
        self.view = view
        self.register_buffer("vectors", torch.zeros(spec.n_items, dim))

    def fit(self, batch: MatrixBatch) -> None:
        n_items, dim = self.vectors.shape
        matrix = binary_matrix(batch.users, batch.items, n_items)
        start = np.ones(min(matrix.shape), np.float32)
        _, values, vectors = svds(matrix, k=dim, v0=start, return_singular_vectors="vh")
        vectors = vectors[np.argsort(-values, kind="stable")]
        signs = np.sign(vectors[np.arange(dim), np.abs(vectors).argmax(1)])
        self.vectors.copy_(torch.from_numpy((vectors * signs[:, None]).T.copy()))

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.user_vectors(users, histories) @ self.vectors.T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return histories.matrix(len(self.vectors)) @ self.vectors

    def item_vectors(self) -> Tensor:
        return self.vectors
