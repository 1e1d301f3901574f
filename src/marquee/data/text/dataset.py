"""Labelled texts: read once, tokenised once into the cache, with a vocabulary of the training part alone."""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.labels import check_labels, encode_labels, label_names, strata
from marquee.data.spec import TextSpec
from marquee.data.text.characters import BROKEN
from marquee.data.text.pieces import learn
from marquee.data.text.store import HEADS, UNKNOWN, TextStore
from marquee.data.text.tokenizer import Kind, Tokenizer, build_vocabulary, encoding_spec, index_corpus
from marquee.errors import DataError

log = logging.getLogger(__name__)

VERSION = 2  # raised when the code below prepares the same bytes differently


@dataclass(frozen=True)
class Corpus:
    """What was read: a label (or, multi-label, several) a text, and what else is known.

    test        bool [texts], the official test part where there is one
    attributes  by name, a word a text: what results may be broken down by
    validation  bool [texts], the official validation part where there is one, beside `test`
    tags        a tag for each token of a text, with spaces between
    """

    texts: Sequence[str]
    labels: Sequence[str] | Sequence[Sequence[str]]
    test: np.ndarray | None = None
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    validation: np.ndarray | None = None
    tags: Sequence[str] | None = None


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
    vocabulary  words, or pieces of words, by token id
    attributes  by name, an array over all texts: `length` in tokens, and what else the source knows
    prepared    the folder in the cache that all this was read from

    Parameters, of every text data set:

    tokenizer        word, char, bpe or jieba (see Tokenizer)
    lowercase        Film and film are one word
    punctuation      keep marks, symbols and emoji as words
    vocabulary_size  words kept, the most frequent of training first; with bpe, pieces of words
    min_count        words rarer than this in training are unknown; with bpe, rarer pairs of pieces are not joined
    """

    spec_type = TextSpec
    split_type = ExampleSplit
    # Whether a class that training never sees is a fault of the data, or an error that every model makes.
    knows_all_classes: ClassVar[bool] = True

    store: TextStore
    labels: np.ndarray
    parts: dict[Part, np.ndarray]
    vocabulary: list[str]
    attributes: dict[str, np.ndarray]
    prepared: Path

    def __init__(
        self,
        *,
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        self.tokenizer = Tokenizer(lowercase=lowercase, punctuation=punctuation, kind=tokenizer, any_script=True)
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
        self._texts = np.load(folder / "texts.npy", mmap_mode="r")
        arrays = np.load(folder / "arrays.npz")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        offsets, self.labels, self._ends = arrays["offsets"], arrays["labels"], arrays["ends"]
        names = facts["labels"]

        cut = split.cut(strata(self.labels), arrays["content"], arrays.get("test"), arrays.get("validation"))
        self.parts = cut.parts
        self.validates = len(self.parts["validation"]) > 0
        checked = self.parts if self.knows_all_classes else dict.fromkeys(self.parts, self.parts["train"])
        check_labels(self.labels, checked, names, f"data={source.name}")

        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")
        in_train = np.zeros(len(offsets) - 1, dtype=bool)
        in_train[self.parts["train"]] = True
        counts = np.bincount(tokens[np.repeat(in_train, np.diff(offsets))], minlength=len(words))
        settings = {**key, "vocabulary_size": self.vocabulary_size, "min_count": self.min_count}
        if self.tokenizer.kind == "bpe":
            bpe_key = {**settings, "split": cut.fingerprint}
            arguments = (self.vocabulary_size, self.min_count, words, counts, tokens, offsets)
            bpe = cached(paths, f"{source.name}-bpe", bpe_key, lambda folder: _learn(folder, *arguments))
            learnt = json.loads((bpe / "pieces.json").read_text(encoding="utf-8"))
            self.vocabulary, self._merges = learnt["vocabulary"], learnt["merges"]
            identity = np.arange(len(self.vocabulary), dtype=np.int32)
            self.store = TextStore(np.load(bpe / "tokens.npy", mmap_mode="r"), np.load(bpe / "offsets.npy"), identity)
            known = learnt["known"]
        else:
            self.vocabulary, word_ids = build_vocabulary(counts, words, self.vocabulary_size, self.min_count)
            self.store, self._merges = TextStore(tokens, offsets, word_ids), None
            known = round(int(counts[word_ids > UNKNOWN].sum()) / max(int(counts.sum()), 1), 4)
        self.prepared = folder
        own = {name: arrays[f"attribute {name}"] for name in facts["attributes"]}
        self.attributes = {"length": np.diff(self.store.offsets), **own}

        self.spec = TextSpec(len(self.vocabulary), len(names), tuple(names), source.multilabel)
        self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = cut.fingerprint
        self.report = {
            **facts["report"],
            "vocabulary": len(self.vocabulary),
            "share of training words in the vocabulary": known,
            **cut.report,
        }

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        """By the attributes item_id and user_id, where the source has them."""
        return {side: self.attributes[f"{side}_id"] for side in ("item", "user") if f"{side}_id" in self.attributes}

    def text(self, row: int) -> str:
        """The text in a row as it was read."""
        return bytes(self._texts[self._ends[row] : self._ends[row + 1]]).decode("utf-8")

    def words(self, row: int, max_length: int, truncate: str) -> list[str]:
        """The tokens that `store.rows` has of a row, as they stood in the text, also where they are unknown."""
        if self.tokenizer.kind == "bpe":
            tokens, _ = self.store.flat(np.array([row]), max_length, truncate)
            return [self.vocabulary[number] for number in tokens.tolist()]
        words = self.tokenizer.words(self.text(row)) or [""]
        kept = min(len(words), max_length)
        head = HEADS[truncate](max_length) if len(words) > max_length else kept
        return words[:head] + words[len(words) - kept + head :]

    def example(self, row: int) -> str:
        """What a finished run is asked with to measure how long it takes."""
        return self.text(row)

    def _texts_with(self) -> np.ndarray:
        """How many training texts hold each token, int64 [vocabulary]."""
        rows, size = self.parts["train"], len(self.vocabulary)
        tokens, lengths = self.store.flat(rows, np.iinfo(np.int32).max, "head")
        # Sorted by (text, token), where what differs from its neighbour is counted once.
        pairs = np.sort(np.repeat(np.arange(len(rows)), lengths.numpy()) * size + tokens.numpy())
        return np.bincount(pairs[np.diff(pairs, prepend=-1) > 0] % size, minlength=size)

    def save_inference(self, folder: Path) -> None:
        """`text.json`: the vocabulary, the tokeniser's settings and the labels' names (see tokenizer.encode), and for
        keywords in how many of the training texts each token stands."""
        content = encoding_spec(self.vocabulary, self.tokenizer, self.spec.labels, self._merges)
        content["texts"] = len(self.parts["train"])
        content["texts_with"] = self._texts_with().tolist()
        (folder / "text.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def content_hash(texts: Sequence[bytes]) -> np.ndarray:
    """Equal texts have equal numbers: int64 [texts], half of a 128-bit digest."""
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<i8")


def _prepare(folder: Path, source: TextSource, tokenizer: Tokenizer) -> None:
    corpus = source.read()
    if not len(corpus.texts):
        raise DataError(f"data={source.name} holds no texts.")
    names = label_names(corpus.labels, source.multilabel)
    encoded, broken = _encoded(corpus.texts)
    tokens, offsets, words = index_corpus(corpus.texts, tokenizer)
    content = content_hash(encoded)
    arrays = {
        "offsets": offsets,
        "labels": encode_labels(corpus.labels, names, source.multilabel),
        "content": content,
        "ends": np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)]),
        **{f"attribute {name}": np.asarray(values, dtype=np.str_) for name, values in corpus.attributes.items()},
    }
    for part in ("test", "validation"):
        if (official := getattr(corpus, part)) is not None:
            arrays[part] = official
    empty = int((tokens[offsets[:-1]] == 0).sum())
    if empty:
        log.warning("data=%s: %d empty texts are kept, each as one unknown word", source.name, empty)
    if broken:
        log.warning("data=%s: %d texts hold signs that could not be decoded; they are left out", source.name, broken)
    report = {
        "texts": len(corpus.texts),
        "words": len(tokens),
        "empty texts": empty,
        "texts with broken signs": broken,
        "texts that repeat an earlier one": len(content) - len(np.unique(content)),
    }
    facts = {"labels": names, "report": report, "attributes": list(corpus.attributes)}
    if corpus.tags is not None:
        tags, ends, facts["tags"] = index_corpus(corpus.tags, Tokenizer(lowercase=False, kind="space"))
        if len(wrong := np.flatnonzero(np.diff(ends) != np.diff(offsets))):
            row = int(wrong[0])
            raise DataError(
                f"data={source.name}: text {row + 1} has {offsets[row + 1] - offsets[row]} tokens and "
                f"{ends[row + 1] - ends[row]} tags: {corpus.texts[row][:80]!r}. In all {len(wrong)} texts differ; "
                "give each token one tag, with spaces between."
            )
        np.save(folder / "tags.npy", tags)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "texts.npy", np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _learn(
    folder: Path,
    size: int,
    min_count: int,
    words: list[str],
    counts: np.ndarray,
    tokens: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Pieces of the training part's words, and all texts in them."""
    pieces = learn(words, counts, size, min_count)
    cut, ends = pieces.expand(tokens, offsets, words)
    of_words, word_ends = pieces.expand(np.arange(len(words)), np.arange(len(words) + 1), words)
    unknown = np.add.reduceat(of_words == UNKNOWN, word_ends[:-1])
    total = int((counts * np.diff(word_ends)).sum())
    known = round(1 - int((counts * unknown).sum()) / max(total, 1), 4)
    np.save(folder / "tokens.npy", cut)
    np.save(folder / "offsets.npy", ends)
    content = {"vocabulary": pieces.vocabulary, "merges": pieces.merges, "known": known}
    (folder / "pieces.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _encoded(texts: Sequence[str]) -> tuple[list[bytes], int]:
    """The texts in UTF-8, and how many hold what is no character: U+FFFD, or halves of pairs, which become U+FFFD."""
    encoded, broken = [], 0
    for text in texts:
        if BROKEN.search(text):
            broken, text = broken + 1, BROKEN.sub("\ufffd", text)
        encoded.append(text.encode())
    return encoded, broken
