"""Batches of words and of letters within words: a word that training never saw is still spelt like others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import ExampleView
from marquee.data.text.dataset import TextData, content_hash
from marquee.data.text.ngrams import NGramBatch, counted, frequent, hashed
from marquee.data.text.tokenizer import Tokenizer
from marquee.errors import ConfigError

SPACE, END = ord(" "), ord("\n")


@dataclass(frozen=True, kw_only=True)
class Letters(ExampleView):
    """One batch an epoch: runs of words, and of letters in one word with a space on either side, of all of training.

    As scikit-learn's analyser `char_wb` beside `word`, but that a word shorter than a run has no run of that length.
    The keys are 63-bit hashes of what was written, so that words which the vocabulary does not have count, too.

    words      of the longest run of words; 0: letters alone
    shortest   letters of the shortest run of letters; above `longest`: words alone
    longest    letters of the longest run of letters; the space before and behind a word counts
    min_count  training texts that a run must stand in
    """

    words: Annotated[int, Interval(ge=0, le=3)] = 2
    shortest: Annotated[int, Ge(1)] = 2
    longest: Annotated[int, Interval(ge=1, le=8)] = 5
    min_count: Annotated[int, Ge(1)] = 2

    def __post_init__(self) -> None:
        if not self.words and self.shortest > self.longest:
            raise ConfigError(
                f"model.view.shortest={self.shortest} is above model.view.longest={self.longest}: there are no such "
                "runs of letters, and model.view.words=0 reads no words."
            )

    def steps(self, data: TextData) -> int:
        return 1

    def train_batches(self, data: TextData, seed: int, epoch: int) -> Iterator[NGramBatch]:
        yield frequent(self.batch(data, data.parts["train"]), self.min_count)

    def shard(self, batch: NGramBatch, rank: int, world: int) -> NGramBatch:
        return batch  # every process counts all texts, so that all of them hold the same model

    def batch(self, data: TextData, index: np.ndarray) -> NGramBatch:
        texts = [data.text(row) for row in index.tolist()]
        labels = torch.from_numpy(np.asarray(data.labels[index]))
        return self.of_texts(texts, data.tokenizer, labels, torch.from_numpy(index))

    def of_texts(self, texts: Sequence[str], tokenizer: Tokenizer, labels: Tensor, index: Tensor) -> NGramBatch:
        """The runs of texts as they were written."""
        words = [tokenizer.words(text) for text in texts]
        return counted([*self._words(words), *self._letters(words)], len(texts), labels, index)

    def _words(self, rows: Sequence[Sequence[str]]) -> Iterator[tuple[Tensor, Tensor]]:
        """For runs of one word, of two, ...: their text and key, int64 [n] both."""
        kinds = {word: number for number, word in enumerate(dict.fromkeys(word for row in rows for word in row))}
        keys = torch.from_numpy(content_hash([word.encode() for word in kinds]).copy())
        place = torch.tensor([kinds[word] for row in rows for word in row], dtype=torch.int64)
        text = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(row) for row in rows]))
        single = keys[place]
        key = single
        for order in range(1, self.words + 1):
            if order > 1:
                key = hashed(key[:-1] * 31 + single[order - 1 :])
            whole = text[: len(text) - order + 1] == text[order - 1 :]
            yield text[: len(whole)][whole], hashed(key + order)[whole]

    def _letters(self, rows: Sequence[Sequence[str]]) -> Iterator[tuple[Tensor, Tensor]]:
        """For runs of `shortest` letters, ..., of `longest`: their text and key, int64 [n] both."""
        lines = [f" {' '.join(row)} \n" if row else "\n" for row in rows]
        codes = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        text = torch.from_numpy(np.repeat(np.arange(len(lines)), [len(line) for line in lines]))
        spaces = torch.from_numpy(np.cumsum(codes == SPACE))  # up to and with each letter
        letters = torch.from_numpy(codes)
        ends = torch.from_numpy(np.cumsum(codes == END))
        key = letters
        for order in range(1, self.longest + 1):
            if order > 1:
                key = hashed(key[:-1] * 31 + letters[order - 1 :])
            if order < self.shortest or len(key) < 1:
                continue
            first, last = slice(0, len(key)), slice(order - 1, None)
            # No end of a text in it, and no space but at its ends; of one letter, no space.
            inner = spaces[last] - (letters[last] == SPACE).long() - spaces[first]
            within = (ends[last] == ends[first]) & (letters[last] != END) & (letters[first] != END)
            within &= (inner <= 0) if order > 1 else (letters[first] != SPACE)
            yield text[first][within], hashed(key - order)[within]
