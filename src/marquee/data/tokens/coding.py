"""Texts to tokens and back: characters, or byte-level byte-pair encoding; learnt from the training part alone."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from marquee.errors import ConfigError, DataError

UNKNOWN, BOUNDARY = 0, 1  # a character that training has not; what stands before and behind a document
SPECIAL = 2
Kind = Literal["char", "bpe"]


class Coding(ABC):
    """A vocabulary of tokens `0 .. size-1`, of which the first two are UNKNOWN and BOUNDARY.

    size  how many tokens there are
    """

    size: int

    @abstractmethod
    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text (int32) and where in it the first character of each stands (int64)."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; BOUNDARY is nothing, UNKNOWN is U+FFFD."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `coding_of` makes the same coding from."""

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that the coding does not have, each once."""
        return []


class Characters(Coding):
    """One token a character. `characters` are those of training, ascending by code point."""

    def __init__(self, characters: str):
        self.characters = characters
        self._codes = points(characters)
        self.size = len(characters) + SPECIAL

    @classmethod
    def learn(cls, texts: Sequence[str]) -> "Characters":
        return cls("".join(map(chr, np.unique(points("".join(texts))))))

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        codes = points(text)
        place = np.searchsorted(self._codes, codes).clip(max=max(len(self._codes) - 1, 0))
        known = self._codes[place] == codes
        return np.where(known, place + SPECIAL, UNKNOWN).astype(np.int32), np.arange(len(codes))

    def decode(self, tokens: Sequence[int]) -> str:
        special = {UNKNOWN: "\ufffd", BOUNDARY: ""}
        return "".join(special[t] if t < SPECIAL else self.characters[t - SPECIAL] for t in map(int, tokens))

    def unknown(self, text: str) -> list[str]:
        return [character for character in dict.fromkeys(text) if character not in set(self.characters)]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "char", "characters": self.characters}


class BytePairs(Coding):
    """Bytes of UTF-8 that are joined to longer and longer pieces, so that no text is unknown.

    Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", ACL; over bytes: Radford et
    al. 2019, "Language Models are Unsupervised Multitask Learners". Needs the package tokenizers (extra text).
    """

    def __init__(self, content: str):
        self.content = content
        self._coder = _library().Tokenizer.from_str(content)
        self.size = self._coder.get_vocab_size() + SPECIAL

    @classmethod
    def learn(cls, texts: Sequence[str], size: int) -> "BytePairs":
        """`size` tokens at most: fewer where training has not that many pairs that occur twice."""
        library = _library()
        if size < 256 + SPECIAL:
            raise ConfigError(f"data.vocabulary_size={size}: with data.tokenizer=bpe at least {256 + SPECIAL} (bytes).")
        coder = library.Tokenizer(library.models.BPE())
        coder.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        coder.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size - SPECIAL, min_frequency=2, show_progress=False,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        coder.train_from_iterator(texts, trainer)
        return cls(coder.to_str())

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        coded = self._coder.encode(text, add_special_tokens=False)
        # The package knows nothing of our special tokens: it would find their names in texts.
        tokens = np.array(coded.ids, dtype=np.int32) + SPECIAL
        places = np.array([begin for begin, _ in coded.offsets], dtype=np.int64)
        return tokens, places.reshape(len(tokens))

    def decode(self, tokens: Sequence[int]) -> str:
        return self._coder.decode(
            [int(token) - SPECIAL for token in tokens if token >= SPECIAL], skip_special_tokens=False
        )

    def to_json(self) -> dict[str, Any]:
        return {"kind": "bpe", "tokenizers": self.content}


def coding_of(content: Mapping[str, Any]) -> Coding:
    """The inverse of `Coding.to_json`. Raises DataError for a kind that there is not."""
    if content["kind"] == "char":
        return Characters(content["characters"])
    if content["kind"] == "bpe":
        return BytePairs(content["tokenizers"])
    raise DataError(f"There is no coding {content['kind']!r}; known are char and bpe.")


def points(text: str) -> np.ndarray:
    """The code points of a text, int64; a lone half of a pair is one of its own."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads make the order of equal pairs vary
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            "data.tokenizer=bpe needs the package tokenizers: pip install 'marquee[text]', or data.tokenizer=char."
        ) from None
    return tokenizers
