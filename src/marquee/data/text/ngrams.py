"""Batches of n-grams: which texts hold which runs of one to three neighbouring words, and how often."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import ExampleView
from marquee.data.text.dataset import TextData
from marquee.data.text.store import PADDING, UNKNOWN
from marquee.data.text.views import TextBatch
from marquee.errors import ConfigError, DataError


class NGramBatch(NamedTuple):
    """A sparse matrix texts x n-grams: the entries of text i are `offsets[i]` to `offsets[i + 1]`."""

    keys: Tensor  # int64 [n-grams], ascending: the different n-grams of the batch
    terms: Tensor  # int64 [entries], places in `keys`, ascending and different within a text
    counts: Tensor  # int64 [entries], how often the text has it
    offsets: Tensor  # int64 [batch + 1]
    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label
    index: Tensor  # int64 [batch], the example's row number in the data set

    @property
    def texts(self) -> Tensor:
        """The text of each entry, int64 [entries]."""
        return _owners(self.offsets.diff())


@dataclass(frozen=True, kw_only=True)
class NGrams(ExampleView):
    """One batch an epoch: all n-grams of the training part. Words that are not in the vocabulary break n-grams.

    longest     words of the longest n-gram; the shorter ones are there, too
    min_count   training texts that an n-gram must stand in
    buckets     None: each n-gram counts for itself; or how many numbers n-grams are hashed to, which bounds the memory
                (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", ICML)
    max_length  tokens read of a text
    truncate    what is kept of a longer one: its head, its tail, or half of each (both)
    """

    longest: Annotated[int, Interval(ge=1, le=3)] = 2
    min_count: Annotated[int, Ge(1)] = 1
    buckets: Annotated[int, Ge(2)] | None = None
    max_length: Annotated[int, Ge(1)] = 10_000
    truncate: Literal["head", "tail", "both"] = "head"

    def steps(self, data: TextData) -> int:
        return 1

    def train_batches(self, data: TextData, seed: int, epoch: int) -> Iterator[NGramBatch]:
        batch = self.batch(data, data.parts["train"])
        if self.min_count > 1:
            batch = frequent(batch, self.min_count)
        if not len(batch.keys):
            raise DataError(
                f"No n-gram of known words stands in {self.min_count} of the {len(batch.labels)} training texts. "
                "Lower model.view.min_count or data.min_count."
            )
        yield batch

    def shard(self, batch: NGramBatch, rank: int, world: int) -> NGramBatch:
        return batch  # every process counts all texts, so that all of them hold the same model

    def batch(self, data: TextData, index: np.ndarray) -> NGramBatch:
        tokens, lengths = data.store.flat(index, self.max_length, self.truncate)
        labels = torch.from_numpy(np.asarray(data.labels[index]))
        return self._count(tokens, lengths, data.spec.vocab_size, labels, torch.from_numpy(index))

    def count(self, batch: TextBatch, vocab_size: int) -> NGramBatch:
        """The n-grams of padded token rows."""
        tokens = batch.tokens[batch.tokens != PADDING]
        return self._count(tokens, batch.lengths, vocab_size, batch.labels, batch.index)

    def keys(self, tokens: Tensor, texts: Tensor, vocab_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """For n-grams of one word, of two, ...: where each begins in `tokens`, and its key; both int64 [n].

        tokens  int64 [n], without padding
        texts   int64 [n], the text of each

        A key is the number with the tokens as digits to the base `vocab_size`. Padding, 0, is no digit of it, so
        n-grams of different lengths differ, and `tokens_of` reads it back. With `buckets` it is hashed.

        Raises ConfigError where the numbers do not fit into 63 bits.
        """
        if vocab_size**self.longest >= 1 << 63:
            raise ConfigError(
                f"model.view.longest={self.longest}: n-grams of {vocab_size:,} words are too many to be numbered. "
                "Lower data.vocabulary_size or model.view.longest."
            )
        known = tokens > UNKNOWN
        start, key = known.nonzero()[:, 0], tokens[known]
        for order in range(1, self.longest + 1):
            if order > 1:
                end = start + order - 1
                inside = end < len(tokens)
                start, key, end = start[inside], key[inside], end[inside]
                whole = known[end] & (texts[end] == texts[start])
                start, key = start[whole], key[whole] * vocab_size + tokens[end[whole]]
            yield start, key if self.buckets is None else hashed(key) % self.buckets

    def _count(self, tokens: Tensor, lengths: Tensor, vocab_size: int, labels: Tensor, index: Tensor) -> NGramBatch:
        owners = _owners(lengths)
        pairs = [(owners[start], key) for start, key in self.keys(tokens, owners, vocab_size)]
        return counted(pairs, len(lengths), labels, index)


def counted(pairs: Sequence[tuple[Tensor, Tensor]], texts: int, labels: Tensor, index: Tensor) -> NGramBatch:
    """How often each of so many texts has each n-gram, from pairs of texts and keys, int64 [n] both."""
    owners, keys = (torch.cat(column) for column in zip(*pairs, strict=True))
    keys, terms = torch.unique(keys, return_inverse=True)
    # One number for the pair (text, n-gram): sorted, equal pairs lie together and texts in order.
    width = max(len(keys), 1)
    entries, counts = torch.unique(owners * width + terms, return_counts=True)
    sizes = torch.bincount(entries // width, minlength=texts)
    return NGramBatch(keys, entries % width, counts, _offsets(sizes), labels, index)


def tokens_of(keys: Tensor, vocab_size: int) -> Tensor:
    """The words of each n-gram, int64 [n, 3], in reading order with padding behind them. Not for hashed keys."""
    digits = []
    for _ in range(3):
        digits.append(keys % vocab_size)
        keys = keys // vocab_size
    reversed_tokens = torch.stack(digits, dim=1)  # last word first, padding behind the first word
    size = (reversed_tokens != PADDING).sum(dim=1, keepdim=True)
    place = size - 1 - torch.arange(3, device=keys.device)
    return torch.where(place >= 0, reversed_tokens.gather(1, place.clamp(min=0)), PADDING)


def frequent(batch: NGramBatch, min_count: int) -> NGramBatch:
    """The batch without n-grams that fewer texts have."""
    kept = torch.bincount(batch.terms, minlength=len(batch.keys)) >= min_count
    number = kept.cumsum(0) - 1
    entries = kept[batch.terms]
    sizes = torch.bincount(batch.texts[entries], minlength=len(batch.offsets) - 1)
    return batch._replace(
        keys=batch.keys[kept],
        terms=number[batch.terms[entries]],
        counts=batch.counts[entries],
        offsets=_offsets(sizes),
    )


def _owners(sizes: Tensor) -> Tensor:
    """0 `sizes[0]` times, then 1 `sizes[1]` times, ..."""
    return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def hashed(key: Tensor) -> Tensor:
    """Numbers from 0 to 2^63 - 1 that look random: the mixing steps of MurmurHash3 (int64 wraps around)."""
    for factor in (-0x00AE502812AA7333, -0x3B314601E57A13AD):
        key = (key ^ (key >> 33)) * factor
    return (key ^ (key >> 33)) & 0x7FFFFFFFFFFFFFFF
