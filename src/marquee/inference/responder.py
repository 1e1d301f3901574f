"""Choose a reply with a finished run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from marquee.data.text.tokenizer import encode, word_numbers
from marquee.errors import ConfigError
from marquee.inference.predictor import Predictor


class ResponsePredictor(Predictor):
    """Ranks replies by how well they answer what was said.

    context  turns before a reply that are read; earlier ones are left out
    """

    does, verb = "chooses replies", "reply"
    example = '--to "have you seen it?" --candidates "yes, twice" "on monday"'

    def __init__(self, folder: Path):
        super().__init__(folder)
        content = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        self.encoding, self.context = word_numbers(content), int(content["context"])

    def golden(self) -> list[dict[str, Any]]:
        return [{"to": ["what did you think of it?"], "candidates": ["i liked it", "no", "on monday"]}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        table = self.respond(question["to"], question["candidates"])
        return {"item_id": table["reply"].tolist(), "score": table["score"].tolist()}

    @torch.inference_mode()
    def respond(self, turns: Sequence[str], candidates: Sequence[str]) -> pd.DataFrame:
        """The candidates, best first: rank, reply, score. `turns` are what was said, oldest first."""
        if isinstance(turns, str) or isinstance(candidates, str):
            raise ConfigError("respond takes a list of turns and a list of candidates.")
        if not any(turn.strip() for turn in turns) or not candidates:
            raise ConfigError("There must be something to reply to, and one candidate or more.")
        length = self.model.view.max_length
        said, _ = encode([" ".join(turns[-self.context :])], self.encoding, length, "tail")
        replies, _ = encode(list(candidates), self.encoding, length)
        scores = self.model.match(said, replies)[0].float()
        order = scores.argsort(descending=True, stable=True).tolist()
        return pd.DataFrame(
            {
                "rank": range(1, len(order) + 1),
                "reply": [candidates[place] for place in order],
                "score": [float(scores[place]) for place in order],
            }
        )
