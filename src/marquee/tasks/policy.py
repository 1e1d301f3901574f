"""What should one do? Moves in a game, judged by the truth where it is known, and by playing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.games.board_data import BoardData
from marquee.data.games.dataset import GameData, Positions
from marquee.data.games.environment import States
from marquee.data.games.grids import GridData
from marquee.data.games.nothing import Nothing
from marquee.data.games.playing import play_out, to, uniform
from marquee.data.games.poker import Poker
from marquee.data.games.replay import device_of
from marquee.data.games.responding import nash_conv
from marquee.data.games.spec import BoardSpec, CardSpec, GameSpec, GridSpec
from marquee.data.games.streams import stream
from marquee.errors import ConfigError
from marquee.inference.player import GamePlayer
from marquee.metrics.evaluator import Evaluator
from marquee.metrics.playing import DIRECTIONS, CardsEvaluator, GridEvaluator, MovesEvaluator
from marquee.models.baseline.one_ply import OnePly
from marquee.models.baseline.uniform import Uniform
from marquee.models.policy.base import Policy
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule

Monitor = Literal["optimal", "optimal_all", "regret", "nash_conv", "return", "value_gap", "against_random"]
MONITORS: dict[type, Monitor] = {BoardSpec: "optimal", CardSpec: "nash_conv", GridSpec: "return"}
RIVALS = {
    BoardSpec: "model=policy/cloning,policy/dqn,policy/ppo,policy/alphazero",
    CardSpec: "model=tabular/cfr_plus,policy/ppo",
    GridSpec: "model=tabular/q_learning,policy/dqn,policy/ppo",
}
SMALL = 10_000  # states of a board for which the worst opponent is worked out
OPENING = 1  # random moves that begin a game against others on a board, so that not all games are one


class PolicyTask(Task):
    """Moves are judged state by state where their value is known, and by games where not.

    monitor               what early stopping and the best checkpoint go by; null: optimal (boards), nash_conv (cards),
                          return (one player on a map)
    positions             test positions that are judged at most, drawn once; null: all
    validation_positions  likewise of each validation
    games                 test games against random moves, and as many against a perfect player, half of them in each
                          seat; 0: none. Boards only: elsewhere results are computed, not sampled
    evaluation_batch_size positions a step of validation and test
    """

    spec_types = (GameSpec,)
    unit = "position"
    measured = ("positions", "games")
    directions = DIRECTIONS

    def __init__(
        self,
        model: Policy,
        data: GameData,
        optimizer: MakeOptimizer | Mapping[str, MakeOptimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        monitor: Monitor | None = None,
        positions: Annotated[int, Ge(1)] | None = 20_000,
        validation_positions: Annotated[int, Ge(1)] | None = 4_000,
        games: Annotated[int, Ge(0)] = 400,
        evaluation_batch_size: Annotated[int, Ge(1)] = 1024,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        kind = next(base for base in type(data.spec).__mro__ if base in MONITORS)
        self.monitor = monitor or MONITORS[kind]
        self.mode = DIRECTIONS[self.monitor]
        self.kind = kind
        self.games = games
        self.limits = {"validation": validation_positions, "test": positions}
        self.evaluation_batch_size = evaluation_batch_size
        self._refuse_unknown()

    def loss(self, batch: Any) -> Tensor:
        return self.model.loss(batch)

    def judged(self, part: Part) -> np.ndarray:
        """The rows of a part that are judged, ascending: the same in every run."""
        rows, limit = self.data.parts[part], self.limits[part] if self.kind is BoardSpec else None
        if limit is None or limit >= len(rows):
            return rows
        return rows[np.sort(numpy_generator(0, f"judged {part}").permutation(len(rows))[:limit])]

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[Positions]:
        rows, size = self.judged(part)[rank::world], self.evaluation_batch_size
        for start in range(0, len(rows), size):
            yield self.data.positions(rows[start : start + size])

    def scores(self, scorer: Any, batch: Positions) -> Tensor:
        return scorer(batch.states)

    def evaluator(self) -> Evaluator:
        if isinstance(self.data, Poker):
            return CardsEvaluator(self.data.tree)
        if isinstance(self.data, GridData):
            return GridEvaluator(self.data.environment, self.data.values, self.data.discount)
        return MovesEvaluator()

    # Games ----------------------------------------------------------------------------------------------------------

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        metrics, units = super().evaluate(scorer, part)
        return metrics | self.played(scorer, part), units

    def _end_evaluation(self, part: Part) -> None:
        super()._end_evaluation(part)
        played = self.played(self.model, part)
        self.results[part][0].update(played)
        self.log_dict({f"{part}/{name}": value for name, value in played.items()}, rank_zero_only=False)

    @torch.no_grad()
    def played(self, scorer: Any, part: Part) -> dict[str, float]:
        """What only games can tell: on a board, in the test."""
        if part != "test" or not isinstance(self.data, BoardData):
            return {}
        if scorer is self.data.truth and not self.data.solved:
            return {}  # it knows the published positions alone, not the way there
        if isinstance(scorer, torch.nn.Module):  # games are played where the rules are, not on a card
            scorer = partial(_answers, scorer)
        found: dict[str, float] = {}
        if self.games:
            for name, other in self._opponents().items():
                found |= self._matches(scorer, name, other)
        if 0 < self.data.spec.n_states <= SMALL:
            found["nash_conv"] = nash_conv(self.data, scorer)
        return found

    def _opponents(self) -> dict[str, Any]:
        return {"random": uniform} | ({"perfect": self.data.truth} if self.data.solved else {})

    def _matches(self, scorer: Any, name: str, other: Any) -> dict[str, float]:
        half, opening = -(-self.games // 2), OPENING if name == "perfect" else 0
        key = stream(0, f"games against {name}")
        results = [
            play_out(self.data.environment, seats, half, key, opening=opening)[:, seat]
            for seat, seats in enumerate([(scorer, other), (other, scorer)])
        ]
        result = torch.cat(results)
        outcomes = {"win": result > 0, "draw": result == 0, "loss": result < 0}
        return {f"{outcome}_{name}": float(those.double().mean()) for outcome, those in outcomes.items()}

    # Words ----------------------------------------------------------------------------------------------------------

    def _refuse_unknown(self) -> None:
        known = self.metrics_for(self.kind)
        if self.monitor not in known:
            raise ConfigError(
                f"task.monitor={self.monitor} is not measured for this game.\n  allowed: {', '.join(known)}"
            )

    @staticmethod
    def metrics_for(kind: type) -> list[str]:
        """What every validation measures of a kind of game."""
        if kind is CardSpec:
            return ["nash_conv", "against_random", "regret"]
        return ["optimal", "optimal_all", "regret"] + ["return", "value_gap"] * (kind is GridSpec)

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return list(DIRECTIONS)

    def shown(self) -> list[str]:
        if self.kind is CardSpec:
            return ["nash_conv", "against_random", "regret"]
        if self.kind is GridSpec:
            return ["return", "value_gap", "optimal"]
        last = ["loss_perfect"] if self.games and self.data.solved else ["win_random"] * bool(self.games)
        return ["optimal", "regret", "optimal_all", *last]

    def protocol(self) -> str:
        if self.kind is CardSpec:
            return f"all {self.data.spec.n_states} information sets, results exact on the whole tree"
        if self.kind is GridSpec:
            return (
                f"all {len(self.data.parts['test'])} states that a game can come to, beside value iteration (discount "
                f"{self.data.discount}); return exact, {self.data.environment.longest} moves at most"
            )
        n, which = len(self.judged("test")), "" if self.data.solved else "published "
        told = [f"{n} {which}positions of the test part, optimal and regret where moves differ in value"]
        if self.games:
            others = " and against ".join(self._opponents())
            told.append(f"{2 * -(-self.games // 2)} games against {others} play, half in each seat, seed 0")
            told += [f"{OPENING} random move first against perfect play"] * self.data.solved
        return "; ".join(told)

    def baselines(self) -> dict[str, Any]:
        found: dict[str, Any] = {"uniform": Uniform(self.data.spec, view=Nothing())}
        if self.kind is BoardSpec:
            found["one_ply"] = OnePly(self.data.spec, view=Nothing())
        return found

    def predictor(self) -> type[GamePlayer]:
        return GamePlayer

    def requests(self, predictor: GamePlayer, n: int) -> Sequence[Callable[[], Any]]:
        rows = self.judged("test")[:n]
        states = [self.data.positions(rows[i : i + 1]).states for i in range(len(rows))]
        return [lambda given=given: predictor.logits(given) for given in states]

    def many(self, predictor: GamePlayer, n: int) -> tuple[Callable[[], Any], int]:
        rows = self.judged("test")[:n]
        states = self.data.positions(rows).states
        return lambda: predictor.logits(states), len(rows)

    def suggestions(self) -> tuple[str, str]:
        return "advise {run} --position 0" if self.kind is GridSpec else "play {run}", RIVALS[self.kind]


def _answers(model: Policy, states: States) -> Tensor:
    return model(to(states, device_of(model))).cpu()
