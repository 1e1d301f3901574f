"""Token after token from a language model: what may be chosen, and by which random number.

Everything is computed in float64. In float32 a batch of another size, or another processor, gives logits that differ in
their last digits, and then once in some ten thousand tokens another token: the same seed would not give the same text.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.errors import ConfigError
from marquee.models.language import LanguageModel
from marquee.seeding import numpy_generator

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


def in_double(model: LanguageModel) -> LanguageModel:
    """A copy of a model for writing: float64, on the processor, in evaluation mode."""
    return copy.deepcopy(model).to("cpu", torch.float64).eval().requires_grad_(False)


def allowed(logits: Tensor, seen: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Logits after all sampling steps, -inf for what may not be chosen; [batch, vocab_size], as `logits` is.

    In this order, each on what the one before leaves (`seen`, bool, are the tokens of prompt and text so far):

    repetition_penalty  r: logits of seen tokens are divided by r where positive, else multiplied (Keskar et al. 2019)
    temperature         t: all are divided by t (0 is for who calls: it takes the largest)
    top_k               only the k largest; those that tie with the last of them stay
    top_p               the likeliest until they reach p together, with the one that reaches it (Holtzman et al. 2020)
    min_p               those at least min_p times as likely as the likeliest (Nguyen et al. 2024)
    """
    if (penalty := settings["repetition_penalty"]) != 1:
        penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
        logits = torch.where(seen, penalised, logits)
    if settings["temperature"] > 0:
        logits = logits / settings["temperature"]
    if 0 < settings["top_k"] < logits.shape[1]:
        least = logits.topk(settings["top_k"]).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if settings["top_p"] < 1:
        ordered, order = logits.softmax(1).sort(dim=1, descending=True, stable=True)
        late = ordered.cumsum(1) - ordered >= settings["top_p"]
        logits = logits.masked_fill(torch.zeros_like(late).scatter(1, order, late), -torch.inf)
    if settings["min_p"] > 0:
        likely = logits.softmax(1)
        logits = logits.masked_fill(likely < settings["min_p"] * likely.amax(1, keepdim=True), -torch.inf)
    return logits


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """The token at `uniform` (float64 [batch], 0 ... 1) of the distribution of each row, in the order of tokens."""
    heights = logits.softmax(1).cumsum(1)
    token = (heights <= uniform[:, None] * heights[:, -1:]).sum(1)
    # Rounding may leave the number above all heights, where the likeliest stands in.
    return torch.where(token < logits.shape[1], token, logits.argmax(1))


@torch.inference_mode()
def write(
    model: LanguageModel,
    prompt: Sequence[int],
    streams: Sequence[tuple[int, int]],
    settings: Mapping[str, Any],
    never: Sequence[int] = (),
    ended: Callable[[int, list[int]], bool] = lambda index, tokens: False,
) -> list[Sampled]:
    """A sample for each of `streams`, (seed, index): its random numbers depend on nothing else.

    model   as `in_double` gives it
    prompt  tokens that all begin with, at least one
    never   tokens that are not chosen
    ended   is told the place in `streams` and the tokens so far, and says whether the sample is whole
    """
    found: list[Sampled] = []
    for begin in range(0, len(streams), AT_ONCE):
        some = streams[begin : begin + AT_ONCE]
        found += _batch(model, prompt, some, settings, never, lambda row, tokens: ended(begin + row, tokens))  # noqa: B023
    return found


def _batch(
    model: LanguageModel,
    prompt: Sequence[int],
    streams: Sequence[tuple[int, int]],
    settings: Mapping[str, Any],
    never: Sequence[int],
    ended: Callable[[int, list[int]], bool],
) -> list[Sampled]:
    n, length = len(streams), settings["tokens"]
    uniforms = torch.from_numpy(
        np.stack([numpy_generator(seed, "generate", index).random(length) for seed, index in streams], axis=1)
    )
    memory = model.start(n)
    tokens = torch.tensor(prompt)[None].expand(n, -1)
    written: list[list[int]] = [[] for _ in streams]
    likely: list[list[float]] = [[] for _ in streams]
    running = list(range(n))
    logits, memory = model.step(tokens, memory)
    banned = logits.new_zeros(logits.shape[1])
    banned[list(never)] = -torch.inf
    plain = all(settings[name] == default for name, (default, *_) in SETTINGS.items() if name != "tokens")
    seen = torch.zeros(logits.shape, dtype=torch.bool)
    seen[:, tokens[0]] = True
    for uniform in uniforms:
        thought = logits.log_softmax(1)
        logits = logits + banned
        if not plain:
            logits = allowed(logits, seen, settings)
        chosen = choose(logits, uniform) if settings["temperature"] > 0 else logits.argmax(1)
        tokens = chosen[:, None]
        if not plain:
            seen.scatter_(1, tokens, True)
        numbers, logs = chosen.tolist(), thought.gather(1, tokens)[:, 0].tolist()
        for row in running:
            written[row].append(numbers[row])
            likely[row].append(logs[row])
        running = [row for row in running if not ended(row, written[row])]
        if not running or len(written[running[0]]) == length:
            break
        logits, memory = model.step(tokens, memory)
    return [Sampled(*sample) for sample in zip(written, likely)]
