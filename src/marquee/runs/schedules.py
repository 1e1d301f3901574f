"""Learning-rate schedules that know how long the run is, so that nobody has to count its steps."""

import math
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval

from marquee.errors import ConfigError


class CosineWarmup(torch.optim.lr_scheduler.LambdaLR):
    """A linear rise to the optimizer's rate, then half a cosine down to a floor, over the whole run.

    Goyal et al. 2017, "Accurate, Large Minibatch SGD" (the rise); Loshchilov & Hutter 2017, "SGDR", ICLR (the cosine).

    total   steps of the run, or epochs where it steps once an epoch
    warmup  share of the run in which the rate rises
    floor   the last rate, as a share of the optimizer's

    With W = warmup * total the factor of step t, from 0, is (t + 1) / (W + 1) below W, and from there on
    floor + (1 - floor) * (1 + cos(pi * (t - W) / (total - W))) / 2.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total: int,
        *,
        warmup: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        floor: Annotated[float, Interval(ge=0, le=1)] = 0.0,
    ):
        rise = warmup * total

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            done = min((step - rise) / (total - rise), 1.0)  # a resumed run may go on for longer
            return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

        super().__init__(optimizer, factor)


def planned(trainer: dict[str, Any], batches: int, every: Literal["epoch", "step"]) -> int:
    """How often a schedule will step in the whole run, with `batches` in an epoch.

    Raises ConfigError where trainer.max_epochs leaves that open.
    """
    epochs = trainer.get("max_epochs")
    if epochs is None or epochs < 1:
        raise ConfigError(
            f"scheduler: its length is that of the run, and trainer.max_epochs={'null' if epochs is None else epochs} "
            "does not say how long that is.\n  fix: trainer.max_epochs=20, or another schedule"
        )
    if every == "epoch":
        return epochs
    limit = trainer.get("limit_train_batches")
    if limit is not None:
        batches = int(batches * limit) if isinstance(limit, float) else min(limit, batches)
    steps = epochs * -(-batches // (trainer.get("accumulate_grad_batches") or 1))
    most = trainer.get("max_steps", -1)
    return steps if most == -1 else min(steps, most)
