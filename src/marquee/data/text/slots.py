"""Sentences whose tokens carry tags: what is asked for, and where in the sentence its particulars stand."""

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.spec import SlotSpec
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.files import locate_text
from marquee.data.text.store import TextStore
from marquee.errors import DataError

PARTS = ("train", "dev", "test")


class SlotData(TextData):
    """Base of the data sets with a tag for each token, in the BIO notation: B-city begins a city, I-city goes on, O.

    Texts are cut at white space alone, as their tags are, or into characters where there is none. After `setup`, `tags`
    is a TextStore of tag numbers, rows and tokens as in `store`.

    Raises DataError where a text has not as many tags as tokens.
    """

    spec_type = SlotSpec
    tags: TextStore

    def __init__(
        self,
        *,
        lowercase: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 1,
        tokenizer: Literal["space", "char"] = "space",
    ):
        super().__init__(tokenizer=tokenizer, lowercase=lowercase, vocabulary_size=vocabulary_size, min_count=min_count)

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        super().setup(split, paths)
        names = json.loads((self.prepared / "facts.json").read_text(encoding="utf-8"))["tags"]
        slots = sorted(set(names) - {"", "O"})  # an empty text has the one token "" and the one tag ""
        place = {name: number for number, name in enumerate(slots, start=1)}
        numbers = np.array([place.get(name, 0) for name in names], dtype=np.int32)
        self.tags = TextStore(np.load(self.prepared / "tags.npy", mmap_mode="r"), self.store.offsets, numbers)
        spec = self.spec
        self.spec = SlotSpec(spec.vocab_size, spec.n_classes, spec.labels, spec.multilabel, ("O", *slots))
        self.report["slots"] = len({name[2:] for name in slots})


class Atis(SlotData):
    """Questions about flights: 4,478 to train, 500 to validate, 893 to test; 21 intents seen in training.

    Hemphill et al. 1990, "The ATIS Spoken Language Systems Pilot Corpus"; parts as in Goo et al. 2018, "Slot-Gated
    Modeling for Joint Slot Filling and Intent Prediction", NAACL. A few test questions have intents that training never
    sees: whatever a model says of them is counted as wrong.
    """

    licence = "the repository is Apache-2.0, ATIS stems from the LDC; research use"
    knows_all_classes: ClassVar[bool] = False

    def source(self, paths: Paths) -> TextSource:
        origin = "data/atis at https://github.com/monologg/JointBERT, joined into columns intent, text, slots"
        parts = {part: find(RawFile((f"atis/{part}.tsv",), origin=origin), paths, "atis") for part in PARTS}
        key = {part: file_sha256(path) for part, path in parts.items()}
        return TextSource("atis", key, lambda: read_slots(parts, ("intent", "text", "slots")))


class SlotFiles(SlotData):
    """Sentences of one's own with intents and slots: a table with the columns intent, text and slots.

    path        a .tsv, .csv or .jsonl file, also .gz; tokens and tags with spaces between
    test_path   an official test part in the same format; null cuts the test part from `path`
    intent, text, slots   the columns' names

    The other parameters are those of every data set with slots.
    """

    def __init__(
        self,
        *,
        path: str,
        test_path: str | None = None,
        intent: str = "intent",
        text: str = "text",
        slots: str = "slots",
        lowercase: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 1,
    ):
        super().__init__(lowercase=lowercase, vocabulary_size=vocabulary_size, min_count=min_count)
        self.path, self.test_path = path, test_path
        self.columns = (intent, text, slots)

    def source(self, paths: Paths) -> TextSource:
        parts = {"train": locate_text(self.path, paths)}
        if self.test_path is not None:
            parts["test"] = locate_text(self.test_path, paths)
        key = {"files": {part: file_sha256(path) for part, path in parts.items()}, "columns": list(self.columns)}
        return TextSource("slot_files", key, lambda: read_slots(parts, self.columns))


def read_slots(parts: dict[str, Path], columns: tuple[str, str, str]) -> Corpus:
    """Tables of intents, texts and tags; `parts` are train and, where they are official, dev and test."""
    keys = dict(zip(("data.intent", "data.text", "data.slots"), columns, strict=True))
    rows = []
    for part, path in parts.items():
        read = read_records(path, keys, quoting=not path.name.removesuffix(".gz").endswith(".tsv"))
        for number, (intent, text, slots) in enumerate(zip(*read, strict=True), start=1):
            if not intent.strip():
                raise DataError(f"{path} record {number} has no intent: {text[:80]!r}.")
            tags = slots.split()
            if len(text.split()) != len(tags):
                raise DataError(
                    f"{path} record {number}: {len(text.split())} tokens and {len(tags)} tags: {text[:80]!r}. "
                    "Each token has one tag, with spaces between."
                )
            if wrong := [tag for tag in tags if tag != "O" and not (tag[:2] in ("B-", "I-") and tag[2:])]:
                raise DataError(
                    f"{path} record {number}: the tag {wrong[0]!r} is none. Allowed are O, B-NAME where a slot begins "
                    "and I-NAME where it goes on."
                )
            rows.append((part, intent.strip(), text, slots))
    part, intents, texts, tags = (list(column) for column in zip(*rows, strict=True))
    part = np.asarray(part)
    official = {name: part == own if own in parts else None for name, own in (("test", "test"), ("validation", "dev"))}
    return Corpus(texts, intents, official["test"], validation=official["validation"], tags=tags)
