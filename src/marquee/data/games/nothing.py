"""For a model that has nothing to learn."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from marquee.data.dataset import DataSet, View


class Empty(NamedTuple):
    """One row of nothing."""

    nothing: Tensor


class Nothing(View):
    """One empty batch an epoch: what is known of the game before it is played."""

    def steps(self, data: DataSet) -> int:
        return 1

    def train_batches(self, data: DataSet, seed: int, epoch: int) -> Iterator[Empty]:
        yield Empty(torch.zeros(1))
