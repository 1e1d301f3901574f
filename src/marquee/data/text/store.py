"""All texts of a data set as one flat vector, from which rows of tokens are cut."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PADDING, UNKNOWN = 0, 1
# How many of the tokens that are kept of a long text come from its beginning; the others are its last ones.
HEADS = {"head": lambda kept: kept, "tail": lambda kept: 0, "both": lambda kept: (kept + 1) // 2}


@dataclass(frozen=True)
class TextStore:
    """All texts as one flat vector of corpus words; `word_ids` turns those into the vocabulary of the training part."""

    tokens: np.ndarray  # int32 [words in all texts], a memory map
    offsets: np.ndarray  # int64 [texts + 1]
    word_ids: np.ndarray  # int32 [corpus words]

    def lengths(self, index: np.ndarray) -> np.ndarray:
        return self.offsets[index + 1] - self.offsets[index]

    def rows(self, index: np.ndarray, max_length: int, truncate: str) -> "tuple[Tensor, Tensor]":
        """Padded token rows [b, longest] (int64) of the texts `index` and their lengths [b]."""
        import torch

        tokens, lengths = self.cut(index, max_length, truncate)
        return torch.from_numpy(tokens), torch.from_numpy(lengths)

    def cut(self, index: np.ndarray, max_length: int, truncate: str) -> tuple[np.ndarray, np.ndarray]:
        """As `rows`, in arrays: an exported run reads texts without torch."""
        full = self.lengths(index)
        lengths = np.minimum(full, max_length)
        head = HEADS[truncate](max_length)
        column = np.arange(int(lengths.max()))
        # A column behind the head of a text that is too long reads that much further to the right.
        skip = np.where(column >= head, (full - lengths)[:, None], 0)
        position = self.offsets[index][:, None] + column + skip
        inside = column < lengths[:, None]
        words = self.tokens[np.where(inside, position, 0)]
        return np.where(inside, self.word_ids[words], PADDING).astype(np.int64), lengths

    def flat(self, index: np.ndarray, max_length: int, truncate: str) -> "tuple[Tensor, Tensor]":
        """The tokens of the texts `index` behind each other (int64), as `rows` cuts them, and their lengths [b]."""
        import torch

        full = self.lengths(index)
        lengths = np.minimum(full, max_length)
        head = HEADS[truncate](max_length)
        starts = np.cumsum(lengths) - lengths
        column = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        position = np.repeat(self.offsets[index], lengths) + column
        if (full > max_length).any():
            position += np.where(column >= head, np.repeat(full - lengths, lengths), 0)
        tokens = self.word_ids[self.tokens[position]].astype(np.int64)
        return torch.from_numpy(tokens), torch.from_numpy(lengths)
