"""Behaviour cloning: a network that is told what a perfect player would think of each move."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.games.dataset import Choices
from marquee.data.games.environment import States
from marquee.data.games.labels import SolverLabels
from marquee.data.games.spec import BoardSpec
from marquee.models.policy.base import Policy, Trunk, allowed


class Cloning(Policy):
    """Learns from a solver whether each move loses, draws or wins (Pomerleau 1991 learnt the move alone).

    Three logits a move, cross-entropy over the legal ones; a move counts as the expected result, P(win) - P(loss).

    view    positions with the solver's labels
    dim     channels of the convolutions
    blocks  residual blocks
    """

    def __init__(
        self,
        spec: BoardSpec,
        *,
        view: SolverLabels,
        dim: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[int, Ge(0)] = 2,
    ):
        super().__init__()
        self.view = view
        self.trunk = Trunk(spec, dim, blocks, norm=True)
        self.output = nn.Linear(self.trunk.width, 3 * spec.n_actions)

    def _results(self, observations: Tensor) -> Tensor:
        """Logits of loss, draw and win, [batch, n_actions, 3]."""
        return self.output(self.trunk(observations)).unflatten(1, (-1, 3))

    def loss(self, batch: Choices) -> Tensor:
        legal = batch.truth > -2
        return F.cross_entropy(self._results(batch.observations)[legal].float(), (batch.truth[legal] + 1).long())

    def values(self, states: States) -> Tensor:
        odds = self._results(states.observations).float().softmax(dim=2)
        return odds[..., 2] - odds[..., 0]

    def forward(self, states: States) -> Tensor:
        # As log-odds, so that their softmax is a confidence; their order is that of the expected results.
        return allowed(2 * torch.atanh(self.values(states).clamp(-0.9999, 0.9999)), states.legal)
