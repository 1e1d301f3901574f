"""Batches of token rows: long texts are cut, short ones padded, and texts of like length share a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.module import Part, View
from marquee.seeding import numpy_generator

PADDING, UNKNOWN = 0, 1
BUCKET = 64  # batches that are sorted by length together; padding falls below 2 %, and batches stay well mixed


class TextBatch(NamedTuple):
    """`tokens` is padded on the right with 0; `lengths` counts the real tokens, at least 1."""

    tokens: Tensor  # int64 [batch, length]
    lengths: Tensor  # int64 [batch]
    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label
    index: Tensor  # int64 [batch], the example's row number in the data set


@dataclass(frozen=True)
class TextStore:
    """All texts as one flat vector of corpus words; `word_ids` turns those into the vocabulary of the training part."""

    tokens: np.ndarray  # int32 [words in all texts], a memory map
    offsets: np.ndarray  # int64 [texts + 1]
    word_ids: np.ndarray  # int32 [corpus words]

    def lengths(self, index: np.ndarray) -> np.ndarray:
        return self.offsets[index + 1] - self.offsets[index]

    def rows(self, index: np.ndarray, max_length: int, truncate: str) -> tuple[Tensor, Tensor]:
        """Padded token rows [b, longest] (int64) of the texts `index` and their lengths [b]."""
        full = self.lengths(index)
        lengths = np.minimum(full, max_length)
        head = {"head": max_length, "tail": 0, "both": (max_length + 1) // 2}[truncate]
        column = np.arange(int(lengths.max()))
        # A column behind the head of a text that is too long reads that much further to the right.
        skip = np.where(column >= head, (full - lengths)[:, None], 0)
        position = self.offsets[index][:, None] + column + skip
        inside = column < lengths[:, None]
        words = self.tokens[np.where(inside, position, 0)]
        tokens = np.where(inside, self.word_ids[words], PADDING).astype(np.int64)
        return torch.from_numpy(tokens), torch.from_numpy(lengths)


@dataclass(frozen=True, kw_only=True)
class TextBatches(View):
    """Each epoch is a new permutation, a pure function of (seed, epoch).

    batch_size             texts a training step
    max_length             tokens kept of a text
    truncate               what is kept of a longer one: its head, its tail, or half of each
    evaluation_batch_size  texts a step of validation and test
    """

    batch_size: Annotated[int, Ge(1)] = 64
    max_length: Annotated[int, Ge(1)] = 400
    truncate: Literal["head", "tail", "both"] = "head"
    evaluation_batch_size: Annotated[int, Ge(1)] = 256

    def steps(self, data: Any) -> int:
        return -(-len(data.parts["train"]) // self.batch_size)

    def train_batches(self, data: Any, seed: int, epoch: int) -> Iterator[TextBatch]:
        generator = numpy_generator(seed, "text batches", epoch)
        index = generator.permutation(data.parts["train"])
        lengths = np.minimum(data.store.lengths(index), self.max_length)
        bucket = np.arange(len(index)) // (self.batch_size * BUCKET)
        index = index[np.lexsort((lengths, bucket))]
        for step in generator.permutation(self.steps(data)):
            yield self._batch(data, index[step * self.batch_size : (step + 1) * self.batch_size])

    def evaluation_batches(self, data: Any, part: Part, rank: int = 0, world: int = 1) -> Iterator[TextBatch]:
        index = data.parts[part]
        lengths = np.minimum(data.store.lengths(index), self.max_length)
        index = index[np.argsort(lengths, kind="stable")][rank::world]
        for start in range(0, len(index), self.evaluation_batch_size):
            yield self._batch(data, index[start : start + self.evaluation_batch_size])

    def _batch(self, data: Any, index: np.ndarray) -> TextBatch:
        tokens, lengths = data.store.rows(index, self.max_length, self.truncate)
        return TextBatch(tokens, lengths, torch.from_numpy(data.labels[index]), torch.from_numpy(index))
