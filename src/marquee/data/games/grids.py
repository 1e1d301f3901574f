"""Gymnasium's toy texts FrozenLake and Taxi (extra `games`): all chances are known, so value iteration is the truth."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.games.dataset import Positions, WholeGame, WholeGameData, needs
from marquee.data.games.environment import Environment, States, Step
from marquee.data.games.spec import GridSpec
from marquee.data.games.streams import choose

CLOSE = 1e-6  # values of moves that differ by less are one


class PlaceState(NamedTuple):
    """place: int64 [batch]."""

    place: Tensor


class Process(Environment):
    """A Markov decision process in tables; a game is broken off after `longest` moves.

    places   int64 [states, n_actions, outcomes], where a move may lead
    odds     float32, likewise, how probable that is
    rewards  float32, likewise
    over     bool, likewise, whether the game is over then
    begins   float32 [states], where a game starts
    """

    players = 1
    draws = 1
    breaks_off = True

    def __init__(self, tables: dict[str, Tensor], longest: int):
        self.places, self.odds, self.rewards = tables["places"], tables["odds"], tables["rewards"]
        self.over, self.begins = tables["over"].bool(), tables["begins"]
        self.n_states, self.n_actions, _ = self.places.shape
        self.longest = longest

    def start(self, n: int, drawn: Tensor | None = None) -> PlaceState:
        return PlaceState(choose(self.begins.expand(n, -1), drawn[:, 0]))

    def step(self, state: PlaceState, actions: Tensor, drawn: Tensor | None = None) -> Step:
        outcome = choose(self.odds[state.place, actions], drawn[:, 0])
        at = (state.place, actions, outcome)
        return Step(PlaceState(self.places[at]), self.rewards[at][:, None], self.over[at])

    def mover(self, state: PlaceState) -> Tensor:
        return torch.zeros_like(state.place)

    def see(self, state: PlaceState) -> States:
        seen = torch.nn.functional.one_hot(state.place, self.n_states).float()
        return States(seen, torch.ones(len(seen), self.n_actions, dtype=torch.bool), state.place, state)

    def backed_up(self, values: Tensor, discount: float) -> Tensor:
        """The value of each move where the states behind it have `values` [states]: float64 [states, n_actions]."""
        after = values[self.places] * ~self.over
        return (self.odds.double() * (self.rewards.double() + discount * after)).sum(2)

    def iterated(self, discount: float) -> Tensor:
        """The best possible value of each move, by value iteration (Bellman 1957): float64 [states, n_actions]."""
        values = torch.zeros(self.n_states, dtype=torch.float64)
        for _ in range(100_000):
            moves = self.backed_up(values, discount)
            if float((moves.amax(1) - values).abs().max()) < 1e-10:
                break
            values = moves.amax(1)
        return moves

    def expected(self, policy: Tensor, discount: float, moves: int) -> float:
        """The exact mean return of `policy` [states, n_actions] over that many moves, without playing a game."""
        values = torch.zeros(self.n_states, dtype=torch.float64)
        for _ in range(moves):
            values = (policy.double() * self.backed_up(values, discount)).sum(1)
        return float(self.begins.double() @ values)

    def reached(self) -> Tensor:
        """The states that a game can come to and go on from, bool [states]."""
        found = self.begins > 0
        while True:
            on = (self.odds[found] > 0) & ~self.over[found]
            more = found.clone()
            more[self.places[found][on]] = True
            if bool((more == found).all()):
                return found
            found = more


class Best:
    """Plays at random among the moves with the highest value; `values` [states, n_actions]."""

    def __init__(self, values: Tensor):
        self.values = values

    def __call__(self, states: States) -> Tensor:
        values = self.values[states.index]
        best = values >= values.amax(1, keepdim=True) - CLOSE
        return torch.zeros(values.shape).masked_fill(~best, -float("inf"))


class GridData(WholeGameData):
    """A toy text of gymnasium's. After `setup` also `values`, those of value iteration.

    discount  of a reward for each move that it comes later, in the truth and in the regret
    """

    spec_type = GridSpec
    environment: Process

    def __init__(self, *, discount: Annotated[float, Interval(gt=0, lt=1)] = 0.99):
        self.discount = discount

    def made(self) -> tuple[str, dict[str, Any], int]:
        """The name of gymnasium's, its arguments, and the moves after which it breaks off."""
        raise NotImplementedError

    def setup(self, split: WholeGame, paths: Paths) -> None:
        gym_name, arguments, longest = self.made()
        key = {"gymnasium": gym_name, **arguments}
        self.tables = self.prepared(paths, key, lambda: tables_of(self.name, gym_name, arguments))
        self.environment = Process(self.tables, longest)
        self.values = self.environment.iterated(self.discount)
        rows = self.environment.reached().nonzero()[:, 0].numpy()
        self.all_states(rows)
        n, n_actions = self.values.shape
        self.spec = GridSpec((n,), n_actions, 1, n, self.discount)
        self.facts = {"actions": ACTIONS[self.name], "longest": longest, "discount": self.discount}
        self.report = {"states": n, "that a game can come to": len(rows)}

    def positions(self, rows: np.ndarray) -> Positions:
        index = torch.from_numpy(rows)
        return Positions(self.environment.see(PlaceState(index)), self.values[index].float(), index)

    def oracle(self) -> Best:
        return Best(self.values)


ACTIONS = {
    "frozen_lake": ["left", "down", "right", "up"],
    "taxi": ["south", "north", "east", "west", "pick up", "drop off"],
}


class FrozenLake(GridData):
    """Across slippery ice, past holes, to the goal: reward 1 there, else 0.

    size      side of the map: 4 (100 moves at most) or 8 (200)
    slippery  two of three moves go aside
    """

    name = "frozen_lake"

    def __init__(
        self,
        *,
        size: Literal[4, 8] = 4,
        slippery: bool = True,
        discount: Annotated[float, Interval(gt=0, lt=1)] = 0.99,
    ):
        super().__init__(discount=discount)
        self.size, self.slippery = size, slippery

    def made(self) -> tuple[str, dict[str, Any], int]:
        arguments = {"map_name": f"{self.size}x{self.size}", "is_slippery": self.slippery}
        return "FrozenLake", arguments, 100 if self.size == 4 else 200


class Taxi(GridData):
    """Fetch a passenger and bring him to his hotel (Dietterich 2000): -1 a move, 20 at the end, -10 for a mistake."""

    name = "taxi"

    def made(self) -> tuple[str, dict[str, Any], int]:
        return "Taxi", {}, 200


def tables_of(data: str, name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The tables of a toy text. Raises ConfigError where gymnasium is not installed."""
    try:
        import gymnasium
    except ImportError:
        raise needs("gymnasium", data, "gymnasium") from None
    newest = max(known for known in gymnasium.registry if known.rpartition("-v")[0] == name)
    inside = gymnasium.make(newest, **arguments).unwrapped
    chances = inside.P
    n, n_actions = len(chances), len(chances[0])
    most = max(len(outcomes) for moves in chances.values() for outcomes in moves.values())
    shape = (n, n_actions, most)
    tables = {
        "places": torch.zeros(shape, dtype=torch.int64), "odds": torch.zeros(shape), "rewards": torch.zeros(shape),
        "over": torch.zeros(shape, dtype=torch.uint8), "begins": torch.tensor(inside.initial_state_distrib).float(),
    }  # fmt: skip
    for place, moves in chances.items():
        for action, outcomes in moves.items():
            for i, (odds, after, reward, over) in enumerate(outcomes):
                tables["odds"][place, action, i], tables["places"][place, action, i] = float(odds), int(after)
                tables["rewards"][place, action, i], tables["over"][place, action, i] = float(reward), int(over)
    return tables
