"""What users are known to have met, as one flat vector with offsets: the form that recommenders read."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marquee.data.interactions.known import EVALUATION_CELLS

__all__ = ["EVALUATION_CELLS", "Histories", "gather_rows"]


class Histories(NamedTuple):
    """The known items of `batch` users, oldest first, as one flat vector with offsets (no padding)."""

    items: Tensor  # int64 [nnz]
    offsets: Tensor  # int64 [batch + 1]
    times: Tensor | None = None  # int64 [nnz], seconds; None where nobody knows when it was

    def padded(self, length: int, padding: int) -> tuple[Tensor, Tensor]:
        """The last `length` items of each user, right-padded: (items [batch, length], lengths [batch])."""
        index, lengths = self._newest(length)
        flat = torch.cat([self.items, self.items.new_tensor([padding])])
        return flat[index], lengths

    def padded_times(self, length: int) -> Tensor | None:
        """The times of what `padded` returns, int64 [batch, length], with 0 behind the newest; None without times."""
        if self.times is None:
            return None
        return torch.cat([self.times, self.times.new_zeros(1)])[self._newest(length)[0]]

    def _newest(self, length: int) -> tuple[Tensor, Tensor]:
        """Where the last `length` items of each user stand, int64 [batch, length], and how many those are [batch].

        Padding stands at nnz, one behind the last item.
        """
        lengths = (self.offsets[1:] - self.offsets[:-1]).clamp(max=length)
        width = max(int(lengths.max()) if len(lengths) else 0, 1)
        columns = torch.arange(width, device=self.items.device)
        index = self.offsets[1:, None] - lengths[:, None] + columns
        return torch.where(columns < lengths[:, None], index, len(self.items)), lengths

    def rows(self) -> Tensor:
        """The position in the batch of every item of `items`: int64 [nnz]."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def take(self, users: Tensor) -> "Histories":
        """The histories at the positions `users` of the batch (int64 [n]), in that order."""
        starts, counts = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        ends = counts.cumsum(0)
        index = torch.arange(int(counts.sum()), device=self.items.device)
        index = index + torch.repeat_interleave(starts - (ends - counts), counts)
        times = None if self.times is None else self.times[index]
        return Histories(self.items[index], torch.cat([ends.new_zeros(1), ends]), times)

    def matrix(self, n_items: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Multi-hot rows [batch, n_items]."""
        dense = torch.zeros(len(self.offsets) - 1, n_items, dtype=dtype, device=self.items.device)
        dense[self.rows(), self.items] = 1
        return dense


def gather_rows(
    items: np.ndarray, offsets: np.ndarray, users: np.ndarray, times: np.ndarray | None = None
) -> Histories:
    """The rows of some users out of a CSR store, as one flat vector with offsets of their own."""
    starts, counts = offsets[users], offsets[users + 1] - offsets[users]
    ends = np.cumsum(counts)
    index = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    flat, when = (
        None if column is None else torch.from_numpy(column[index].astype(np.int64)) for column in (items, times)
    )
    return Histories(flat, torch.from_numpy(np.concatenate([[0], ends]).astype(np.int64)), when)
