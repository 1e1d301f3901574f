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

from marquee.data.cache import cached, file_sha256
from marquee.data.holdout import ExampleSplit
from marquee.data.labels import check_labels, encode_labels, label_names, strata
from marquee.data.module import DataModule, Part, Paths
from marquee.data.spec import TextSpec
from marquee.data.text_files import read_lines, read_records
from marquee.data.text_views import TextStore
from marquee.data.tokenizer import Tokenizer, build_vocabulary, encoding_spec, index_corpus
from marquee.errors import ConfigError, DataError

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


class TextData(DataModule):
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

    def save_inference(self, folder: Path) -> None:
        """`text.json`: the vocabulary, the tokeniser's settings and the labels' names (see tokenizer.encode)."""
        content = encoding_spec(self.vocabulary, self.tokenizer, self.spec.labels)
        (folder / "text.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


class Texts(TextData):
    """Texts of one's own.

    path              a .csv, .tsv or .jsonl file, also .gz, with a text and a label column
    files             instead of `path`: one file a class, one text a line ({positive: pos.txt, negative: neg.txt})
    test_path         an official test part in the same format as `path`; null cuts the test part from `path`
    text, label       the columns' names
    delimiter         between columns; null goes by the file's name (.tsv: tab, otherwise comma)
    quoting           whether quotation marks enclose fields that hold the delimiter or line breaks
    label_separator   e.g. "|" where a text has several labels in one field; null for one label a text
    encoding          of the files
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        files: dict[str, str] | None = None,
        test_path: str | None = None,
        text: str = "text",
        label: str = "label",
        delimiter: str | None = None,
        quoting: bool = True,
        label_separator: str | None = None,
        encoding: str = "utf-8",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__(vocabulary_size=vocabulary_size, min_count=min_count)
        self.path, self.files, self.test_path = path, files, test_path
        self.text, self.label = text, label
        self.delimiter, self.quoting, self.label_separator = delimiter, quoting, label_separator
        self.encoding = encoding
        self.tokenizer = Tokenizer(lowercase=lowercase, punctuation=punctuation)

    def source(self, paths: Paths) -> TextSource:
        if (self.path is None) == (self.files is None):
            raise ConfigError(
                "data=texts needs data.path=FILE (a .csv, .tsv or .jsonl file) or data.files={label: FILE, ...} "
                "(one file a class), and not both."
            )
        named = dict(self.files) if self.files else {"path": self.path}
        if self.test_path:
            if self.files:
                raise ConfigError("data.test_path goes with data.path; with data.files the test part is cut from them.")
            named["test_path"] = self.test_path
        found = {name: _locate(path, paths) for name, path in named.items()}
        options = {
            name: getattr(self, name)
            for name in ("text", "label", "delimiter", "quoting", "label_separator", "encoding")
        }
        key = {
            "files": {name: file_sha256(path) for name, path in found.items()},
            "suffix": "".join(found.get("path", Path()).suffixes),
            "by_class": bool(self.files),
            **options,
        }
        return TextSource("texts", key, lambda: self._read(found), multilabel=self.label_separator is not None)

    def _read(self, found: dict[str, Path]) -> Corpus:
        if self.files:
            texts, labels = [], []
            for name, path in found.items():
                lines = read_lines(path, self.encoding)
                texts += lines
                labels += [name] * len(lines)
            return Corpus(texts, [[name] for name in labels] if self.label_separator else labels)
        texts, labels = self._records(found["path"])
        if "test_path" not in found:
            return Corpus(texts, labels)
        test_texts, test_labels = self._records(found["test_path"])
        test = np.arange(len(texts) + len(test_texts)) >= len(texts)
        return Corpus(texts + test_texts, labels + test_labels, test)

    def _records(self, path: Path) -> tuple[list[str], list[Any]]:
        columns = {"data.text": self.text, "data.label": self.label}
        texts, labels = read_records(path, columns, self.delimiter, self.quoting, self.encoding)
        labels = [label.strip() for label in labels]
        missing = [row for row, label in enumerate(labels, start=1) if not label]
        if missing and self.label_separator is None:
            raise DataError(
                f"{path}: {len(missing)} of {len(texts)} records have no {self.label!r}, the first is record "
                f"{missing[0]}. Give each a label or take them out."
            )
        if self.label_separator is None:
            return texts, labels
        return texts, [[part.strip() for part in row.split(self.label_separator) if part.strip()] for row in labels]


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


def _locate(path: str, paths: Paths) -> Path:
    """As given, else below `paths.data`."""
    for candidate in (Path(path).expanduser(), paths.data / path):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"The text file {path} does not exist. Looked for {Path(path).expanduser().absolute()} and {paths.data / path}."
    )
