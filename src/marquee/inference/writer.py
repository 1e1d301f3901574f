"""Writes texts and tunes with a trained language model, and says where each comes nearest to what it was trained on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from marquee.data.tokens.abc import read_tune
from marquee.data.tokens.coding import BOUNDARY, UNKNOWN, coding_of
from marquee.data.tokens.copies import Passages
from marquee.data.tokens.forms import FORMS
from marquee.errors import ConfigError
from marquee.inference.generation import Generator, Made
from marquee.inference.sampling import SETTINGS, in_double, refuse_out_of_range, write
from marquee.inference.scores import as_midi, in_turn, sound

TEMPO = 120.0  # quarter notes a minute of a tune that does not say its own


class Writer(Generator):
    """Continues a prompt. What is written goes on in the form of the training texts, which says how it can be saved.

    Of a prompt that is longer than the model's context the end is read, and that is said.
    """

    does, makes = "writes texts", "text"
    example = "--tokens 400 --temperature 0.8"

    def __init__(self, folder: Path):
        super().__init__(folder)
        content = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        self.model = in_double(self.model)
        self.coding = coding_of(content["coding"])
        self.form, self.known = FORMS[content["form"]](), content["known"]
        self.ends: bool = content["ends"]
        self.formats = self.form.formats
        self.takes = {"prompt": "", **{name: default for name, (default, *_) in SETTINGS.items()}, "stop": []}
        self._index = folder / "passages.safetensors", content["passages"]

    def make(self, n: int, seed: int, settings: Mapping[str, Any]) -> list[Made]:
        refuse_out_of_range(settings)
        prompt, stops = settings["prompt"], settings["stop"]
        if any(not isinstance(stop, str) or not stop for stop in stops):
            raise ConfigError("--stop: an empty text would end everything at once.")
        begin = [BOUNDARY, *self._encoded(prompt)]
        samples = write(
            self.model, begin, [(seed, index) for index in range(n)], settings,
            [UNKNOWN] if self.ends else [UNKNOWN, BOUNDARY], lambda _, tokens: self._ended(tokens, stops),
        )  # fmt: skip
        passages = self._passages
        read = min(len(begin) - 1, getattr(self.model, "context", len(begin)))
        made = []
        for sample in samples:
            text, reason = self._text(sample.tokens, stops)
            copied = passages.longest(text)
            facts = {
                "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
                "prompt_tokens": len(begin) - 1,
                "prompt_tokens_read": read,
                "tokens": len(sample.tokens),
                "characters": len(text),
                "ended": reason,
                "log_probability": round(sum(sample.log_probabilities), 6),
                "log_probabilities": [round(value, 6) for value in sample.log_probabilities],
                "longest_copy": {
                    "characters": copied.length, "text": text[copied.begin : copied.begin + copied.length],
                    "document": copied.document, "at": copied.place,
                } if copied.length else {"characters": 0, "shortest_that_is_told": passages.size},
            }  # fmt: skip
            made.append(Made(prompt + text, facts))
        return made

    def golden(self) -> list[dict[str, Any]]:
        """Sampling is in float64, so that the same seed writes the same text."""
        return [{"seed": 1, "tokens": 8}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        (made,) = self.generate(1, question["seed"], tokens=question["tokens"])
        return {"text": [made.content], "log_probability": [made.facts["log_probability"]]}

    @cached_property
    def _passages(self) -> Passages:
        return Passages.load(*self._index)

    def render(self, made: Sequence[Made], format: str) -> bytes:
        texts = [one.content for one in made]
        if format in ("midi", "wav"):  # tunes, of which is played what can be read
            tunes = [read_tune(text) for text in texts]
            tempo = next((tune.tempo for tune in tunes if tune.tempo), TEMPO)
            notes = in_turn([(tune.notes, max((end for *_, end in tune.notes), default=0)) for tune in tunes])
            return (as_midi if format == "midi" else sound)(notes, tempo)
        return self.form.written(texts, format).encode("utf-8")

    def shown(self, made: Sequence[Made]) -> str:
        texts = [one.content for one in made]
        copies = [one.facts["longest_copy"] for one in made]
        longest = max(copies, key=lambda copy: copy["characters"])
        if not longest["characters"]:
            told = f"no {longest['shortest_that_is_told']} characters in a row stand in the training texts"
        else:
            told = f"longest copy of training text: {longest['characters']} characters, of {longest['document']}"
        given, read = (made[0].facts[name] for name in ("prompt_tokens", "prompt_tokens_read"))
        cut = f"\n(of the prompt's {given} tokens the last {read} were read: the model has no longer context)"
        return f"{self.form.written(texts, 'text')}\n\n({told}){cut if read < given else ''}"

    def _encoded(self, prompt: str) -> list[int]:
        """The prompt's tokens. Raises ConfigError for characters that training has not."""
        if strange := self.coding.unknown(prompt):
            shown = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in strange[:10])
            raise ConfigError(
                f"--prompt has characters that this run was not trained on: {shown}{', ...' * (len(strange) > 10)}. "
                "Leave them out, or train with data.tokenizer=bpe, which knows every text."
            )
        return self.coding.encode(prompt)[0].tolist() if prompt else []

    def _ended(self, tokens: list[int], stops: Sequence[str]) -> bool:
        if tokens[-1] == BOUNDARY:
            return True
        if not stops:
            return False
        # A token is at least a character, or a part of one: what ends here began within as many tokens.
        tail = self.coding.decode(tokens[-4 * max(map(len, stops)) :])
        return any(stop in tail for stop in stops)

    def _text(self, tokens: list[int], stops: Sequence[str]) -> tuple[str, str]:
        """What was written, without what ended it, and why it ended: end, stop or tokens."""
        text = self.coding.decode(tokens)
        places = [place for stop in stops if (place := text.find(stop)) >= 0]
        if places:
            return text[: min(places)], "stop"
        return text, "end" if tokens[-1] == BOUNDARY else "tokens"
