"""Token after token from a language model: what may be chosen, and by which random number.

Everything is computed in float64. In float32 a batch of another size, or another processor, gives logits that differ in
their last digits, and then once in some ten thousand tokens another token: the same seed would not give the same text.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marquee.errors import ConfigError
from marquee.seeding import numpy_generator

if TYPE_CHECKING:  # what an exported run writes with, too, and that has no torch
    from marquee.models.language import LanguageModel

AT_ONCE = 32  # samples in a batch
# By name: the default, the range in words, and whether a value is in it.
SETTINGS: dict[str, tuple[Any, str, Callable[[Any], bool]]] = {
    "tokens": (400, "1 ... 1000000", lambda value: 1 <= value <= 1_000_000),
    "temperature": (1.0, "0 or more", lambda value: 0 <= value < float("inf")),
    "top_k": (0, "0 or more", lambda value: value >= 0),
    "top_p": (1.0, "above 0, up to 1", lambda value: 0 < value <= 1),
    "min_p": (0.0, "0 up to, but not, 1", lambda value: 0 <= value < 1),
    "repetition_penalty": (1.0, "above 0; 1 changes nothing", lambda value: 0 < value < float("inf")),
}


@dataclass(frozen=True)
class Sampled:
    """The tokens of one sample, and log P of each as the model itself has it, before any sampling step."""

    tokens: list[int]
    log_probabilities: list[float]


def refuse_out_of_range(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a sampler's setting that is none."""
    for name, (_, told, good) in SETTINGS.items():
        if not good(settings[name]):
            raise ConfigError(f"--{name.replace('_', '-')}={settings[name]}: allowed is {told}.")


def in_double(model: "LanguageModel") -> "LanguageModel":
    """A copy of a model for writing: float64, on the processor, in evaluation mode."""
    import torch

    return copy.deepcopy(model).to("cpu", torch.float64).eval().requires_grad_(False)


class Steps(ABC):
    """What writes token by token, in arrays: `start` and `step` as `LanguageModel` has them, in float64.

    context  how many tokens it reads at most; None: without end
    """

    context: int | None = None

    @abstractmethod
    def start(self, batch: int) -> Any:
        """The memory of `batch` texts of which nothing has been read."""

    @abstractmethod
    def step(self, tokens: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """Read `tokens` (int64 [batch, n], n >= 1): the logits of what follows, [batch, vocab_size], and the memory."""


class TorchSteps(Steps):
    """Those of a model as `in_double` gives it."""

    def __init__(self, model: "LanguageModel"):
        self.model, self.context = model, getattr(model, "context", None)

    def start(self, batch: int) -> Any:
        return self.model.start(batch)

    def step(self, tokens: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        import torch

        with torch.inference_mode():
            logits, memory = self.model.step(torch.from_numpy(tokens), memory)
            return logits.numpy(), memory


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row; -inf has no chance."""
    heights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return heights / heights.sum(axis=1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def allowed(logits: np.ndarray, seen: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Logits after all sampling steps, -inf for what may not be chosen; [batch, vocab_size], as `logits` is.

    In this order, each on what the one before leaves (`seen`, bool, are the tokens of prompt and text so far):

    repetition_penalty  r: logits of seen tokens are divided by r where positive, else multiplied (Keskar et al. 2019)
    temperature         t: all are divided by t (0 is for who calls: it takes the largest)
    top_k               only the k largest; those that tie with the last of them stay
    top_p               the likeliest until they reach p together, with the one that reaches it (Holtzman et al. 2020)
    min_p               those at least min_p times as likely as the likeliest (Nguyen et al. 2024)
    """
    if (penalty := settings["repetition_penalty"]) != 1:
        penalised = np.where(logits > 0, logits / penalty, logits * penalty)
        logits = np.where(seen, penalised, logits)
    if settings["temperature"] > 0:
        logits = logits / settings["temperature"]
    if 0 < settings["top_k"] < logits.shape[1]:
        least = np.partition(logits, -settings["top_k"], axis=1)[:, -settings["top_k"], None]
        logits = np.where(logits < least, -np.inf, logits)
    if settings["top_p"] < 1:
        likely = softmax(logits)
        order = np.argsort(-likely, axis=1, kind="stable")
        ordered = np.take_along_axis(likely, order, axis=1)
        late = np.zeros(logits.shape, dtype=bool)
        np.put_along_axis(late, order, ordered.cumsum(axis=1) - ordered >= settings["top_p"], axis=1)
        logits = np.where(late, -np.inf, logits)
    if settings["min_p"] > 0:
        likely = softmax(logits)
        logits = np.where(likely < settings["min_p"] * likely.max(axis=1, keepdims=True), -np.inf, logits)
    return logits


def choose(logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The token at `uniform` (float64 [batch], 0 ... 1) of the distribution of each row, in the order of tokens."""
    heights = softmax(logits).cumsum(axis=1)
    token = (heights <= uniform[:, None] * heights[:, -1:]).sum(axis=1)
    # Rounding may leave the number above all heights, where the likeliest stands in.
    return np.where(token < logits.shape[1], token, logits.argmax(axis=1))


def write(
    model: "Steps | LanguageModel",
    prompt: Sequence[int],
    streams: Sequence[tuple[int, int]],
    settings: Mapping[str, Any],
    never: Sequence[int] = (),
    ended: Callable[[int, list[int]], bool] = lambda index, tokens: False,
) -> list[Sampled]:
    """A sample for each of `streams`, (seed, index): its random numbers depend on nothing else.

    model   `Steps`, or a model as `in_double` gives it
    prompt  tokens that all begin with, at least one
    never   tokens that are not chosen
    ended   is told the place in `streams` and the tokens so far, and says whether the sample is whole
    """
    found: list[Sampled] = []
    model = model if isinstance(model, Steps) else TorchSteps(model)
    for begin in range(0, len(streams), AT_ONCE):
        some = streams[begin : begin + AT_ONCE]
        found += _batch(model, prompt, some, settings, never, lambda row, tokens: ended(begin + row, tokens))  # noqa: B023
    return found


def _batch(
    model: Steps,
    prompt: Sequence[int],
    streams: Sequence[tuple[int, int]],
    settings: Mapping[str, Any],
    never: Sequence[int],
    ended: Callable[[int, list[int]], bool],
) -> list[Sampled]:
    n, length = len(streams), settings["tokens"]
    uniforms = np.stack([numpy_generator(seed, "generate", index).random(length) for seed, index in streams], axis=1)
    memory = model.start(n)
    tokens = np.tile(np.asarray(prompt, dtype=np.int64), (n, 1))
    written: list[list[int]] = [[] for _ in streams]
    likely: list[list[float]] = [[] for _ in streams]
    running = list(range(n))
    logits, memory = model.step(tokens, memory)
    banned = np.zeros(logits.shape[1])
    banned[list(never)] = -np.inf
    plain = all(settings[name] == default for name, (default, *_) in SETTINGS.items() if name != "tokens")
    seen = np.zeros(logits.shape, dtype=bool)
    seen[:, tokens[0]] = True
    for uniform in uniforms:
        thought = log_softmax(logits)
        logits = logits + banned
        if not plain:
            logits = allowed(logits, seen, settings)
        chosen = choose(logits, uniform) if settings["temperature"] > 0 else logits.argmax(axis=1)
        tokens = chosen[:, None]
        if not plain:
            np.put_along_axis(seen, tokens, True, axis=1)
        numbers, logs = chosen.tolist(), np.take_along_axis(thought, tokens, axis=1)[:, 0].tolist()
        for row in running:
            written[row].append(numbers[row])
            likely[row].append(logs[row])
        running = [row for row in running if not ended(row, written[row])]
        if not running or len(written[running[0]]) == length:
            break
        logits, memory = model.step(tokens, memory)
    return [Sampled(*sample) for sample in zip(written, likely)]
