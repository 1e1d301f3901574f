"""Labelled texts: read once, tokenised once into the cache, with a vocabulary of the training part alone."""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.labels import check_labels, encode_labels, label_names, strata
from marquee.data.spec import TextSpec
from marquee.data.text.store import TextStore
from marquee.data.text.tokenizer import Tokenizer, build_vocabulary, encoding_spec, index_corpus
from marquee.errors import DataError

log = logging.getLogger(__name__)

VERSION = 1  # raised when the code below prepares the same bytes differently


@dataclass(frozen=True)
class Corpus:
    """What was read: a label (or, multi-label, several) a text, and the official test part where there is one."""

    texts: Sequence[str]
    labels: Sequence[str] | Sequence[Sequence[str]]
    test: np.ndarray | None = None  # bool [texts]


@dataclass(frozen=True)
class TextSource:
    """Where a corpus comes from: `key` (JSON values) identifies what `read` will return."""

    name: str
    key: Mapping[str, Any]
    read: Callable[[], Corpus]
    multilabel: bool = False


class TextData(DataSet):
    """Base of the text data sets. After `setup`:

    store       TextStore of all texts
    labels      int64 [texts], or float32 [texts, classes] when multi-label
    parts       row numbers of train, validation and test
    vocabulary  words by token id
    """

    spec_type = TextSpec
    split_type = ExampleSplit
    tokenizer = Tokenizer()

    store: TextStore
    labels: np.ndarray
    parts: dict[Part, np.ndarray]
    vocabulary: list[str]

    def __init__(self, *, vocabulary_size: Annotated[int, Ge(3)] = 20_000, min_count: Annotated[int, Ge(1)] = 2):
        self.vocabulary_size = vocabulary_size
        self.min_count = min_count

    @abstractmethod
    def source(self, paths: Paths) -> TextSource:
        """Locate and verify the raw files."""

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        source = self.source(paths)
        key = {**source.key, "tokenizer": asdict(self.tokenizer), "version": VERSION}
        folder = cached(paths, source.name, key, lambda folder: _prepare(folder, source, self.tokenizer))
        tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        arrays = np.load(folder / "texts.npz")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        offsets, self.labels = arrays["offsets"], arrays["labels"]
        names = facts["labels"]

        cut = split.cut(strata(self.labels), arrays["content"], arrays.get("test"))
        self.parts = cut.parts
        check_labels(self.labels, self.parts, names, f"data={source.name}")

        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")
        in_train = np.zeros(len(offsets) - 1, dtype=bool)
        in_train[self.parts["train"]] = True
        counts = np.bincount(tokens[np.repeat(in_train, np.diff(offsets))], minlength=len(words))
        self.vocabulary, word_ids = build_vocabulary(counts, words, self.vocabulary_size, self.min_count)
        self.store = TextStore(tokens, offsets, word_ids)

        self.spec = TextSpec(len(self.vocabulary), len(names), tuple(names), source.multilabel)
        settings = {**key, "vocabulary_size": self.vocabulary_size, "min_count": self.min_count}
        self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = cut.fingerprint
        known = int(counts[word_ids > 1].sum())
        self.report = {
            **facts["report"],
            "vocabulary": len(self.vocabulary),
            "share of training words in the vocabulary": round(known / max(int(counts.sum()), 1), 4),
            **cut.report,
        }

    def example(self, row: int) -> str:
        """The text in a row again, from its tokens: as many words to split and to look up as it had."""
        tokens = self.store.tokens[self.store.offsets[row] : self.store.offsets[row + 1]]
        return " ".join(self.vocabulary[number].strip("<>") for number in self.store.word_ids[tokens])

    def save_inference(self, folder: Path) -> None:
        """`text.json`: the vocabulary, the tokeniser's settings and the labels' names (see tokenizer.encode)."""
        content = encoding_spec(self.vocabulary, self.tokenizer, self.spec.labels)
        (folder / "text.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def content_hash(texts: Sequence[str]) -> np.ndarray:
    """Equal texts have equal numbers: int64 [texts], half of a 128-bit digest."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<i8")


def _prepare(folder: Path, source: TextSource, tokenizer: Tokenizer) -> None:
    corpus = source.read()
    if not len(corpus.texts):
        raise DataError(f"data={source.name} holds no texts.")
    names = label_names(corpus.labels, source.multilabel)
    tokens, offsets, words = index_corpus(corpus.texts, tokenizer)
    content = content_hash(corpus.texts)
    arrays = {
        "offsets": offsets,
        "labels": encode_labels(corpus.labels, names, source.multilabel),
        "content": content,
    }
    if corpus.test is not None:
        arrays["test"] = corpus.test
    empty = int((tokens[offsets[:-1]] == 0).sum())
    if empty:
        log.warning("data=%s: %d empty texts are kept, each as one unknown word", source.name, empty)
    report = {
        "texts": len(corpus.texts),
        "words": len(tokens),
        "empty texts": empty,
        "texts that repeat an earlier one": len(content) - len(np.unique(content)),
    }
    np.save(folder / "tokens.npy", tokens)
    np.savez(folder / "texts.npz", **arrays)
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "facts.json").write_text(json.dumps({"labels": names, "report": report}), encoding="utf-8")
