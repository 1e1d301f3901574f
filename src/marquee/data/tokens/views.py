"""Windows of a stream of tokens: what language models are trained on, and how a whole part is scored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Part, View
from marquee.data.tokens.dataset import TokenData, too_short
from marquee.seeding import numpy_generator


class Windows(NamedTuple):
    """Stretches of a stream; `targets` are `inputs` one further on."""

    inputs: Tensor  # int64 [batch, length]
    targets: Tensor  # int64 [batch, length]


class ScoredWindows(NamedTuple):
    """Windows that overlap, for evaluation: each target is counted in exactly one."""

    inputs: Tensor  # int64 [batch, length]
    targets: Tensor  # int64 [batch, length]
    places: Tensor  # int64 [batch, length], of the targets in the stream
    counted: Tensor  # bool [batch, length]


class Corpus(NamedTuple):
    """The whole training stream, for models that count."""

    tokens: Tensor  # int64 [1, n]


@dataclass(frozen=True, kw_only=True)
class TokenWindows(View):
    """Windows side by side over the training stream, shuffled; where the first begins is drawn anew each epoch.

    batch_size  windows a step
    length      tokens of a window, also the context that a model of such windows is evaluated with
    """

    batch_size: Annotated[int, Ge(1)] = 32
    length: Annotated[int, Ge(1)] = 128

    def _windows(self, data: TokenData) -> int:
        """How many windows there are wherever the first begins."""
        n = len(data.streams["train"].tokens)
        if n < self.length + 1:
            raise too_short("train", n - 1, self.length)
        return max((n - self.length) // self.length, 1)

    def steps(self, data: TokenData) -> int:
        return -(-self._windows(data) // self.batch_size)

    def train_batches(self, data: TokenData, seed: int, epoch: int) -> Iterator[Windows]:
        generator = numpy_generator(seed, "token windows", epoch)
        tokens = torch.from_numpy(data.streams["train"].tokens)
        n = self._windows(data)
        first = int(generator.integers(0, len(tokens) - n * self.length))
        starts = torch.from_numpy(generator.permutation(n) * self.length + first)
        reach = torch.arange(self.length + 1)
        for some in starts.split(self.batch_size):
            windows = tokens[some[:, None] + reach].long()
            yield Windows(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())


@dataclass(frozen=True, kw_only=True)
class WholeCorpus(View):
    """One batch, the whole training stream.

    length  tokens of the windows that are scored in evaluation; longer than any context that is counted
    """

    length: Annotated[int, Ge(2)] = 128

    def steps(self, data: TokenData) -> int:
        return 1

    def train_batches(self, data: TokenData, seed: int, epoch: int) -> Iterator[Corpus]:
        yield Corpus(torch.from_numpy(data.streams["train"].tokens).long()[None])


def scored_windows(
    data: TokenData, part: Part, length: int, stride: int, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[ScoredWindows]:
    """Windows of `length` tokens every `stride` tokens: a target counts in the first window that reaches it.

    So each has at least `length - stride` tokens before it, but for the first ones of the stream. Ten targets, windows
    of four, stride two; what counts is in brackets:

        [0 1 2 3]
            2 3 [4 5]
                4 5 [6 7]
                    6 7 [8 9]
    """
    tokens = torch.from_numpy(data.streams[part].tokens)
    n = len(tokens) - 1
    length = min(length, n)
    stride = min(stride, length)
    starts = np.minimum(np.arange(0, max(n - length, 0) + stride, stride), n - length)
    starts = torch.from_numpy(np.unique(starts))
    before = torch.cat([torch.zeros(1, dtype=torch.int64), starts[:-1] + length])  # how far earlier windows reach
    reach = torch.arange(length)
    starts, before = starts[rank::world], before[rank::world]
    for some, reached in zip(starts.split(batch_size), before.split(batch_size)):
        places = some[:, None] + reach
        yield ScoredWindows(tokens[places].long(), tokens[places + 1].long(), places + 1, places >= reached[:, None])
