"""Lines of a television comedy with the emotion that they are spoken with; whole dialogues lie in one part."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.tokenizer import Kind
from marquee.errors import DataError

PARTS = {"train": "train_sent_emo.csv", "validation": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
BREAK = " | "  # between a line and the one before it


class Meld(TextData):
    """9,989 lines to train, 1,109 to validate, 2,610 to test, of 1,038, 114 and 280 dialogues.

    Poria et al. 2019, "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL. The parts
    are the published ones, by dialogue. The attribute `speaker` is one of the six main characters, or other.

    labels   emotion, of seven; or sentiment, of three
    context  lines of the dialogue that stand before each line, oldest first

    The other parameters are those of every text data set.
    """

    licence = "the lines belong to their studio; research use only"

    def __init__(
        self,
        *,
        labels: Literal["emotion", "sentiment"] = "emotion",
        context: Annotated[int, Ge(0)] = 0,
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 1,
    ):
        super().__init__(
            tokenizer=tokenizer,
            lowercase=lowercase,
            punctuation=punctuation,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
        )
        self.of, self.context = labels, context

    def source(self, paths: Paths) -> TextSource:
        origin = "data/MELD/{} at https://github.com/declare-lab/MELD"
        found = {
            part: find(RawFile((f"meld/{name}.gz", f"meld/{name}"), origin=origin.format(name)), paths, "meld")
            for part, name in PARTS.items()
        }
        key = {
            "files": {part: file_sha256(path) for part, path in found.items()},
            "labels": self.of,
            "context": self.context,
        }
        return TextSource("meld", key, lambda: _read(found, self.of, self.context))


MAIN = ("Chandler", "Joey", "Monica", "Phoebe", "Rachel", "Ross")


def _read(found: dict[str, Path], of: str, context: int) -> Corpus:
    names = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
    texts, labels, speakers, parts = [], [], [], []
    for part, path in found.items():
        columns = read_records(path, {f"the column {name}": name for name in names})
        lines, who, emotions, sentiments, dialogues, places = columns
        try:
            order = sorted(range(len(lines)), key=lambda row: (int(dialogues[row]), int(places[row])))
        except ValueError as error:
            raise DataError(f"{path}: Dialogue_ID and Utterance_ID number dialogues and lines ({error}).") from error
        before, dialogue = [], None
        for row in order:
            if dialogues[row] != dialogue:
                dialogue, before = dialogues[row], []
            texts.append(BREAK.join([*before, lines[row]]))
            before = [*before, lines[row]][-context:] if context else []
            labels.append((emotions if of == "emotion" else sentiments)[row])
            speakers.append(who[row] if who[row] in MAIN else "other")
            parts.append(part)
    part = np.asarray(parts)
    return Corpus(texts, labels, part == "test", {"speaker": speakers}, part == "validation")
