"""The worst opponent of a policy on a small, solved board: worked out over every position."""

import numpy as np
import torch
from torch import Tensor

from marquee.data.games.board_data import BoardData
from marquee.data.games.boards import BoardState
from marquee.data.games.playing import Player, strategy
from marquee.data.games.solving import keys_of, position_of


def nash_conv(data: BoardData, player: Player) -> float:
    """What two best responses, one in each seat, would gain together against `player`, which moves in both seats.

    The result of a best response as first player, and of one as second, summed: 0 where nobody can ever beat the
    player and the game is a draw. Ties of the player's moves are broken at random.
    """
    policy = _policy(data, player)
    return _best(data, policy, responder=0) + _best(data, policy, responder=1)


def _policy(data: BoardData, player: Player, at_once: int = 1024) -> Tensor:
    rows = np.arange(len(data.truth.keys))
    parts = [strategy(player(data.states(rows[i : i + at_once])), mixes=False) for i in range(0, len(rows), at_once)]
    found = torch.cat(parts).double().cpu()
    return found / found.sum(1, keepdim=True)  # thirds to double precision


def _best(data: BoardData, policy: Tensor, responder: int) -> float:
    """What `responder` (0 moves first) gets by the best moves against `policy`, from the empty board."""
    board, keys = data.environment, data.truth.keys
    own, everything = position_of(board, keys)
    stones = board.count(everything)
    worth = torch.zeros(len(keys), dtype=torch.float64)  # for the responder
    for n in reversed(range(int(stones.max()) + 1)):
        here = (stones == n).nonzero()[:, 0]
        if not len(here):
            continue
        answers = n % 2 == responder
        moves = torch.full((len(here), board.n_actions), -float("inf") if answers else 0.0, dtype=torch.float64)
        for action in range(board.n_actions):
            legal = ((everything[here] & board.tops[action]) == 0).nonzero()[:, 0]
            rows = here[legal]
            after = board.step(BoardState(own[rows], everything[rows]), torch.full((len(rows),), action))
            value = after.rewards[:, responder].double()
            on = (~after.done).nonzero()[:, 0]
            behind = keys_of(board, after.state.own[on], after.state.all[on])
            value[on] = worth[torch.searchsorted(keys, behind)]
            moves[legal, action] = value
        worth[here] = moves.amax(1) if answers else (moves * policy[here]).sum(1)
    start = keys_of(board, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    return float(worth[torch.searchsorted(keys, start)])
