"""How often two items share a user: the one statistic that item-kNN and EASE are made of."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from marquee.data.interactions.histories import Histories

PANEL_CELLS = 4_000_000  # cells that are formed at a time: 16 MB of float32
DENSE_COLUMNS, DENSE_CELLS = 64, 1_000_000  # columns of X that are dense at a time; cells of them, which fit the cache
DENSE_GAIN = 16  # how many additions of whole columns take the time of one among scattered places


def binary_matrix(users: Tensor, items: Tensor, n_items: int) -> sparse.csr_matrix:
    """X [n_users, n_items] with a 1 for each (user, item) pair, however often it is listed (float32)."""
    n_users = int(users.max()) + 1 if len(users) else 0
    ones = np.ones(len(users), np.float32)
    matrix = sparse.csr_matrix((ones, (users.cpu().numpy(), items.cpu().numpy())), shape=(n_users, n_items))
    matrix.data[:] = 1
    return matrix


def co_counts(matrix: sparse.csr_matrix) -> Iterator[tuple[slice, Tensor]]:
    """X^T X, some rows at a time: which rows, and their products [rows, n_items] (float32), counts where X is binary.

    Where many items share users, as in MovieLens-1M (4 % of the cells are met), a few dense columns of X that stay in
    the cache are added up by the users of each item: 0.6 s there, against 1.9 s for products of sparse matrices and
    5 s for dense ones. Elsewhere most of such additions would be of zeros.
    """
    n_users, n_items = matrix.shape
    transposed = matrix.T.tocsr()
    columns = min(DENSE_COLUMNS, DENSE_CELLS // max(n_users, 1))
    additions = np.square(matrix.getnnz(axis=1), dtype=np.int64).sum()  # that the product of sparse matrices takes
    if columns >= 16 and matrix.nnz * n_items < DENSE_GAIN * additions:
        yield from _by_dense_columns(transposed, columns)
        return
    size = max(1, PANEL_CELLS // n_items)
    for start in range(0, n_items, size):
        rows = slice(start, min(start + size, n_items))
        yield rows, torch.from_numpy((transposed[rows] @ matrix).toarray())


def _by_dense_columns(transposed: sparse.csr_matrix, size: int) -> Iterator[tuple[slice, Tensor]]:
    n_items = transposed.shape[0]
    users, offsets, weights = (
        torch.from_numpy(part) for part in (transposed.indices, transposed.indptr, transposed.data)
    )
    for start in range(0, n_items, size):
        rows = slice(start, min(start + size, n_items))
        dense = torch.from_numpy(np.ascontiguousarray(transposed[rows].toarray().T))
        sums = F.embedding_bag(
            users, dense, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )  # fmt: skip
        yield rows, sums.T.contiguous()


def history_matrix(histories: Histories, n_items: int) -> sparse.csr_matrix:
    """Histories as a matrix [batch, n_items] of ones (float32); an item that occurs twice in one counts once."""
    items, offsets = histories.items.cpu().numpy(), histories.offsets.cpu().numpy()
    shape = len(offsets) - 1, n_items
    seen = sparse.csr_matrix((np.ones(len(items), np.float32), items, offsets), shape=shape)
    if not seen.has_canonical_format:
        seen.sum_duplicates()
        seen.data[:] = 1
    return seen
