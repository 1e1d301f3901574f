"""Games played out between policies, all at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from marquee.data.games.environment import Environment, States, rows
from marquee.data.games.streams import choose, uniforms

Player = Callable[[States], Tensor]  # states -> logits [batch, n_actions]


def strategy(logits: Tensor, mixes: bool) -> Tensor:
    """The probability of each move, float32 [batch, n_actions].

    mixes  whether the game asks for chance in its moves (hidden cards): the softmax. Else the best move is made, and
           moves that tie are equally likely
    """
    logits = logits.float()
    if mixes:
        return logits.softmax(dim=1)
    best = (logits == logits.amax(dim=1, keepdim=True)).float()
    return best / best.sum(dim=1, keepdim=True)


def play_out(
    environment: Environment, players: Sequence[Player], n: int, key: int, mixes: bool = False, opening: int = 0
) -> Tensor:
    """The result of `n` games for each player, float32 [n, players].

    players  one a seat
    key      of the games' random numbers: game i is the same whatever `n` is
    opening  moves that are made at random first, the same in game i whoever plays
    """
    games = torch.arange(n)
    total = torch.zeros(n, environment.players)
    state = environment.start(n, uniforms(key, games, 0, environment.draws))
    for number in range(1, environment.longest + 1):
        if not len(games):
            break
        drawn = uniforms(key, games, number, environment.draws + 1)
        seen, mover = environment.see(state), environment.mover(state)
        actions = torch.zeros(len(games), dtype=torch.int64)
        for seat, player in enumerate(players):
            own = (mover == seat).nonzero()[:, 0]
            if len(own):
                here = rows(seen, own)
                odds = here.legal.float() if number <= opening else strategy(player(here), mixes)
                actions[own] = choose(odds, drawn[own, -1])
        state, rewards, done = environment.step(state, actions, drawn)
        total[games] += rewards
        on = (~done).nonzero()[:, 0]
        games, state = games[on], rows(state, on)
    return total


def uniform(states: States) -> Tensor:
    """The player that knows nothing but the rules."""
    return torch.zeros(states.legal.shape).masked_fill(~states.legal, -float("inf"))


def to(states: Any, device: torch.device) -> States:
    """What a network reads of states, on its device; the game's own state stays where it is."""
    return States(states.observations.to(device), states.legal.to(device), states.index.to(device), states.state)
