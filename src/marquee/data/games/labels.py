"""Positions with the exact value of every move, as a view to learn from."""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.dataset import View
from marquee.data.games.board_data import BoardData
from marquee.data.games.dataset import Choices
from marquee.seeding import numpy_generator


class SolverLabels(View):
    """A fixed share of the training positions with the solver's values, each batch under one symmetry of the board.

    share       of the training positions whose values may be seen; drawn once, by `share_seed`
    share_seed  of that draw; kept apart from the run's seed
    batch_size  positions a step
    turns       mirror images and turns count as the same position: batches are shown under any of them
    """

    def __init__(
        self,
        *,
        share: Annotated[float, Interval(gt=0, le=1)] = 0.05,
        share_seed: Annotated[int, Ge(0)] = 0,
        batch_size: Annotated[int, Ge(1)] = 256,
        turns: bool = True,
    ):
        self.share, self.share_seed, self.batch_size, self.turns = share, share_seed, batch_size, turns

    def shown(self, data: BoardData) -> np.ndarray:
        """The rows whose values may be seen."""
        train = data.parts["train"]
        n = max(1, round(self.share * len(train)))
        return train[np.sort(numpy_generator(self.share_seed, "solver labels").permutation(len(train))[:n])]

    def steps(self, data: BoardData) -> int:
        return -(-max(1, round(self.share * len(data.parts["train"]))) // self.batch_size)

    def train_batches(self, data: BoardData, seed: int, epoch: int) -> Iterator[Choices]:
        draw = numpy_generator(seed, "order", epoch)
        order = self.shown(data)
        order = order[draw.permutation(len(order))]
        turns = draw.integers(len(data.environment.symmetries) if self.turns else 1, size=self.steps(data))
        for number, turn in enumerate(turns):
            yield data.choices(order[number * self.batch_size : (number + 1) * self.batch_size], int(turn))
