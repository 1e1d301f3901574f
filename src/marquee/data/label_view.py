"""The labels of a part without their examples: what a model needs that looks at class frequencies alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marquee.data.dataset import DataSet, ExampleView


class LabelBatch(NamedTuple):
    """Labels and the rows that they stand in."""

    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label
    index: Tensor  # int64 [batch], the example's row number in the data set


@dataclass(frozen=True, kw_only=True)
class AllLabels(ExampleView):
    """One batch an epoch: the labels of the whole training part."""

    def steps(self, data: DataSet) -> int:
        return 1

    def train_batches(self, data: DataSet, seed: int, epoch: int) -> Iterator[LabelBatch]:
        yield self.batch(data, data.parts["train"])

    def shard(self, batch: LabelBatch, rank: int, world: int) -> LabelBatch:
        return batch  # every process counts all labels, so that all of them hold the same model

    def batch(self, data: DataSet, index: np.ndarray) -> LabelBatch:
        return LabelBatch(torch.from_numpy(np.asarray(data.labels[index])), torch.from_numpy(index))
