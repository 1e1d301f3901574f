"""Conversations as pairs of what was said and the reply to it; one conversation lies in one part."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.records import read_text
from marquee.data.sources import RawFile, find
from marquee.data.spec import PairSpec
from marquee.data.text.dataset import content_hash
from marquee.data.text.files import locate_text
from marquee.data.text.tokenizer import Tokenizer, build_vocabulary, encoding_spec, index_corpus
from marquee.errors import DataError

VERSION = 1  # raised when the code below prepares the same bytes differently


@dataclass(frozen=True)
class Talk:
    """One conversation: its turns, oldest first, and what it is about."""

    turns: tuple[str, ...]
    topic: str = ""


class ConversationData(DataSet):
    """Base of the data sets of conversations. After `setup`:

    offsets     int64 [turns + 1], where each turn begins in the flat vector of all tokens
    pairs       int64 [pairs, 2]: the first turn of what was said before, and the reply's turn, which follows
    replies     int64 [pairs], equal for replies of equal words
    parts       row numbers of pairs
    vocabulary  words by token id

    Parameters, of every data set of conversations:

    context          turns before a reply that a model may read
    lowercase        Film and film are one word
    vocabulary_size  words kept, the most frequent of training first
    min_count        words rarer than this in training are unknown
    """

    spec_type = PairSpec
    split_type = ExampleSplit

    offsets: np.ndarray
    pairs: np.ndarray
    replies: np.ndarray
    parts: dict[Part, np.ndarray]
    vocabulary: list[str]

    def __init__(
        self,
        *,
        context: Annotated[int, Ge(1)] = 1,
        lowercase: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        self.context = context
        self.tokenizer = Tokenizer(lowercase=lowercase, any_script=True)
        self.vocabulary_size, self.min_count = vocabulary_size, min_count

    @abstractmethod
    def source(self, paths: Paths) -> tuple[str, Mapping[str, Any], Callable[[], list[Talk]]]:
        """The set's name, what identifies what is read (JSON values), and what reads it."""

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        name, read_key, read = self.source(paths)
        key = {**read_key, "tokenizer": asdict(self.tokenizer), "version": VERSION}
        folder = cached(paths, name, key, lambda folder: _prepare(folder, name, read(), self.tokenizer))
        self._tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        arrays = np.load(folder / "arrays.npz")
        self.offsets, turns = arrays["offsets"], arrays["turns"]
        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")

        cut = split.cut(arrays["topic"], arrays["content"])
        of_turn = np.repeat(np.arange(len(turns) - 1), np.diff(turns))  # the conversation of each turn
        reply = np.flatnonzero(np.diff(of_turn, prepend=-1) == 0)
        self.pairs = np.stack([np.maximum(reply - self.context, turns[of_turn[reply]]), reply], axis=1)
        self.replies = arrays["words"][reply]
        part = np.full(len(turns) - 1, -1)
        for code, rows in enumerate(cut.parts.values()):
            part[rows] = code
        self.parts = {name: np.flatnonzero(part[of_turn[reply]] == code) for code, name in enumerate(cut.parts)}
        self.validates = len(self.parts["validation"]) > 0

        training = part[of_turn] == list(cut.parts).index("train")
        counts = np.bincount(self._tokens[np.repeat(training, np.diff(self.offsets))], minlength=len(words))
        self.vocabulary, self._ids = build_vocabulary(counts, words, self.vocabulary_size, self.min_count)
        settings = {**key, "context": self.context, "vocabulary": [self.vocabulary_size, self.min_count]}
        self.spec = PairSpec(len(self.vocabulary))
        self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = cut.fingerprint
        report = {key.replace("example", "conversation"): value for key, value in cut.report.items()}
        pairs = {f"{name} pairs": len(rows) for name, rows in self.parts.items()}
        self.report = {"turns": len(of_turn), "vocabulary": len(self.vocabulary), **report, **pairs}

    def rows(self, index: np.ndarray, max_length: int) -> tuple[Tensor, Tensor]:
        """What was said before each pair of `index`, its last `max_length` tokens, and the reply, its first: int64
        [b, longest] both, padded on the right."""
        first, reply = self.pairs[index].T
        begin, middle, end = self.offsets[first], self.offsets[reply], self.offsets[reply + 1]
        before = np.maximum(begin, middle - max_length)
        return self._padded(before, middle), self._padded(middle, np.minimum(end, middle + max_length))

    def _padded(self, begin: np.ndarray, end: np.ndarray) -> Tensor:
        place = begin[:, None] + np.arange(int((end - begin).max()))
        inside = place < end[:, None]
        tokens = np.where(inside, self._ids[self._tokens[np.where(inside, place, 0)]], 0)
        return torch.from_numpy(tokens.astype(np.int64))

    def save_inference(self, folder: Path) -> None:
        """`text.json`: what `encode` needs, and how many turns are read."""
        content = {**encoding_spec(self.vocabulary, self.tokenizer, ()), "context": self.context}
        (folder / "text.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


class SelfDialogues(ConversationData):
    """24,176 conversations on films, music and sport, each written by one person for two.

    Fainberg et al. 2018, "Talking to myself: self-dialogues as data for conversational agents", arXiv 1809.06641. One
    JSON object a line with `topic` and `turns`.
    """

    licence = "BSD-3-Clause"

    def source(self, paths: Paths) -> tuple[str, Mapping[str, Any], Callable[[], list[Talk]]]:
        names = ("self-dialogues/self_dialogues.jsonl.gz", "self-dialogues/self_dialogues.jsonl")
        origin = "corpus/ at https://github.com/jfainberg/self_dialogue_corpus, as JSON lines of topic and turns"
        path = find(RawFile(names, origin=origin), paths, "self_dialogues")
        return "self_dialogues", {"file": file_sha256(path)}, lambda: read_conversations(path)


class Conversations(ConversationData):
    """Conversations of one's own: a .jsonl file, also .gz, with a list `turns` a line and, if you like, a `topic`.

    path  of the file

    The others are those of every data set of conversations.
    """

    def __init__(
        self,
        *,
        path: str,
        context: Annotated[int, Ge(1)] = 1,
        lowercase: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__(context=context, lowercase=lowercase, vocabulary_size=vocabulary_size, min_count=min_count)
        self.path = path

    def source(self, paths: Paths) -> tuple[str, Mapping[str, Any], Callable[[], list[Talk]]]:
        path = locate_text(self.path, paths)
        return "conversations", {"file": file_sha256(path)}, lambda: read_conversations(path)


def read_conversations(path: Path) -> list[Talk]:
    """A conversation a line. Raises DataError for a line that is none."""
    talks = []
    for number, line in enumerate(read_text(path, "utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} line {number}: not a JSON object ({error}).") from error
        turns = content.get("turns") if isinstance(content, dict) else None
        if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
            raise DataError(
                f'{path} line {number}: expected {{"turns": ["...", "..."], "topic": "..."}}, found {line[:60]!r}.'
            )
        talks.append(Talk(tuple(turns), str(content.get("topic", ""))))
    return talks


def _prepare(folder: Path, name: str, talks: list[Talk], tokenizer: Tokenizer) -> None:
    talks = [talk for talk in talks if len(talk.turns) > 1]
    if not talks:
        raise DataError(f"data={name} holds no conversation of two turns or more.")
    turns = [turn for talk in talks for turn in talk.turns]
    tokens, offsets, words = index_corpus(turns, tokenizer)
    topics = {topic: number for number, topic in enumerate(sorted({talk.topic for talk in talks}))}
    flat, ends = np.ascontiguousarray(tokens).tobytes(), offsets * tokens.itemsize
    np.save(folder / "tokens.npy", tokens)
    np.savez(
        folder / "arrays.npz",
        offsets=offsets,
        turns=np.concatenate([[0], np.cumsum([len(talk.turns) for talk in talks])]),
        topic=np.array([topics[talk.topic] for talk in talks]),
        content=content_hash(["\n".join(talk.turns).encode() for talk in talks]),
        words=content_hash([flat[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]),
    )
    (folder / "words.txt").write_text("\n".join(words), encoding="utf-8")
