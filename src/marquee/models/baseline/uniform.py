"""Every legal move is as good as any other: what a player must beat."""

from typing import Any

from torch import Tensor

from marquee.data.games.environment import States
from marquee.data.games.nothing import Nothing
from marquee.data.games.playing import uniform
from marquee.data.games.spec import GameSpec
from marquee.models.policy.base import Policy


class Uniform(Policy):
    """Moves at random."""

    max_epochs = 1

    def __init__(self, spec: GameSpec, *, view: Nothing):
        super().__init__()
        self.view = view

    def fit(self, batch: Any) -> None:
        """There is nothing to learn."""

    def forward(self, states: States) -> Tensor:
        return uniform(states)
