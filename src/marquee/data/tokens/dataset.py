"""Corpora to be continued: documents read once into the cache, cut into parts, and one stream of tokens a part."""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.spec import TokenSpec
from marquee.data.tokens.coding import BOUNDARY, UNKNOWN, BytePairs, Characters, Coding, Kind
from marquee.data.tokens.copies import Passages
from marquee.data.tokens.forms import FORMS
from marquee.data.tokens.splits import PARTS, Piece, TokenSplit
from marquee.errors import ConfigError, DataError

log = logging.getLogger(__name__)

VERSION = 1  # raised when the code below prepares the same bytes differently
BLOCK = 1000  # characters of a unit where a part has few documents
FEWEST = 20  # documents of the test part from which on each is a unit


@dataclass(frozen=True)
class Corpus:
    """What was read: texts with their titles.

    parts   the part that the data set itself puts each text in, or None; an empty sequence: None for all
    report  counts of what was read and left out
    """

    texts: Sequence[str]
    titles: Sequence[str]
    parts: Sequence[Part | None] = ()
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenSource:
    """Where a corpus comes from: `key` (JSON values) identifies what `read` will return.

    ends  whether the end of a text is an end, to be learnt, and not just where somebody cut
    """

    name: str
    key: Mapping[str, Any]
    read: Callable[[], Corpus]
    ends: bool = True


@dataclass(frozen=True)
class Stream:
    """The tokens of a part, BOUNDARY before each document. All but the first are to be predicted.

    tokens      int32 [n]
    places      int64 [n], the character of the part that each token begins at
    units       int64 [n], the number of the unit that each token belongs to
    characters  int64 [units]
    """

    tokens: np.ndarray
    places: np.ndarray
    units: np.ndarray
    characters: np.ndarray


class TokenData(DataSet):
    """Base of the corpora. After `setup`:

    coding   texts to tokens and back
    streams  the tokens of each part
    unit     what results are given for one by one: document, or block (of BLOCK characters) where there are few
    form     how the texts are written (see forms.py)
    ends     whether texts end where they end, or where they were cut

    The fingerprint is that of the texts, whatever their tokens: bits per character compare across vocabularies.

    Parameters, of every corpus:

    tokenizer        char, or bpe: byte-level pieces, which know every text
    vocabulary_size  with bpe, tokens at most
    """

    spec_type = TokenSpec
    split_type = TokenSplit
    form_name: str = "plain"
    # The shortest copy of training text that is told, in characters.
    copied_from: int = 12

    coding: Coding
    streams: dict[Part, Stream]
    unit: str
    ends: bool
    unknown: dict[Part, int]  # characters that training has not

    def __init__(self, *, tokenizer: Kind = "char", vocabulary_size: Annotated[int, Ge(258)] = 1024):
        self.tokenizer, self.vocabulary_size = tokenizer, vocabulary_size
        self.form = FORMS[self.form_name]()

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of what `check` measures."""
        return self.form.checks

    @abstractmethod
    def source(self, paths: Paths) -> TokenSource:
        """Locate and verify the raw files."""

    def setup(self, split: TokenSplit, paths: Paths) -> None:
        source = self.source(paths)
        key = {**source.key, "version": VERSION}
        folder = cached(paths, source.name, key, lambda folder: _prepare(folder, source))
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        content, ends = (folder / "texts.bin").read_bytes(), facts["ends"]
        self._texts = [content[a:b].decode("utf-8") for a, b in zip([0, *ends], ends)]
        self.titles: list[str] = facts["titles"]
        sizes = np.array([len(text) for text in self._texts], dtype=np.int64)
        hashes = np.frombuffer(b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in self._texts),
                               dtype="<i8")  # fmt: skip
        self._cut = split.cut(sizes, hashes, facts["parts"])
        self.validates = bool(self._cut.parts["validation"])
        self.ends = source.ends and self._cut.whole
        train = self.texts("train")
        self.coding = self._learn(train, {**key, "split": self._cut.fingerprint}, paths, source.name)
        self.unit = "document" if len(self._cut.parts["test"]) >= FEWEST else "block"
        self.streams = {name: self._stream(self._cut.parts[name]) for name in PARTS if self._cut.parts[name]}
        self.spec = TokenSpec(self.coding.size)
        self.fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = self._cut.fingerprint
        unknown = {
            name: int((stream.tokens == UNKNOWN).sum()) for name, stream in self.streams.items() if name != "train"
        }
        self.unknown = unknown
        tokens = {f"{name} tokens": len(stream.tokens) - 1 for name, stream in self.streams.items()}
        self.report = {
            **facts["report"], **self._cut.report, "vocabulary": self.coding.size, **tokens,
            **{f"{name} characters that training has not": n for name, n in unknown.items()},
        }  # fmt: skip
        if any(unknown.values()):
            log.warning("data=%s: characters that training has not: %s", source.name, unknown)

    def texts(self, part: Part) -> list[str]:
        """The texts of a part, or what of them belongs to it, in reading order."""
        return [self._texts[number][begin:end] for number, begin, end in self._cut.parts[part]]

    def passages(self) -> Passages:
        """Where in the training texts a copy comes from."""
        titles = [self.titles[piece.document] for piece in self._cut.parts["train"]]
        return Passages.of(self.texts("train"), titles, self.copied_from)

    def known(self) -> dict[str, list[str]]:
        """What the form's checks go by (the cast), of the training texts."""
        return self.form.known(self.texts("train"))

    def check(self, texts: list[str], known: dict[str, list[str]]) -> dict[str, float]:
        """What can be measured of the form of texts, by what `known` says of training."""
        return self.form.check(texts, known)

    def _learn(self, texts: list[str], key: Mapping[str, Any], paths: Paths, name: str) -> Coding:
        if self.tokenizer == "char":
            return Characters.learn(texts)
        # Long documents go in by the paragraph: the package learns from words and need not see them whole.
        settings = {**key, "vocabulary_size": self.vocabulary_size}
        lines = (line for text in texts for line in text.splitlines(keepends=True))
        folder = cached(paths, f"{name}-bytes", settings, lambda folder: (folder / "coding.json").write_text(
            BytePairs.learn(lines, self.vocabulary_size).content, encoding="utf-8"))  # fmt: skip
        return BytePairs((folder / "coding.json").read_text(encoding="utf-8"))

    def _stream(self, pieces: list[Piece]) -> Stream:
        texts = [self._texts[number][begin:end] for number, begin, end in pieces]
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        begins = np.cumsum(sizes) - sizes
        if isinstance(self.coding, Characters):  # all at once: fifty thousand poems are fifty thousand calls
            tokens, places = self.coding.encode("".join(texts))
            counts = sizes
        else:
            coded = [self.coding.encode(text) for text in texts]
            counts = np.array([len(tokens) for tokens, _ in coded], dtype=np.int64)
            tokens = np.concatenate([tokens for tokens, _ in coded])
            places = np.concatenate([places + begin for (_, places), begin in zip(coded, begins)])
        document = np.repeat(np.arange(len(texts)), counts)
        heads = np.cumsum(counts) - counts
        tokens = np.insert(tokens, heads, BOUNDARY)
        # The end of a document is the last thing that is predicted of it, so it counts as part of it.
        places = np.insert(places, heads, np.maximum(begins - 1, 0))
        document = np.insert(document, heads, np.maximum(np.arange(len(texts)) - 1, 0))
        if self.ends:
            tokens, places = np.append(tokens, BOUNDARY), np.append(places, max(int(sizes.sum()) - 1, 0))
            document = np.append(document, len(texts) - 1)
        if self.unit == "document":
            return Stream(tokens, places, document, sizes)
        total = int(sizes.sum())
        blocks = np.minimum(places // BLOCK, max(total // BLOCK - 1, 0))  # the rest belongs to the last block
        sizes = np.bincount(np.minimum(np.arange(total) // BLOCK, max(total // BLOCK - 1, 0)))
        return Stream(tokens, places, blocks, sizes)

    def save_inference(self, folder: Path) -> None:
        """`tokens.json`: coding, form, cast and the titles of training texts; `passages.safetensors`: an index that
        finds copies of training text by the hashes of its stretches, without the text itself."""
        passages = self.passages()
        content = {
            "coding": self.coding.to_json(), "form": self.form_name, "known": self.known(),
            "ends": self.ends, "passages": passages.to_json(),
        }  # fmt: skip
        (folder / "tokens.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        passages.save(folder / "passages.safetensors")


def _prepare(folder: Path, source: TokenSource) -> None:
    corpus = source.read()
    encoded = [text.encode("utf-8", "replace") for text in corpus.texts]
    if not any(encoded):
        raise DataError(f"data={source.name} holds no text.")
    parts = list(corpus.parts) or [None] * len(encoded)
    facts = {"titles": list(corpus.titles), "parts": parts, "ends": np.cumsum([len(text) for text in encoded]).tolist(),
             "report": {"documents": len(encoded), **corpus.report}}  # fmt: skip
    (folder / "texts.bin").write_bytes(b"".join(encoded))
    (folder / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def too_short(part: str, tokens: int, length: int) -> DataError | ConfigError:
    """What to say of a part that has not one window."""
    return DataError(
        f"The {part} part has {tokens:,} tokens, and a window has {length} and one to predict. Bring more text, or set "
        f"model.view.length={max((tokens - 1) // 2, 1)}."
    )
