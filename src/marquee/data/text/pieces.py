"""Byte-pair encoding: words cut into pieces that training has often, so that no word is wholly unknown.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", ACL. A piece that begins a word
begins with the sign START, as in SentencePiece.
"""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from marquee.data.text.store import UNKNOWN
from marquee.errors import ConfigError

START = "\u2581"
SPECIAL = ["<pad>", "<unknown>"]  # the ids 0 and 1, as in every vocabulary here


class Pieces:
    """Cuts words into the pieces of a vocabulary; what is cut once is remembered.

    vocabulary  pieces by id
    merges      pairs of neighbouring pieces that are joined, the first in the list first

    Raises ConfigError where the package tokenizers is not installed.
    """

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[Sequence[str]]):
        self.vocabulary = list(vocabulary)
        self.merges = [(left, right) for left, right in merges]
        numbers = {piece: number for number, piece in enumerate(vocabulary)}
        library = _library()
        self._model = library.Tokenizer(library.models.BPE(numbers, self.merges, unk_token=SPECIAL[UNKNOWN]))
        self._known: dict[str, list[int]] = {"": [UNKNOWN]}

    def split(self, words: Iterable[str]) -> dict[str, list[int]]:
        """The ids of the pieces of each word, and of those seen before."""
        if new := [word for word in words if word not in self._known]:
            cut = self._model.encode_batch([START + word for word in new], add_special_tokens=False)
            self._known.update((word, found.ids) for word, found in zip(new, cut, strict=True))
        return self._known

    def expand(self, tokens: np.ndarray, offsets: np.ndarray, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts of words as texts of pieces: (int32 ids, int64 offsets [texts + 1]). Each kind of word is cut once.

        tokens  int [n], places in `words`; the texts lie between `offsets`
        """
        cut = self.split(words)
        pieces = [cut[word] for word in words]
        sizes = np.array([len(ids) for ids in pieces], dtype=np.int64)
        flat = np.fromiter((number for ids in pieces for number in ids), dtype=np.int32, count=int(sizes.sum()))
        starts = np.cumsum(sizes) - sizes
        lengths = sizes[tokens]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths) + np.repeat(starts[tokens], lengths)
        return flat[place], ends[offsets]


def learn(words: Sequence[str], counts: np.ndarray, size: int, min_count: int) -> Pieces:
    """`size` pieces, or fewer, from words that training has `counts` times; a pair must stand there `min_count` times.

    Single characters are pieces, too: the most frequent ones, where they are more than `size`.
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=SPECIAL,
        show_progress=False,
        limit_alphabet=max(size - len(SPECIAL), 1),
    )
    seen = np.flatnonzero(counts)
    repeated = (" ".join([START + words[number]] * int(counts[number])) for number in seen if words[number])
    tokenizer.train_from_iterator(repeated, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return Pieces(sorted(model["vocab"], key=model["vocab"].get), merges)


def _library() -> Any:
    # One thread: words are cut in milliseconds, and the library complains of forks once it has used several.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise missing_package("tokenizers") from None
    return tokenizers


def missing_package(name: str) -> ConfigError:
    """What to say where a tokenizer's package is not installed."""
    kind = {"jieba": "jieba", "tokenizers": "bpe"}[name]
    return ConfigError(
        f"data.tokenizer={kind} needs the package {name}, which is not installed.\n"
        "  fix: pip install 'marquee[text]', or data.tokenizer=word or char"
    )
