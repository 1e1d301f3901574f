"""Looks one move ahead: wins where it can, blocks where it must, else moves at random."""

from typing import Any

import torch
from torch import Tensor

from marquee.data.games.environment import States
from marquee.data.games.nothing import Nothing
from marquee.data.games.spec import BoardSpec
from marquee.models.policy.base import Policy


class OnePly(Policy):
    """Completes its own line, else fills the cell that would complete the other's."""

    max_epochs = 1

    def __init__(self, spec: BoardSpec, *, view: Nothing):
        super().__init__()
        self.view = view
        self.board = spec.rules()

    def fit(self, batch: Any) -> None:
        """There is nothing to learn."""

    def forward(self, states: States) -> Tensor:
        board, (own, everything) = self.board, states.state
        wins = board.completing(own, everything)
        blocks = board.completing(everything ^ own, everything)
        moves = torch.arange(board.n_actions, device=own.device)
        stones = board.put(everything[:, None], moves)
        logits = 2.0 * ((stones & wins[:, None]) != 0) + 1.0 * ((stones & blocks[:, None]) != 0)
        return logits.to(states.legal.device).masked_fill(~states.legal, -float("inf"))
