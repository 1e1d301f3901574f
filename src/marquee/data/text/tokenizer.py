"""Words from text, the vocabulary that training gives them, and `encode`, which a finished run uses alone."""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from marquee.data.text.characters import BROKEN, UNSPACED, patterns
from marquee.data.text.pieces import Pieces, missing_package
from marquee.data.text.store import UNKNOWN, TextStore

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["word", "char", "bpe", "jieba", "space"]

_FORMER_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_BETWEEN_UNSPACED = re.compile(f"(?<=[{UNSPACED}])\\s+(?=[{UNSPACED}])")
_SPACE = re.compile(r"\s+")
_TAG = re.compile(r"<[^<>]{1,100}>")
_WORD = r"[^\W_]+(?:'[^\W_]+)*"
_WORDS = re.compile(_WORD)
_WORDS_AND_MARKS = re.compile(_WORD + r"|[!?.,;:()\"]")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\uff07": "'", "\u00ad": None})  # and the hyphen that is not seen


@dataclass(frozen=True)
class Tokenizer:
    """Cuts a text into words: runs of letters and digits, with inner apostrophes ("isn't").

    lowercase    Film and film are one word
    strip_tags   <br /> is a space
    punctuation  marks are words, too: . , ! ? ; : ( ) " and beyond ASCII all punctuation and symbols
    kind         word: each character of scripts without spaces (Chinese, Japanese) is a word
                 char: each character, and white space as one " ", of which there is none between Chinese characters
                 bpe: words, and whole runs of Chinese characters, which byte-pair encoding cuts (see pieces.py)
                 jieba: Chinese is cut into words by the dictionary of the package jieba
                 space: what stands between white space, of texts that are cut already; marks stay where they are
    any_script   false: as runs recorded it until `kind` was there, with marks of ASCII alone and no combining marks
    """

    lowercase: bool = True
    strip_tags: bool = True
    punctuation: bool = True
    kind: Kind = "word"
    any_script: bool = False

    @property
    def between(self) -> str:
        """What stands between two tokens when they are shown: also of Chinese, where words would run into others."""
        return "" if self.kind == "char" else " "

    def words(self, text: str) -> list[str]:
        if self.any_script and not text.isascii():
            # Full-width letters and marks become those of ASCII, and accents one character with their letters.
            text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
        if self.lowercase:
            text = text.lower()
        if self.kind == "space":
            return text.split()
        if self.strip_tags and "<" in text:
            text = _TAG.sub(" ", text)
        if self.kind == "char":
            return self._characters(text)
        if text.isascii():
            return (_WORDS_AND_MARKS if self.punctuation else _WORDS).findall(text)
        if not self.any_script:
            text = _FORMER_UNSPACED.sub(r" \g<0> ", text.replace("\u2019", "'"))
            return (_WORDS_AND_MARKS if self.punctuation else _WORDS).findall(text)
        found = (patterns().words_and_marks if self.punctuation else patterns().words).findall(text)
        if self.kind == "bpe" or not _UNSPACED.search(text):
            return found
        cut = chinese_words() if self.kind == "jieba" else list
        return [word for run in found for word in (cut(run) if _UNSPACED.match(run) else (run,))]

    def _characters(self, text: str) -> list[str]:
        if not text.isascii():
            text = _BETWEEN_UNSPACED.sub("", BROKEN.sub("", text))
        if not self.punctuation:
            text = patterns().marks.sub("", text)
        return list(_SPACE.sub(" ", text).strip())


@cache
def chinese_words() -> Callable[[str], list[str]]:
    """jieba's cutter. Its dictionary is read anew by each process (about a second), where jieba itself would leave a
    cache in the folder for temporary files and tell of it.

    Raises ConfigError where the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its source has escapes that Python deprecates
            import jieba
    except ModuleNotFoundError:
        raise missing_package("jieba") from None
    cutter = jieba.Tokenizer()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter.lcut


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
) -> "tuple[Tensor, Tensor]":
    """Token rows [texts, longest] (int64, right-padded with 0) and lengths, for new texts.

    `spec` is as `cut` takes it.
    """
    import torch

    tokens, lengths = cut(texts, spec, max_length, truncate)
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def cut(
    texts: Sequence[str], spec: dict[str, Any], max_length: int, truncate: str = "head"
) -> tuple[np.ndarray, np.ndarray]:
    """As `encode`, in arrays: an exported run reads texts without torch.

    `spec` is what `encoding_spec` gave (or `word_numbers(...)` of it, which saves building the table at every call).
    """
    spec = spec if "numbers" in spec else word_numbers(spec)
    tokenizer = Tokenizer(**spec["tokenizer"])
    words = [tokenizer.words(text) for text in texts]
    if pieces := spec.get("pieces"):
        ids = pieces.split({word for row in words for word in row})
        rows = [[number for word in row for number in ids[word]] for row in words]
    else:
        numbers = spec["numbers"]
        rows = [[numbers.get(word, UNKNOWN) for word in row] for row in words]
    rows = [np.array(row or [UNKNOWN], dtype=np.int32) for row in rows]
    if not rows:
        return np.zeros((0, 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    store = TextStore(np.concatenate(rows), offsets, np.arange(len(spec["vocabulary"]), dtype=np.int32))
    return store.cut(np.arange(len(rows)), max_length, truncate)


def encoding_spec(
    vocabulary: Sequence[str],
    tokenizer: Tokenizer,
    labels: Sequence[str],
    merges: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """What `encode` needs, as JSON values."""
    content = {"tokenizer": asdict(tokenizer), "vocabulary": list(vocabulary), "labels": list(labels)}
    return content if merges is None else {**content, "merges": [list(pair) for pair in merges]}


def word_numbers(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with its word -> id table under "numbers", and what cuts words into pieces under "pieces"."""
    numbers = {word: number for number, word in enumerate(spec["vocabulary"]) if number > UNKNOWN}
    merges = spec.get("merges")
    return {**spec, "numbers": numbers, "pieces": None if merges is None else Pieces(spec["vocabulary"], merges)}
