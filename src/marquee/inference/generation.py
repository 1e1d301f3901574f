"""What makes new things with a finished run: texts, tunes, pictures. Each kind says what it takes and writes."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from marquee.errors import ConfigError
from marquee.inference.predictor import Predictor


@dataclass(frozen=True)
class Made:
    """One thing that was made: `content` is what `render` writes, `facts` (JSON values) how it came about."""

    content: Any
    facts: Mapping[str, Any]


class Generator(Predictor):
    """A predictor that makes new things.

    takes    the options that this kind of run has, with their defaults: {"prompt": "", "tokens": 400}. A value is of
             the default's type; an integer may stand for a fraction
    formats  what it can write, with the files' endings, the default first: {"text": ".txt", "srt": ".srt"}

    Both may be set on the object, where they depend on the run.
    """

    verb = "generate"
    takes: Mapping[str, Any]
    formats: Mapping[str, str]
    makes: ClassVar[str] = "sample"  # one of what is made, in a word

    def generate(self, n: int = 1, seed: int = 1, **settings: Any) -> list[Made]:
        """`n` samples; what is not given has its default. Raises ConfigError for what this run does not take."""
        if n < 1:
            raise ConfigError(f"n={n}: at least one {self.makes} can be made.")
        return self.make(n, seed, self.settled(settings))

    def settled(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All of `takes`, with the settings given in place of the defaults, each of the right type."""
        chosen = dict(self.takes)
        for name, value in settings.items():
            option = f"--{name.replace('_', '-')}"
            if name not in chosen:
                allowed = ", ".join(f"--{own.replace('_', '-')}" for own in self.takes) or "none"
                raise ConfigError(f"{option}: this run {self.does} and does not take it.\n  allowed: {allowed}")
            kind = type(chosen[name])
            if kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind:
                raise ConfigError(f"{option}={value!r} is not of the kind {kind.__name__}.")
            chosen[name] = value
        return chosen

    @abstractmethod
    def make(self, n: int, seed: int, settings: Mapping[str, Any]) -> list[Made]:
        """`n` samples with all settings that `takes` names. Raises ConfigError for a value out of range.

        Sample `i` draws from a stream of its own, of (seed, i): neither `n` nor the batch size changes it.
        """

    @abstractmethod
    def render(self, made: Sequence[Made], format: str) -> bytes:
        """The whole file, in one of `formats`."""

    @abstractmethod
    def shown(self, made: Sequence[Made]) -> str:
        """What a terminal shows where no file is written."""
