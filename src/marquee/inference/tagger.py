"""Intents and slots of sentences, with a finished run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from marquee.data.text.tokenizer import Tokenizer, encode
from marquee.inference.classifier import TextPredictor
from marquee.metrics.spans import spans


class SlotPredictor(TextPredictor):
    """Labels sentences with their intents, and finds the slots in them."""

    does = "finds intents and slots"
    example = '--text "flights from boston to denver on monday"'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.tokenizer = Tokenizer(**self.content["tokenizer"])

    def _table(self, inputs: Sequence[str]) -> pd.DataFrame:
        """As of any texts, with a column `slots`: name=words, joined by "|"."""
        table = super()._table(inputs)
        found = self.slots(inputs)
        table.insert(1, "slots", ["|".join(f"{name}={words}" for name, words in row) for row in found])
        return table

    @torch.inference_mode()
    def slots(self, inputs: Sequence[str]) -> list[list[tuple[str, str]]]:
        """Of each sentence the slots in reading order: (name, its words)."""
        rows: list[list[tuple[str, str]]] = []
        for text in inputs:
            words = self.tokenizer.words(text)
            if not words:
                rows.append([])
                continue
            tokens, lengths = encode([text], self.encoding, len(words))
            tags = self.model.tag(tokens, lengths).tags.argmax(dim=-1)[0].numpy()
            names = sorted({name[2:] for name in self.spec.slots if name != "O"})
            stretches = spans(tags, np.zeros(len(tags), dtype=np.int64), self.spec.slots)
            rows.append(
                [
                    (names[kind - 1], self.tokenizer.between.join(words[first : last + 1]))
                    for first, last, kind in stretches
                ]
            )
        return rows

    def knows(self, word: str) -> bool:
        """Whether training has had a word."""
        return (word.lower() if self.tokenizer.lowercase else word) in self.encoding["numbers"]

    def read(self, text: str) -> tuple[str, float, list[tuple[str, str]]]:
        """What one sentence wants, how probable that is, and its slots."""
        row: Any = super()._table([text]).iloc[0]
        return str(row["label"]), float(row[f"p({row['label']})"]), self.slots([text])[0]
