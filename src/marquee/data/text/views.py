"""Batches of token rows: long texts are cut, short ones padded, and texts of like length share a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import ExampleView
from marquee.data.text.dataset import TextData
from marquee.seeding import numpy_generator

BUCKET = 64  # batches that are sorted by length together; padding falls below 2 %, and batches stay well mixed


class TextBatch(NamedTuple):
    """`tokens` is padded on the right with 0; `lengths` counts the real tokens, at least 1."""

    tokens: Tensor  # int64 [batch, length]
    lengths: Tensor  # int64 [batch]
    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label
    index: Tensor  # int64 [batch], the example's row number in the data set


@dataclass(frozen=True, kw_only=True)
class TextBatches(ExampleView):
    """Each epoch is a new permutation, a pure function of (seed, epoch).

    batch_size  texts a training step
    max_length  tokens kept of a text
    truncate    what is kept of a longer one: its head, its tail, or half of each
    """

    batch_size: Annotated[int, Ge(1)] = 64
    max_length: Annotated[int, Ge(1)] = 400
    truncate: Literal["head", "tail", "both"] = "head"

    def steps(self, data: TextData) -> int:
        return -(-len(data.parts["train"]) // self.batch_size)

    def train_batches(self, data: TextData, seed: int, epoch: int) -> Iterator[TextBatch]:
        generator = numpy_generator(seed, "text batches", epoch)
        index = generator.permutation(data.parts["train"])
        lengths = self.lengths(data, index)
        bucket = np.arange(len(index)) // (self.batch_size * BUCKET)
        index = index[np.lexsort((lengths, bucket))]
        for step in generator.permutation(self.steps(data)):
            yield self.batch(data, index[step * self.batch_size : (step + 1) * self.batch_size])

    def lengths(self, data: TextData, index: np.ndarray) -> np.ndarray:
        return np.minimum(data.store.lengths(index), self.max_length)

    def batch(self, data: TextData, index: np.ndarray) -> TextBatch:
        tokens, lengths = data.store.rows(index, self.max_length, self.truncate)
        return TextBatch(tokens, lengths, torch.from_numpy(data.labels[index]), torch.from_numpy(index))
