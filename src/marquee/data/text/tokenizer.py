"""Words from text, the vocabulary that training gives them, and `encode`, which a finished run uses alone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.data.text.store import UNKNOWN, TextStore

# Letters of scripts that are written without spaces (Chinese, Japanese): each is a word of its own.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_TAG = re.compile(r"<[^<>]{1,100}>")
_WORD = r"[^\W_]+(?:'[^\W_]+)*"
_WORDS = re.compile(_WORD)
_WORDS_AND_MARKS = re.compile(_WORD + r"|[!?.,;:()\"]")


@dataclass(frozen=True)
class Tokenizer:
    """Words are runs of letters and digits, with inner apostrophes ("isn't"); marks, where kept, are words too."""

    lowercase: bool = True
    strip_tags: bool = True
    punctuation: bool = True

    def words(self, text: str) -> list[str]:
        if self.lowercase:
            text = text.lower()
        if self.strip_tags and "<" in text:
            text = _TAG.sub(" ", text)
        if not text.isascii():
            text = _UNSPACED.sub(r" \g<0> ", text.replace("\u2019", "'"))
        return (_WORDS_AND_MARKS if self.punctuation else _WORDS).findall(text)


def index_corpus(texts: Iterable[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All texts as numbers in order of first appearance: (int32 tokens, int64 offsets [texts + 1], words).

    Word 0 is "", the one token of a text that has no words.
    """
    numbers: dict[str, int] = {"": 0}
    chunks, lengths = [], []
    for text in texts:
        words = tokenizer.words(text) or [""]
        # `setdefault` with the dictionary's own size numbers a new word and looks a known one up in one call.
        chunks.append(np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int32))
        lengths.append(len(words))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    tokens = np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int32)
    return tokens, offsets, list(numbers)


def build_vocabulary(
    counts: np.ndarray, words: Sequence[str], size: int, min_count: int
) -> tuple[list[str], np.ndarray]:
    """The most frequent words of training (ties: first seen first) and the corpus-word -> vocabulary-id map.

    `counts` are the occurrences in the training part. Ids 0 and 1 are padding and unknown; `size` includes them.
    """
    counts = counts.copy()
    counts[0] = 0  # a text without words is unknown, not a word
    order = np.argsort(-counts, kind="stable")[: max(size - 2, 0)]
    kept = order[counts[order] >= max(min_count, 1)]
    word_ids = np.full(len(words), UNKNOWN, dtype=np.int32)
    word_ids[kept] = np.arange(2, len(kept) + 2, dtype=np.int32)
    return ["<pad>", "<unknown>", *(words[i] for i in kept)], word_ids


def encode(
    texts: Sequence[str], spec: dict[str, Any], max_length: int, truncate: str = "head"
) -> tuple[Tensor, Tensor]:
    """Token rows [texts, longest] (int64, right-padded with 0) and lengths, for new texts.

    `spec` is what `encoding_spec` gave (or `word_numbers(...)` of it, which saves building the table at every call).
    """
    numbers = spec.get("numbers") or word_numbers(spec)["numbers"]
    tokenizer = Tokenizer(**spec["tokenizer"])
    rows = [
        np.array([numbers.get(word, UNKNOWN) for word in tokenizer.words(text)] or [UNKNOWN], dtype=np.int32)
        for text in texts
    ]
    if not rows:
        return torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    store = TextStore(np.concatenate(rows), offsets, np.arange(len(spec["vocabulary"]), dtype=np.int32))
    return store.rows(np.arange(len(rows)), max_length, truncate)


def encoding_spec(vocabulary: Sequence[str], tokenizer: Tokenizer, labels: Sequence[str]) -> dict[str, Any]:
    """What `encode` needs, as JSON values."""
    return {"tokenizer": asdict(tokenizer), "vocabulary": list(vocabulary), "labels": list(labels)}


def word_numbers(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec` with its word -> id table under "numbers"."""
    numbers = {word: number for number, word in enumerate(spec["vocabulary"]) if number > UNKNOWN}
    return {**spec, "numbers": numbers}
