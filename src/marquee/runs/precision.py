"""What `trainer.precision` comes to for this model on this machine: refused, replaced or slow is said beforehand."""

import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from marquee.errors import ConfigError
from marquee.models.base import Model
from marquee.models.rnn.autocast import runs

_ALIASES = {"None": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
SLOW = 2  # times as long as in float32: processors with bfloat16 take half as long, those without 3 to 30 times


def precision_of(settings: Mapping[str, Any]) -> str:
    """The precision of a Trainer's settings by its full name."""
    name = str(settings.get("precision", 32))
    return _ALIASES.get(name, name)


def on_processor(settings: Mapping[str, Any]) -> bool:
    """Whether a Trainer with these settings trains on the CPU."""
    kind = settings.get("accelerator", "auto")
    return kind == "cpu" or (kind == "auto" and not (torch.cuda.is_available() or torch.backends.mps.is_available()))


def refuse_unfit_precision(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError where this machine cannot train in that precision, or never should."""
    name, fix = precision_of(settings), "\n  fix: trainer.precision=32 or trainer.precision=bf16-mixed"
    told = f"trainer.precision={settings.get('precision')}: "
    if name.startswith("transformer-engine"):
        if on_processor(settings):
            raise ConfigError(f"{told}Transformer Engine runs on CUDA cards only.{fix}")
        if find_spec("transformer_engine") is None:
            raise ConfigError(f"{told}it needs `pip install transformer_engine`, which is not here.{fix}")
    if name == "16-true" and on_processor(settings):
        raise ConfigError(
            f"{told}on processors float16 takes some thirty times as long as float32, and its range is too small for "
            f"sums.{fix}"
        )


def remarks(settings: Mapping[str, Any], model: Model) -> list[str]:
    """One line for each way in which training will not be what `trainer.precision` says, or slower than without."""
    name = precision_of(settings)
    if name == "32-true":
        return []
    told = f"trainer.precision={settings['precision']}"
    if model.learns_in_fit:
        return [f"{told} is for models that take gradient steps; {type(model).__name__} is computed in float32"]
    if not on_processor(settings):
        return []
    found = []
    if name == "16-mixed":
        found.append(f"{told} is bf16-mixed on processors")
    if name in ("16-mixed", "bf16-mixed"):
        kinds = {type(module) for module in model.modules() if isinstance(module, nn.RNNBase)}
        found += [
            f"this processor cannot run {kind.__name__} layers in bfloat16: they are computed in float32"
            for kind in sorted(kinds, key=lambda kind: kind.__name__)
            if not runs(kind, "cpu", torch.bfloat16)
        ]
    if name in ("16-mixed", "bf16-mixed", "bf16-true") and (factor := bfloat16_costs()) > SLOW:
        found.append(
            f"{told}: on this processor products in bfloat16 take {factor:.0f} times as long as in float32; "
            "trainer.precision=32 is faster"
        )
    return found


@cache
def bfloat16_costs() -> float:
    """How many times as long as in float32 a product of matrices takes in bfloat16; timed once a process, in 0.1 s."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix, taken = torch.ones(256, 256, dtype=dtype), []
        for _ in range(4):
            started = time.perf_counter()
            matrix @ matrix
            taken.append(time.perf_counter() - started)
        seconds[dtype] = min(taken)
    return seconds[torch.bfloat16] / seconds[torch.float32]
