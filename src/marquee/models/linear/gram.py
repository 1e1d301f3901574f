"""How often two items share a user: the one statistic that item-kNN and EASE are made of."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

PANEL_CELLS = 4_000_000  # cells that are formed at a time: 16 MB of float32


def binary_matrix(users: Tensor, items: Tensor, n_items: int) -> sparse.csr_matrix:
    """X [n_users, n_items] with a 1 for each (user, item) pair, however often it is listed (float32)."""
    n_users = int(users.max()) + 1 if len(users) else 0
    ones = np.ones(len(users), np.float32)
    matrix = sparse.csr_matrix((ones, (users.cpu().numpy(), items.cpu().numpy())), shape=(n_users, n_items))
    matrix.data[:] = 1
    return matrix


def co_counts(matrix: sparse.csr_matrix) -> Iterator[tuple[slice, Tensor]]:
    """X^T X, some rows at a time: which rows, and their products [rows, n_items] (float32), counts where X is binary.

    Each panel is a product of sparse matrices: half the time of dense products at the density of MovieLens-1M (4 %),
    and far less below.
    """
    n_items = matrix.shape[1]
    transposed = matrix.T.tocsr()
    size = max(1, PANEL_CELLS // n_items)
    for start in range(0, n_items, size):
        rows = slice(start, min(start + size, n_items))
        yield rows, torch.from_numpy((transposed[rows] @ matrix).toarray())
