"""AlphaZero in small: a network that learns from its own search, and a search that is led by the network."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.games.boards import BoardState
from marquee.data.games.environment import States
from marquee.data.games.self_play import Searched, SelfPlay
from marquee.data.games.spec import BoardSpec
from marquee.models.policy.base import Policy, Trunk, allowed
from marquee.models.policy.search import Found, search


class AlphaZero(Policy):
    """Learns by self-play which moves its search will prefer, and how the game will end (Silver et al. 2017).

    view              games against itself
    dim               channels of the convolutions
    blocks            residual blocks
    simulations       of each search in self-play
    play_simulations  of each search when it plays, advises and is judged; 0: the network alone
    exploration       weight of the network's prior in the search
    """

    def __init__(
        self,
        spec: BoardSpec,
        *,
        view: SelfPlay,
        dim: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[int, Ge(0)] = 2,
        simulations: Annotated[int, Ge(1)] = 32,
        play_simulations: Annotated[int, Ge(0)] = 64,
        exploration: Annotated[float, Gt(0)] = 1.5,
    ):
        super().__init__()
        self.view = view
        self.board = spec.rules()
        self.simulations, self.play_simulations, self.exploration = simulations, play_simulations, exploration
        self.trunk = Trunk(spec, dim, blocks, norm=True)
        self.moves = nn.Linear(self.trunk.width, spec.n_actions)
        self.result = nn.Linear(self.trunk.width, 1)

    def _opinion(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(observations)
        return self.moves(features), self.result(features)[:, 0].float().tanh()

    def loss(self, batch: Searched) -> Tensor:
        logits, results = self._opinion(batch.observations)
        chosen = allowed(logits, batch.legal).log_softmax(1).masked_fill(~batch.legal, 0)
        return -(batch.shares * chosen).sum(1).mean() + F.mse_loss(results, batch.results)

    def judge(self, state: BoardState) -> tuple[Tensor, Tensor]:
        """Priors and values of positions, for the search."""
        seen, device = self.board.see(state), self.result.weight.device
        logits, results = self._opinion(seen.observations.to(device))
        # A legal move is never ruled out: the search takes 0 for illegal.
        return (allowed(logits.cpu(), seen.legal).softmax(1) + 1e-6) * seen.legal, results.cpu()

    def look(self, state: BoardState, noise: Tensor | None = None) -> Found:
        """What a search from each position finds: as in self-play with noise, else as in play."""
        simulations = self.play_simulations if noise is None else self.simulations
        state = BoardState(*(part.cpu() for part in state))
        return search(self.board, self.judge, state, simulations, self.exploration, noise)

    def forward(self, states: States) -> Tensor:
        if not self.play_simulations:
            return allowed(self._opinion(states.observations)[0], states.legal)
        visits, values = self.look(states.state)
        # The logarithm of the visits; moves that were looked at equally often are told apart by what was found.
        logits = (visits + 0.01 * (values + 1)).clamp(min=1e-6).log()
        return allowed(logits.to(states.legal.device), states.legal)

    @torch.no_grad()
    def values(self, states: States) -> Tensor | None:
        return self.look(states.state).values if self.play_simulations else None
