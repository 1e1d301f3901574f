"""A perceptron over what is known of a user and of an item, which never joins the two inputs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORED_CELLS = 4_000_000  # cells of the widest layer that scoring forms at a time: 16 MB of float32


class PairPerceptron(nn.Module):
    """Layers of ReLU over (user, item), then one number, or the last layer where `number` is False.

    The first layer of a joined input is W_u u + W_i i + b, so that all pairs of some users and all items take a
    product a side and a sum, and one item of many users is multiplied once.
    """

    def __init__(self, user: int, item: int, widths: Sequence[int], dropout: float = 0.0, number: bool = True):
        super().__init__()
        self.of_user, self.of_item = nn.Linear(user, widths[0]), nn.Linear(item, widths[0], bias=False)
        bound = (user + item) ** -0.5  # as one layer over both would be
        for parameter in (self.of_user.weight, self.of_user.bias, self.of_item.weight):
            nn.init.uniform_(parameter, -bound, bound)
        self.rest = nn.ModuleList(nn.Linear(one, two) for one, two in pairwise(widths))
        self.last = nn.Linear(widths[-1], 1) if number else None
        self.dropout = dropout
        self.widest = max(widths)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """For inputs [..., user] and [..., item] that broadcast: [...], or [..., widths[-1]]."""
        return self.join(self.of_user(user), self.of_item(item))

    def join(self, user: Tensor, item: Tensor) -> Tensor:
        """The same from the shares of both sides in the first layer."""
        state = (user + item).relu_()
        for layer in self.rest:
            state = layer(F.dropout(state, self.dropout, self.training)).relu_()
        return state if self.last is None else self.last(state).squeeze(-1)

    def all_pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """The numbers [users, items] of all pairs, so many users at a time as memory should hold."""
        users, items = self.of_user(user), self.of_item(item)
        size = max(1, SCORED_CELLS // (len(items) * self.widest))
        return torch.cat([self.join(part[:, None], items).float() for part in users.split(size)])

    def forward_all(self, user: Tensor, item: Tensor) -> Tensor:
        """As `all_pairs`, all users at once: one graph without a loop, which can be exported."""
        return self.join(self.of_user(user)[:, None], self.of_item(item))


def squares(layers: nn.Module) -> Tensor:
    """The sum of the squares of all that is in matrices, and not in biases (scalar)."""
    return torch.stack([weight.square().sum() for weight in layers.parameters() if weight.dim() > 1]).sum()
