"""PPO: a policy takes more of what turned out better than expected, a little at a time."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.games.environment import States
from marquee.data.games.rollouts import Rollouts, Taken
from marquee.data.games.spec import GameSpec
from marquee.models.policy.base import Policy, Trunk, allowed


class PPO(Policy):
    """Proximal policy optimisation (Schulman et al. 2017) of one policy that plays in every seat.

    view     games against itself, or alone on a map
    dim      channels of the convolutions, or neurons of a layer
    blocks   residual blocks, or layers
    clip     how far the probability of a move may change in an epoch, as a share
    entropy  weight of the policy's entropy: larger keeps more moves alive, which games with hidden cards need
    critic   weight of the error of the expected result
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        view: Rollouts,
        dim: Annotated[int, Ge(1)] = 64,
        blocks: Annotated[int, Ge(1)] = 2,
        clip: Annotated[float, Gt(0)] = 0.2,
        entropy: Annotated[float, Ge(0)] = 0.01,
        critic: Annotated[float, Ge(0)] = 0.5,
    ):
        super().__init__()
        self.view = view
        self.clip, self.entropy, self.critic = clip, entropy, critic
        self.trunk = Trunk(spec, dim, blocks, norm=False)
        self.moves = nn.Linear(self.trunk.width, spec.n_actions)
        self.result = nn.Linear(self.trunk.width, 1)
        nn.init.zeros_(self.moves.weight)  # at first every move is as probable, whatever is seen
        nn.init.zeros_(self.moves.bias)

    def both(self, states: States) -> tuple[Tensor, Tensor]:
        """Logits [batch, n_actions] and the expected result of the mover [batch]."""
        features = self.trunk(states.observations)
        return allowed(self.moves(features), states.legal), self.result(features)[:, 0].float()

    def forward(self, states: States) -> Tensor:
        return self.both(states)[0]

    def loss(self, batch: Taken) -> Tensor:
        features = self.trunk(batch.observations)
        odds = allowed(self.moves(features), batch.legal).log_softmax(1)
        ratio = (odds.gather(1, batch.actions[:, None])[:, 0] - batch.chances).exp()
        gained = torch.minimum(
            ratio * batch.advantages, ratio.clamp(1 - self.clip, 1 + self.clip) * batch.advantages
        ).mean()
        entropy = -(odds.exp() * odds.masked_fill(~batch.legal, 0)).sum(1).mean()
        error = F.mse_loss(self.result(features)[:, 0].float(), batch.returns)
        return self.critic * error - gained - self.entropy * entropy
