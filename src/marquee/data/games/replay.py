"""Moves that were made, what they led to, and a buffer of them to learn from again and again."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.games.dataset import GameData
from marquee.data.games.environment import Environment, States, rows
from marquee.data.games.playing import strategy, to
from marquee.data.games.streams import choose, stream, uniforms
from marquee.seeding import torch_generator


class Moves(NamedTuple):
    """Moves that were made.

    before   what the mover saw
    actions  int64 [batch]
    rewards  float32 [batch], the mover's
    done     bool [batch], the game was over
    after    what whoever moves next sees; means nothing where the game was over
    judged   float32 [batch, n_actions], the logits that the frozen policy of the epoch's start has there
    """

    before: States
    actions: Tensor
    rewards: Tensor
    done: Tensor
    after: States
    judged: Tensor


class Replay(View):
    """Each epoch the policy as it is then plays games, now and then at random; batches are drawn from the last moves.

    The policy of the epoch's start also judges what a move led to: it is the target network of DQN (Mnih et al. 2015),
    renewed every epoch. Games depend on the weights, the seed, the epoch and their number.

    games           played at once, an epoch; in a game for two the policy moves in both seats
    random          share of moves made at random at first; it falls in a straight line to `random_at_last`
    random_at_last  likewise, from epoch `falls` on
    falls           epochs until then
    buffer          moves that are remembered
    batch_size      moves a step
    steps           of an epoch
    """

    wants_policy = True

    def __init__(
        self,
        *,
        games: Annotated[int, Ge(1)] = 128,
        random: Annotated[float, Interval(ge=0, le=1)] = 1.0,
        random_at_last: Annotated[float, Interval(ge=0, le=1)] = 0.1,
        falls: Annotated[int, Ge(1)] = 20,
        buffer: Annotated[int, Ge(1)] = 100_000,
        batch_size: Annotated[int, Ge(1)] = 256,
        steps: Annotated[int, Ge(1)] = 100,
    ):
        self.games, self.random, self.random_at_last, self.falls = games, random, random_at_last, falls
        self.buffer, self.batch_size, self.n_steps = buffer, batch_size, steps
        self.kept: dict[str, Tensor] = {}

    def steps(self, data: GameData) -> int:
        return self.n_steps

    def train_batches(self, data: GameData, seed: int, epoch: int, policy: Any) -> Iterator[Moves]:
        share = max(0.0, 1 - epoch / self.falls)
        at_random = self.random_at_last + (self.random - self.random_at_last) * share
        with torch.no_grad():
            made = moves(data.environment, policy, self.games, stream(seed, "moves", epoch), at_random)
        before = self.kept or {name: new[:0] for name, new in made.items()}
        self.kept = {name: torch.cat([before[name], new])[-self.buffer :] for name, new in made.items()}
        draw = torch_generator(seed, "replay", epoch)
        n, kind = len(self.kept["actions"]), type(data.environment.start(1, torch.zeros(1, data.environment.draws)))
        state, device = {name: self._states(kind, name) for name in ("before", "after")}, device_of(policy)
        for _ in range(self.n_steps):
            chosen = torch.randint(n, (self.batch_size,), generator=draw)
            there = data.environment.see(rows(state["after"], chosen))
            with torch.no_grad():
                judged = policy(to(there, device)).cpu()
            yield Moves(
                data.environment.see(rows(state["before"], chosen)), self.kept["actions"][chosen],
                self.kept["rewards"][chosen], self.kept["done"][chosen], there, judged,
            )  # fmt: skip

    def _states(self, kind: type, name: str) -> Any:
        return kind(*(self.kept[f"{name} {field}"] for field in kind._fields))

    def state_dict(self) -> dict[str, Any]:
        return dict(self.kept)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = dict(state)


def device_of(policy: Any) -> torch.device:
    """Where a policy computes."""
    return next((tensor.device for tensor in [*policy.parameters(), *policy.buffers()]), torch.device("cpu"))


def moves(environment: Environment, policy: Any, n: int, key: int, at_random: float) -> dict[str, Tensor]:
    """The moves of `n` games between the policy and itself, in their order; a share `at_random` of them is."""
    games, device = torch.arange(n), device_of(policy)
    state = environment.start(n, uniforms(key, games, 0, environment.draws))
    found: list[dict[str, Tensor]] = []
    for number in range(1, environment.longest + 1):
        if not len(games):
            break
        drawn = uniforms(key, games, number, environment.draws + 2)
        seen = environment.see(state)
        odds = strategy(policy(to(seen, device)).cpu(), mixes=False)
        odds = torch.where(drawn[:, -2:-1] < at_random, seen.legal.float(), odds)
        actions = choose(odds, drawn[:, -1])
        after, rewards, done = environment.step(state, actions, drawn)
        mine = rewards.gather(1, environment.mover(state)[:, None])[:, 0]
        made = {"actions": actions, "rewards": mine, "done": done}
        for name, side in (("before", state), ("after", after)):
            made |= {f"{name} {field}": part for field, part in side._asdict().items()}
        found.append(made)
        on = (~done).nonzero()[:, 0]
        games, state = games[on], rows(after, on)
    return {name: torch.cat([made[name] for made in found]) for name in found[0]}
