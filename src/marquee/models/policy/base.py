"""What every player promises, and the networks that they share."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.games.environment import States
from marquee.data.games.spec import GameSpec
from marquee.models.base import Model


class Policy(Model):
    """Turns states into logits [batch, n_actions], -inf where a move is illegal.

    Where a game hides something its softmax is the strategy; elsewhere the highest logit is the move.
    """

    def loss(self, batch: Any) -> Tensor:
        """The mean training loss of a batch of the view (scalar), where the model does not learn in `fit`."""
        raise NotImplementedError

    def values(self, states: States) -> Tensor | None:
        """What the mover can expect by each move, [batch, n_actions], where the model knows; else None."""
        return None

    @abstractmethod
    def forward(self, states: States) -> Tensor:
        """Logits [batch, n_actions]."""


def allowed(logits: Tensor, legal: Tensor) -> Tensor:
    """The logits of legal moves, float32, with -inf for the others."""
    return logits.float().masked_fill(~legal, -float("inf"))


class Residual(nn.Module):
    """Two convolutions around which the input passes (He et al. 2016)."""

    def __init__(self, dim: int, norm: bool):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=not norm),
            *([nn.BatchNorm2d(dim)] if norm else []),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 3, padding=1, bias=not norm),
            *([nn.BatchNorm2d(dim)] if norm else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class Trunk(nn.Module):
    """Observations as features [batch, width]: convolutions over a board, else a perceptron.

    dim     channels, or neurons of a layer
    blocks  residual blocks, or layers
    norm    batch normalisation in the blocks: for learners whose examples do not depend on each other
    """

    def __init__(self, spec: GameSpec, dim: int, blocks: int, norm: bool):
        super().__init__()
        if len(spec.observation) == 3:
            planes, height, width = spec.observation
            self.width = 8 * dim
            self.layers = nn.Sequential(
                nn.Conv2d(planes, dim, 3, padding=1),
                nn.ReLU(),
                *(Residual(dim, norm) for _ in range(blocks)),
                nn.Flatten(),
                nn.Linear(dim * height * width, self.width),
                nn.ReLU(),
            )
        else:
            sizes = [spec.observation[0], *[dim] * blocks]
            pairs = zip(sizes[:-1], sizes[1:])
            self.layers = nn.Sequential(*(part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU())))
            self.width = sizes[-1]

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)
