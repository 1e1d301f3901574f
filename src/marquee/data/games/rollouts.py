"""Games that a policy plays against itself, with how much better each move turned out than was expected."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.games.dataset import GameData
from marquee.data.games.environment import Environment, rows
from marquee.data.games.playing import to
from marquee.data.games.replay import device_of
from marquee.data.games.streams import choose, stream, uniforms
from marquee.seeding import torch_generator


class Taken(NamedTuple):
    """Moves of a rollout.

    observations  float32 [batch, ...]
    legal         bool [batch, n_actions]
    actions       int64 [batch]
    chances       float32 [batch], the logarithm of the probability that the move had
    advantages    float32 [batch], how much better it turned out than expected; mean 0, deviation 1 over the epoch
    returns       float32 [batch], what the mover got, as far as it was seen
    """

    observations: Tensor
    legal: Tensor
    actions: Tensor
    chances: Tensor
    advantages: Tensor
    returns: Tensor


class Rollouts(View):
    """Each epoch the policy as it is then plays games to their end, and their moves are gone through a few times.

    The rollouts are a function of the weights, the seed, the epoch and the number of the game; nothing is kept. With
    several players each one's moves are a sequence of their own: between two of them the others move.

    games        played at once, an epoch; the policy moves in every seat
    passes       through the moves of an epoch
    minibatches  of a pass
    trace        how far an advantage looks ahead (lambda of GAE, Schulman et al. 2016): 0 one move, 1 to the end
    """

    wants_policy = True

    def __init__(
        self,
        *,
        games: Annotated[int, Ge(1)] = 512,
        passes: Annotated[int, Ge(1)] = 4,
        minibatches: Annotated[int, Ge(1)] = 4,
        trace: Annotated[float, Interval(ge=0, le=1)] = 0.95,
    ):
        self.games, self.passes, self.minibatches, self.trace = games, passes, minibatches, trace

    def steps(self, data: GameData) -> int:
        return self.passes * self.minibatches

    def train_batches(self, data: GameData, seed: int, epoch: int, policy: Any) -> Iterator[Taken]:
        discount = getattr(data.spec, "discount", 1.0)
        with torch.no_grad():
            taken = roll_out(
                data.environment, policy, self.games, stream(seed, "rollouts", epoch), discount, self.trace
            )
        n = len(taken.actions)
        for number in range(self.passes):
            order = torch.randperm(n, generator=torch_generator(seed, "minibatches", epoch, number))
            for chosen in order.tensor_split(self.minibatches):
                # A handful of moves may be fewer than there are minibatches; a mean over none is not a number.
                yield rows(taken, chosen if len(chosen) else order[:1])


def roll_out(environment: Environment, policy: Any, n: int, key: int, discount: float, trace: float) -> Taken:
    """All moves of `n` games between the policy and itself, as `policy.both(states)` (logits and values) has them."""
    games, device = torch.arange(n), device_of(policy)
    state = environment.start(n, uniforms(key, games, 0, environment.draws))
    found: list[tuple[Tensor, ...]] = []
    for number in range(1, environment.longest + 1):
        if not len(games):
            break
        drawn = uniforms(key, games, number, environment.draws + 1)
        seen, mover = environment.see(state), environment.mover(state)
        logits, values = (part.cpu() for part in policy.both(to(seen, device)))
        odds = logits.log_softmax(1)
        actions = choose(odds.exp(), drawn[:, -1])
        chances = odds.gather(1, actions[:, None])[:, 0]
        after, rewards, done = environment.step(state, actions, drawn)
        found.append((games, mover, rewards, values, seen.observations, seen.legal, actions, chances))
        on = (~done).nonzero()[:, 0]
        games, state = games[on], rows(after, on)

    # Backwards, each player's moves as a sequence of its own (GAE, equation 16).
    expected, ahead, earned = torch.zeros(3, n, environment.players)
    if len(games) and environment.breaks_off:  # what would still have come
        expected[games, 0] = policy.both(to(environment.see(state), device))[1].cpu()
    advantages = []
    for games, mover, rewards, values, *_ in reversed(found):
        earned[games] += rewards
        surprise = earned[games, mover] + discount * expected[games, mover] - values
        advantage = surprise + discount * trace * ahead[games, mover]
        advantages.append(advantage)
        expected[games, mover], ahead[games, mover], earned[games, mover] = values, advantage, 0.0
    advantage = torch.cat(advantages[::-1])
    _, _, _, values, observations, legal, actions, chances = (torch.cat(parts) for parts in zip(*found))
    scaled = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    return Taken(observations, legal, actions, chances, scaled, advantage + values)
