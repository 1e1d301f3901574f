"""Value iteration: the value of each state from those behind it, where the chances are known."""

from typing import Any

import torch
from torch import Tensor

from marquee.data.dataset import DataSet
from marquee.data.games.environment import States
from marquee.data.games.nothing import Nothing
from marquee.data.games.spec import GridSpec
from marquee.models.policy.base import Policy, allowed


class ValueIteration(Policy):
    """Backs up the values of all states at once, a sweep an epoch (Bellman 1957). It is told the chances of the map.

    view  the game itself
    """

    def __init__(self, spec: GridSpec, *, view: Nothing):
        super().__init__()
        self.view = view
        self.discount = spec.discount
        self.register_buffer("table", torch.zeros(spec.n_states, spec.n_actions, dtype=torch.float64))
        self.process: Any = None

    def prepare(self, data: DataSet) -> None:
        self.process = data.environment

    def fit(self, batch: Any) -> Tensor:
        """One sweep; returns the largest change of a value."""
        after = self.process.backed_up(self.table.amax(1).cpu(), self.discount).to(self.table.device)
        change = (after - self.table).abs().max().float()
        self.table.copy_(after)
        return change

    def values(self, states: States) -> Tensor:
        return self.table[states.index]

    def forward(self, states: States) -> Tensor:
        # Rounded, so that moves of one value tie whatever the order of the sums.
        return allowed((self.table[states.index] * 1e6).round() / 1e6, states.legal)
