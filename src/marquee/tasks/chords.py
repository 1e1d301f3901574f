"""Which chord sounds next, its notes one after the other?"""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Interval

from marquee.data.rolls.dataset import RollData
from marquee.models.rolls import ChordModel
from marquee.tasks.loop import MakeOptimizer, Schedule
from marquee.tasks.polyphony import Polyphony


class Chords(Polyphony):
    """The likelihood of each frame as a whole, its notes one after the other: numbers of their own.

    RNN-NADE, RNN-RBM and other joint models are compared by it. The options are those of Polyphony.
    """

    words = "notes one after the other"

    def __init__(
        self,
        model: ChordModel,
        data: RollData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        evaluation_batch_size: Annotated[int, Ge(1)] = 2,
        sample: Annotated[int, Interval(ge=0, le=1024)] = 64,
    ):
        super().__init__(
            model, data, optimizer, scheduler, seed, evaluation_batch_size=evaluation_batch_size, sample=sample
        )

    def suggestions(self) -> tuple[str, str]:
        return "generate {run} --output tune.mid", "model=rnn/nade model.units=64,128"
