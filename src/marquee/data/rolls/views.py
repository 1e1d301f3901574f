"""Batches of stretches of pieces."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.rolls.dataset import RollData
from marquee.seeding import numpy_generator


class RollBatch(NamedTuple):
    """Stretches of pieces, with silence behind those that are shorter."""

    frames: Tensor  # float32 [batch, length, keys], 0 or 1
    lengths: Tensor  # int64 [batch]
    index: Tensor  # int64 [batch], the piece's number in the data set


@dataclass(frozen=True, kw_only=True)
class RollWindows(View):
    """Each epoch cuts every piece into stretches, at places that are drawn, in an order that is drawn.

    batch_size  stretches a training step
    length      frames of a stretch; the first of it is not predicted
    transpose   semitones up or down by which a stretch is moved at most, drawn for each, as far as the keys go
    """

    batch_size: Annotated[int, Ge(1)] = 16
    length: Annotated[int, Ge(2)] = 128
    transpose: Annotated[int, Interval(ge=0, le=12)] = 0

    def steps(self, data: RollData) -> int:
        lengths = data.lengths(data.parts["train"])
        return -(-int(self._many(lengths).sum()) // self.batch_size)

    def _many(self, lengths: np.ndarray) -> np.ndarray:
        """Stretches of pieces: one frame of each is that before the first that is predicted."""
        return np.maximum(-(-(lengths - 1) // (self.length - 1)), 1)

    def train_batches(self, data: RollData, seed: int, epoch: int) -> Iterator[RollBatch]:
        generator = numpy_generator(seed, "stretches", epoch)
        pieces = data.parts["train"]
        lengths = data.lengths(pieces)
        many = self._many(lengths)
        piece = np.repeat(np.arange(len(pieces)), many)
        number = np.arange(len(piece)) - np.repeat(np.cumsum(many) - many, many)
        # What the last stretch would lack is drawn between it and the first, which moves all borders between them.
        stride = self.length - 1
        slack = many * stride - (lengths - 1)
        shift = np.where(many > 1, generator.integers(slack + 1), 0)[piece]
        begin = np.maximum(number * stride - shift, 0)
        end = np.minimum((number + 1) * stride - shift, lengths[piece] - 1) + 1
        order = generator.permutation(len(piece))
        for step in range(self.steps(data)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            rows = pieces[piece[chosen]]
            length = end[chosen] - begin[chosen]
            frames = data.rows(data.offsets[rows] + begin[chosen], length)
            if self.transpose:
                frames = self._moved(frames, generator.random(len(chosen)))
            yield RollBatch(frames, torch.from_numpy(length), torch.from_numpy(rows))

    def _moved(self, frames: Tensor, drawn: np.ndarray) -> Tensor:
        """Each stretch up or down by a whole number of semitones, all of which its notes have room for."""
        keys = frames.shape[2]
        used = frames.amax(dim=1)
        place = torch.arange(keys)
        low = torch.where(used > 0, place, keys - 1).amin(dim=1).clamp(max=self.transpose)
        high = (keys - 1 - torch.where(used > 0, place, 0).amax(dim=1)).clamp(max=self.transpose)
        by = torch.floor(torch.from_numpy(drawn) * (low + high + 1)).long() - low
        source = (place[None] - by[:, None]) % keys
        return frames.gather(2, source[:, None].expand_as(frames))
