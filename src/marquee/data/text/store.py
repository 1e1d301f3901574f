"""All texts of a data set as one flat vector, from which rows of tokens are cut."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PADDING, UNKNOWN = 0, 1


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
