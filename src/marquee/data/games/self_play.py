"""Games that a searching player plays against itself, and the buffer that remembers them."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.games.board_data import BoardData
from marquee.data.games.boards import BoardState
from marquee.data.games.environment import rows
from marquee.data.games.streams import choose, stream, uniforms
from marquee.seeding import torch_generator


class Searched(NamedTuple):
    """Positions with what a search found there.

    observations  float32 [batch, planes, height, width]
    legal         bool [batch, n_actions]
    shares        float32 [batch, n_actions], of the visits that each move got
    results       float32 [batch], from -1 (the mover loses) to 1
    """

    observations: Tensor
    legal: Tensor
    shares: Tensor
    results: Tensor


class SelfPlay(View):
    """Each epoch the policy as it is then plays games against itself; batches are drawn from the last that it played.

    Which games these are depends on the weights, the seed, the epoch and the number of the game, so that a resumed run
    plays the same ones.

    games       played at once, an epoch
    opening     moves that may be made at random first: each game draws how many, from 0 to this
    sampled     moves after them that are drawn in proportion to the visits; then the most visited one is made
    trust       weight of the search's own value in the target, beside the result of the game
    buffer      positions that are remembered
    batch_size  positions a step, each batch under one symmetry of the board
    steps       of an epoch
    """

    wants_policy = True

    def __init__(
        self,
        *,
        games: Annotated[int, Ge(1)] = 256,
        opening: Annotated[int, Ge(0)] = 0,
        sampled: Annotated[int, Ge(0)] = 100,
        trust: Annotated[float, Interval(ge=0, le=1)] = 0.5,
        buffer: Annotated[int, Ge(1)] = 50_000,
        batch_size: Annotated[int, Ge(1)] = 256,
        steps: Annotated[int, Ge(1)] = 50,
    ):
        self.games, self.opening, self.sampled, self.trust = games, opening, sampled, trust
        self.buffer, self.batch_size, self.n_steps = buffer, batch_size, steps
        self.kept: dict[str, Tensor] = {}

    def steps(self, data: BoardData) -> int:
        return self.n_steps

    def train_batches(self, data: BoardData, seed: int, epoch: int, policy: Any) -> Iterator[Searched]:
        with torch.no_grad():
            played = self.play(data, policy, stream(seed, "self-play", epoch))
        before = self.kept or {name: new[:0] for name, new in played.items()}
        self.kept = {name: torch.cat([before[name], new])[-self.buffer :] for name, new in played.items()}
        draw = torch_generator(seed, "replay", epoch)
        n, turns = len(self.kept["own"]), data.environment.symmetries
        for _ in range(self.n_steps):
            chosen = torch.randint(n, (self.batch_size,), generator=draw)
            cells, actions = turns[int(torch.randint(len(turns), (1,), generator=draw))]
            seen = data.environment.see(BoardState(self.kept["own"][chosen], self.kept["all"][chosen]))
            observations = seen.observations.flatten(2)[..., cells].view_as(seen.observations)
            shares, results = self.kept["shares"][chosen][:, actions], self.kept["results"][chosen]
            yield Searched(observations, seen.legal[:, actions], shares, results)

    def play(self, data: BoardData, policy: Any, key: int) -> dict[str, Tensor]:
        """The positions of an epoch's games in which the search was asked, in the order of the games' moves."""
        board, games = data.environment, torch.arange(self.games)
        state = board.start(self.games)
        lengths = (uniforms(key, games, 0, 1)[:, 0] * (self.opening + 1)).long()
        lengths[0] = 0  # where the others are over before anybody was asked, one is not
        result = torch.zeros(self.games)  # for the first player
        found: list[tuple[Tensor, ...]] = []
        for number in range(board.longest):
            if not len(games):
                break
            drawn = uniforms(key, games, number + 1, board.n_actions + 1)
            legal = board.see(state).legal
            odds = legal.float()
            asked = (lengths[games] <= number).nonzero()[:, 0]
            if len(asked):
                # Exponential noise is that of a Dirichlet distribution with parameter 1.
                noise = -torch.log1p(-drawn[asked, :-1])
                here = rows(state, asked)
                visits, values = policy.look(here, noise)
                shares = visits / visits.sum(1, keepdim=True)
                found.append((games[asked], here.own, here.all, shares, (shares * values).sum(1)))
                late = lengths[games[asked]] + self.sampled <= number
                odds[asked] = torch.where(late[:, None], (visits == visits.amax(1, keepdim=True)).float(), shares)
            state, rewards, done = board.step(state, choose(odds, drawn[:, -1]))
            result[games] += rewards[:, 0]
            on = (~done).nonzero()[:, 0]
            games, state = games[on], rows(state, on)
        whose, own, everything, shares, values = (torch.cat(parts) for parts in zip(*found))
        sign = 1.0 - 2.0 * (board.count(everything) % 2).float()
        target = self.trust * values + (1 - self.trust) * result[whose] * sign
        return {"own": own, "all": everything, "shares": shares, "results": target}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.kept)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = dict(state)
