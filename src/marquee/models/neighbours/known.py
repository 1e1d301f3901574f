"""The training matrix as part of a model's state: neighbours are remembered, not learnt."""

import numpy as np
import torch
from scipy import sparse
from torch import nn

from marquee.data.interactions.views import MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError


class Known(nn.Module):
    """Who met what in training, and the values of it where a model weighs by them.

    How long its buffers are only the data tells, so that loading takes the lengths that it finds.

    offsets  int64 [n_users + 1]: the cells of user u are offsets[u]:offsets[u + 1]
    items    int32 [n]
    values   float32 [n]; without `weighted` it is not there, and every value counts as 1
    """

    def __init__(self, spec: InteractionSpec, weighted: bool):
        super().__init__()
        self.shape = spec.n_users, spec.n_items
        self.weighted = weighted
        self.register_buffer("offsets", torch.zeros(spec.n_users + 1, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(0, dtype=torch.int32))
        if weighted:
            self.register_buffer("values", torch.zeros(0))
        self._matrix: sparse.csr_matrix | None = None

    def learn(self, matrix: sparse.csr_matrix) -> None:
        """Take a matrix [n_users or less, n_items]; users that it lacks met nothing."""
        ends = np.pad(matrix.indptr, (0, self.shape[0] + 1 - len(matrix.indptr)), mode="edge")
        parts = {"offsets": ends, "items": matrix.indices, "values": matrix.data}
        for name, buffer in self.named_buffers():
            setattr(self, name, torch.from_numpy(parts[name].copy()).to(buffer))
        self._matrix = None

    def matrix(self) -> sparse.csr_matrix:
        """It again, float32 [n_users, n_items]."""
        if self._matrix is None:
            items, offsets = self.items.cpu().numpy(), self.offsets.cpu().numpy()
            values = self.values.float().cpu().numpy() if self.weighted else np.ones(len(items), np.float32)
            self._matrix = sparse.csr_matrix((values, items, offsets), shape=self.shape)
        return self._matrix

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        for name in ("items", "values"):
            given = state_dict.get(prefix + name)
            if given is not None and hasattr(self, name):
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_empty(given.shape))
        self._matrix = None
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def valued_matrix(batch: MatrixBatch, n_items: int, key: str) -> sparse.csr_matrix:
    """The values [n_users, n_items] (float32); of a pair that is listed several times the mean.

    Raises ConfigError, naming the setting `key` that asks for values, where the data has none.
    """
    if batch.values is None:
        raise ConfigError(
            f"model.{key} needs a value for each interaction, such as a rating, and this data has none. Name its "
            "column (data.columns.value=...), or type model.similarity=cosine model.weighting=binary."
        )
    users, items = batch.users.cpu().numpy(), batch.items.cpu().numpy()
    shape = (int(users.max()) + 1 if len(users) else 0), n_items
    total = sparse.csr_matrix((batch.values.float().cpu().numpy(), (users, items)), shape=shape)
    times = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    for matrix in (total, times):
        matrix.sum_duplicates()
        matrix.sort_indices()
    total.data /= times.data
    return total
