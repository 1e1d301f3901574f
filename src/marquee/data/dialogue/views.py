"""Batches of what was said and what was replied."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.dialogue.conversations import ConversationData
from marquee.seeding import numpy_generator


class PairBatch(NamedTuple):
    """Token rows padded on the right with 0: row i of `replies` answers row i of `contexts`."""

    contexts: Tensor  # int64 [batch, length]
    replies: Tensor  # int64 [batch, length]
    same: Tensor  # int64 [batch], equal for replies of equal words
    index: Tensor  # int64 [batch], the pair's row number in the data set


@dataclass(frozen=True, kw_only=True)
class PairView(View):
    """What both views share.

    max_length  tokens kept: the last ones of what was said, the first ones of a reply
    """

    max_length: Annotated[int, Ge(1)] = 50

    def batch(self, data: ConversationData, index: np.ndarray) -> PairBatch:
        """The pairs `index`, in that order."""
        rows = data.rows(index, self.max_length)
        return PairBatch(*rows, torch.from_numpy(data.replies[index]), torch.from_numpy(index))


@dataclass(frozen=True, kw_only=True)
class Pairs(PairView):
    """Each epoch is a new permutation, a pure function of (seed, epoch).

    batch_size  pairs a training step; each of them has the replies of all others as negatives
    """

    batch_size: Annotated[int, Ge(2)] = 256

    def steps(self, data: ConversationData) -> int:
        return max(len(data.parts["train"]) // self.batch_size, 1)

    def train_batches(self, data: ConversationData, seed: int, epoch: int) -> Iterator[PairBatch]:
        index = numpy_generator(seed, "pairs", epoch).permutation(data.parts["train"])
        for step in range(self.steps(data)):  # what is left over is too few negatives, and is drawn another time
            yield self.batch(data, index[step * self.batch_size : (step + 1) * self.batch_size])


@dataclass(frozen=True, kw_only=True)
class AllPairs(PairView):
    """One batch an epoch: all pairs of the training part, for models that count."""

    def steps(self, data: ConversationData) -> int:
        return 1

    def train_batches(self, data: ConversationData, seed: int, epoch: int) -> Iterator[PairBatch]:
        yield self.batch(data, data.parts["train"])

    def shard(self, batch: PairBatch, rank: int, world: int) -> PairBatch:
        return batch  # every process counts all pairs, so that all of them hold the same model
