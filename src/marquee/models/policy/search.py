"""Monte Carlo tree search for a batch of board positions: the trees are tensors, one simulation a step for all."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from marquee.data.games.boards import Board, BoardState

# Board positions -> priors [batch, n_actions] (0 where illegal) and values [batch] for who has to move.
Judge = Callable[[BoardState], tuple[Tensor, Tensor]]


class Found(NamedTuple):
    """visits: float32 [batch, n_actions], how often each move was looked at; values: likewise, their mean results."""

    visits: Tensor
    values: Tensor


def search(
    board: Board, judge: Judge, roots: BoardState, simulations: int, exploration: float, noise: Tensor | None = None
) -> Found:
    """PUCT (Silver et al. 2017) from each root, where nobody may have won yet.

    judge        a network's opinion of positions
    exploration  weight of the prior against the mean result
    noise        added to the roots' priors, [batch, n_actions], a quarter of the sum (self-play looks at other moves)
    """
    n, n_moves, size = len(roots.own), board.n_actions, simulations + 1
    every = torch.arange(n)
    own, everything = torch.zeros(2, n, size, dtype=torch.int64)
    child = torch.full((n, size, n_moves), -1)
    prior, visits, total = torch.zeros(3, n, size, n_moves)
    over, worth = torch.zeros(n, size, dtype=torch.bool), torch.zeros(n, size)
    own[:, 0], everything[:, 0] = roots
    first, _ = judge(roots)
    if noise is not None:
        noise = noise * (first > 0)
        first = 0.75 * first + 0.25 * noise / noise.sum(1, keepdim=True)
    prior[:, 0] = first
    for number in range(1, size):
        # Down: along the most promising moves to one that has not been tried, or that ends the game.
        games, node = every, torch.zeros(n, dtype=torch.int64)
        parent, action = torch.zeros(2, n, dtype=torch.int64)
        path: list[tuple[Tensor, Tensor, Tensor]] = []
        while len(games):
            seen, chance = visits[games, node], prior[games, node]
            bonus = exploration * chance * (seen.sum(1, keepdim=True) + 1).sqrt() / (1 + seen)
            rating = (total[games, node] / seen.clamp(min=1) + bonus).masked_fill(chance == 0, -float("inf"))
            move = rating.argmax(1)
            path.append((games, node, move))
            parent[games], action[games] = node, move
            after = child[games, node, move]
            on = (after >= 0) & ~over[games, after.clamp(min=0)]
            games, node = games[on], after[on]
        # One new node a tree, where the game goes on.
        known = child[every, parent, action]
        stone = board.put(everything[every, parent], action)
        mine, whole = own[every, parent] | stone, everything[every, parent] | stone
        won = board.wins(mine)
        done = won | (whole == board.full)
        place = torch.where(known < 0, number, known)
        child[every, parent, action] = place
        own[every, place], everything[every, place], over[every, place] = whole ^ mine, whole, done
        value = -won.float()  # for who would have to move
        open_ = (~done).nonzero()[:, 0]
        if len(open_):
            chances, opinion = judge(BoardState(own[open_, number], everything[open_, number]))
            prior[open_, number], value[open_] = chances, opinion
        worth[every, place] = value
        # Up: what is good for one is bad for the other.
        for games, node, move in reversed(path):
            value[games] = -value[games]
            visits[games, node, move] += 1
            total[games, node, move] += value[games]
    return Found(visits[:, 0], total[:, 0] / visits[:, 0].clamp(min=1))
