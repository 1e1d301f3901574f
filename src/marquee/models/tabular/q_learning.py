"""Q-learning: a table of what each move is worth, from remembered games."""

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from marquee.data.dataset import DataSet
from marquee.data.games.environment import States
from marquee.data.games.replay import Moves, Replay
from marquee.data.games.solving import keys_of
from marquee.data.games.spec import BoardSpec, GridSpec
from marquee.models.policy.base import Policy, allowed
from marquee.models.policy.dqn import backed_up


class QLearning(Policy):
    """A number for each move in each state, moved towards what was seen to follow (Watkins & Dayan 1992).

    The moves of a batch that were made in one state count by their mean. Needs a game whose states are numbered.

    view  remembered moves
    rate  how far an entry moves towards its target in a step
    """

    def __init__(
        self,
        spec: BoardSpec | GridSpec,
        *,
        view: Replay,
        rate: Annotated[float, Interval(gt=0, le=1)] = 0.3,
    ):
        super().__init__()
        if not spec.n_states:
            raise ValueError("tabular/q_learning needs numbered states, and this board has too many; use policy/dqn")
        self.view = view
        self.rate, self.players = rate, spec.players
        self.discount = spec.discount if isinstance(spec, GridSpec) else 1.0
        self.register_buffer("table", torch.zeros(spec.n_states, spec.n_actions))
        self.board = spec.rules() if isinstance(spec, BoardSpec) else None
        if self.board:
            self.register_buffer("keys", torch.zeros(spec.n_states, dtype=torch.int64))

    def prepare(self, data: DataSet) -> None:
        if self.board:
            self.keys.copy_(data.truth.keys)

    def _rows(self, states: States) -> Tensor:
        if not self.board:
            return states.index
        keys = keys_of(self.board, *states.state).to(self.keys.device)
        return torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)

    def values(self, states: States) -> Tensor:
        return self.table[self._rows(states)]

    def forward(self, states: States) -> Tensor:
        return allowed(self.values(states), states.legal)

    def fit(self, batch: Moves) -> Tensor:
        """One step; returns the mean error of what was expected."""
        after = self(batch.after).amax(1)
        target = backed_up(batch, after, self.discount, self.players)
        entries = self._rows(batch.before) * self.table.shape[1] + batch.actions
        flat = self.table.view(-1)
        errors = target - flat[entries]
        sums, counts = torch.zeros(2, len(flat), device=flat.device)
        sums.index_add_(0, entries, errors)
        counts.index_add_(0, entries, torch.ones_like(errors))
        flat += self.rate * sums / counts.clamp(min=1)
        return errors.abs().mean()
