"""DQN: a network learns the value of each move from remembered games."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.games.environment import States
from marquee.data.games.replay import Moves, Replay
from marquee.data.games.spec import BoardSpec, GridSpec
from marquee.models.policy.base import Policy, Trunk, allowed


def backed_up(batch: Moves, after: Tensor, discount: float, players: int) -> Tensor:
    """What the moves were worth [batch], where the best move behind them is worth `after` [batch].

    In a game for two the other one moves then, and what is good for him is bad for the mover.
    """
    turn = -1.0 if players == 2 else 1.0
    return batch.rewards + discount * turn * torch.where(batch.done, 0.0, after)


class DQN(Policy):
    """Q-learning with a network, a buffer and a target that stands still for an epoch (Mnih et al. 2015).

    view      remembered moves
    dim       channels of the convolutions, or neurons of a layer
    blocks    residual blocks, or layers
    double    the learning network chooses the move whose value the target network says (van Hasselt et al. 2016)
    """

    def __init__(
        self,
        spec: BoardSpec | GridSpec,
        *,
        view: Replay,
        dim: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[int, Ge(1)] = 2,
        double: bool = True,
    ):
        super().__init__()
        self.view = view
        self.double, self.players = double, spec.players
        self.discount = spec.discount if isinstance(spec, GridSpec) else 1.0
        self.trunk = Trunk(spec, dim, blocks, norm=False)
        self.output = nn.Linear(self.trunk.width, spec.n_actions)

    def values(self, states: States) -> Tensor:
        return self.output(self.trunk(states.observations)).float()

    def forward(self, states: States) -> Tensor:
        return allowed(self.values(states), states.legal)

    def loss(self, batch: Moves) -> Tensor:
        judge = batch.judged
        if self.double:
            with torch.no_grad():
                judge = self(batch.after)
        legal = batch.after.legal
        best = judge.masked_fill(~legal, -float("inf")).argmax(1, keepdim=True)
        target = backed_up(batch, batch.judged.gather(1, best)[:, 0], self.discount, self.players)
        made = self.values(batch.before).gather(1, batch.actions[:, None])[:, 0]
        return F.smooth_l1_loss(made, target)
