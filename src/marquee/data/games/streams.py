"""Random numbers by counting: the draw of a game at a step depends on (key, game, step) alone."""

import torch
from torch import Tensor

from marquee.seeding import derive

# Odd constants of SplitMix64 (Steele, Lea & Flood 2014), as int64 holds them.
_GAME, _STEP, _PLACE = -7046029254386353131, -4658895280553007687, -7723592293110705685


def stream(seed: int, purpose: str, *numbers: int) -> int:
    """The key of the games of one purpose, such as the rollouts of an epoch."""
    return derive(seed, purpose, *numbers)


def uniforms(key: int, games: Tensor, step: int, n: int) -> Tensor:
    """`n` numbers in [0, 1) for each of `games` (int64 [batch]) at `step`: float32 [batch, n].

    Unlike those of a generator, they do not change with the number of games that are played at once.
    """
    places = torch.arange(n, device=games.device)
    mixed = games[:, None] * _GAME + (places * _PLACE + (key ^ (step * 0x9E3779B9)))
    for shift, factor in ((30, _STEP), (27, _PLACE), (31, 1)):
        mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return ((mixed >> 40) & 0xFFFFFF).float() / (1 << 24)


def choose(probabilities: Tensor, drawn: Tensor) -> Tensor:
    """An index [batch] of each row of `probabilities` [batch, k] (they need not sum to one) by a uniform draw [batch].

    What has no probability is never chosen.
    """
    sums = probabilities.double().cumsum(1)
    below = (sums <= drawn.double()[:, None] * sums[:, -1:]).sum(1)
    last = probabilities.shape[1] - 1 - (probabilities > 0).flip(1).long().argmax(1)
    return torch.minimum(below, last)
