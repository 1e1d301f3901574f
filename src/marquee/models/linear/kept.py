"""The few weights of each item that are worth keeping, out of a matrix that would take n_items^2."""

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.models.linear.gram import history_matrix


class KeptWeights(nn.Module):
    """An item-to-item matrix of which each item has `n` weights: score(u, i) = sum of them over the history's items.

    The state takes n_items x n x 8 bytes. Scores are computed in main memory, in float32.

    items   int32 [n_items, n]: row i has the items that speak for item i, the largest weight first
    values  float32 [n_items, n]: their weights; places that are left have weight 0
    """

    def __init__(self, n_items: int, n: int):
        super().__init__()
        self.n_items, self.n = n_items, min(n, n_items)
        self.register_buffer("items", torch.zeros(n_items, self.n, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(n_items, self.n))
        self._votes: sparse.csr_matrix | None = None

    def keep(self, rows: slice, weights: Tensor) -> None:
        """Of the weights [rows, n_items] that speak for some items, keep the `n` largest by absolute value.

        Of equal ones those of the items with the lower numbers.
        """
        # The bits of floats that are not negative are in their order. With the number behind them no two are equal.
        order = torch.arange(self.n_items - 1, -1, -1, device=weights.device)
        keys = (weights.abs().view(torch.int32).long() << 32) | order
        nearest = self.n_items - 1 - (keys.topk(self.n, dim=1).values & 0xFFFFFFFF)
        self.items[rows] = nearest.to(self.items)
        self.values[rows] = weights.gather(1, nearest).to(self.values)
        self._votes = None

    def score(self, histories: Histories) -> Tensor:
        """Scores [batch, n_items] of the items for histories; an item that occurs twice in one counts once."""
        return self.weigh(history_matrix(histories, self.n_items)).to(histories.items.device)

    def weigh(self, rows: sparse.csr_matrix) -> Tensor:
        """Scores [batch, n_items] of the items for rows [batch, n_items] of what each item of a history counts."""
        if self._votes is None:  # row j: for whom item j speaks
            ends = np.arange(self.n_items + 1) * self.n
            parts = self.values.float().cpu().numpy().ravel(), self.items.cpu().numpy().ravel(), ends
            self._votes = sparse.csr_matrix(parts, shape=(self.n_items, self.n_items)).T.tocsr()
            self._votes.eliminate_zeros()
        return torch.from_numpy((rows @ self._votes).toarray())

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        self._votes = None
        super()._load_from_state_dict(state_dict, prefix, *arguments)
