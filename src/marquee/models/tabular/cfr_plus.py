"""CFR+: both players learn from what they regret not having done, in every information set at once."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import DataSet
from marquee.data.games.environment import States
from marquee.data.games.nothing import Nothing
from marquee.data.games.spec import CardSpec
from marquee.models.policy.base import Policy, allowed


class CFRPlus(Policy):
    """Counterfactual regret minimisation with regrets above zero, turns and weighted averages (Tammelin 2014).

    An iteration goes over the whole tree once for each player. What is played is the average strategy, in which
    iteration t weighs t.

    view        the game itself
    iterations  of an epoch
    """

    def __init__(self, spec: CardSpec, *, view: Nothing, iterations: Annotated[int, Ge(1)] = 10):
        super().__init__()
        self.view, self.iterations = view, iterations
        shape = (spec.n_states, spec.n_actions)
        self.register_buffer("regrets", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("average", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("made", torch.zeros((), dtype=torch.int64))
        self.tree: Any = None

    def prepare(self, data: DataSet) -> None:
        self.tree = data.tree

    def current(self) -> Tensor:
        """The strategy that the regrets ask for (regret matching), float64 [infosets, n_actions], where the tree is."""
        regrets = self.regrets.cpu()
        total = regrets.sum(1, keepdim=True)
        return torch.where(total > 0, regrets / total.clamp(min=1e-300), self.tree.uniform)

    def fit(self, batch: Any) -> Tensor:
        """An epoch's iterations; returns the mean positive regret of an information set in each."""
        for _ in range(self.iterations):
            self._iterate()
        return self.regrets.sum(1).mean().float() / self.made

    def _iterate(self) -> None:
        self.made += 1
        tree = self.tree
        for player in range(2):
            strategy, own = self.current(), tree.owner == player
            gains = tree.gains(strategy)
            regrets = gains - (gains * strategy).sum(1, keepdim=True)
            updated = (self.regrets.cpu() + regrets.masked_fill(~tree.legal, 0)).clamp(min=0)
            self.regrets.copy_(torch.where(own[:, None], updated, self.regrets.cpu()))
            # The average counts an information set by how often its owner's own moves lead there.
            strategy = self.current()
            weights = strategy * tree.coming(strategy)[:, None] * own[:, None]
            self.average += self.made * weights.to(self.average.device)

    def forward(self, states: States) -> Tensor:
        weights = self.average[states.index]
        total = weights.sum(1, keepdim=True)
        share = torch.where(
            total > 0, weights / total.clamp(min=1e-300), states.legal / states.legal.sum(1, keepdim=True)
        )
        return allowed(share.clamp(min=1e-30).log(), states.legal)
