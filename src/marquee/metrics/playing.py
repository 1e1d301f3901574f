"""How well a game is played, from what a policy would do in each of many states."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.data.games.dataset import Positions
from marquee.data.games.grids import Process
from marquee.data.games.playing import strategy
from marquee.data.games.tree import Tree
from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator

CLOSE = 1e-5  # values of moves that differ by less are one; they are held as float32
# What is better of each metric.
DIRECTIONS = {
    "optimal": "max", "optimal_all": "max", "regret": "min", "nash_conv": "min", "return": "max", "value_gap": "min",
    "win_random": "max", "draw_random": "max", "loss_random": "min", "win_perfect": "max", "draw_perfect": "max",
    "loss_perfect": "min", "against_random": "max",
}  # fmt: skip


class MovesEvaluator(Evaluator):
    """Moves beside the exact value of each move. Units are the decisive states, where moves differ in value.

    optimal      share of decisive states in which a move of the highest value is made; of moves that tie, the mean
    optimal_all  likewise over all states, those included where any move is as good: it flatters whoever plays at random
    regret       how much less than the best move the move is worth, mean over decisive states
    """

    def __init__(self) -> None:
        self.parts: list[dict[str, np.ndarray]] = []

    def update(self, scores: Tensor, batch: Positions) -> None:
        policy = strategy(finite(scores, batch.states.legal), mixes=False).cpu()
        truth = batch.truth.cpu().masked_fill(~batch.states.legal.cpu(), -float("inf"))
        best = truth.amax(dim=1, keepdim=True)
        optimal = truth >= best - CLOSE
        decisive = optimal.sum(1) < batch.states.legal.cpu().sum(1)
        worth = truth.masked_fill(policy == 0, 0)
        self.parts.append(
            {
                "rows": batch.rows.cpu().numpy(),
                "policy": policy.numpy(),
                "optimal": (policy * optimal).sum(1).numpy(),
                "regret": (best[:, 0] - (policy * worth).sum(1)).clamp(min=0).numpy(),
                "decisive": decisive.numpy(),
            }
        )

    def state(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        found = joined(states)
        decisive = found["decisive"]
        units = pd.DataFrame(
            {"position": found["rows"][decisive]}
            | {name: found[name][decisive].astype(np.float64) for name in ("optimal", "regret")}
        )
        metrics = {name: float(units[name].mean()) for name in ("optimal", "regret")}
        return metrics | {"optimal_all": float(found["optimal"].astype(np.float64).mean())}, units


class GridEvaluator(MovesEvaluator):
    """Moves on a map whose chances are known; what they bring is computed, not sampled.

    return     exact mean of the rewards of a game, undiscounted, until it ends or is broken off
    value_gap  how much less than the best policy the moves are worth from the start, discounted, without an end
    """

    def __init__(self, process: Process, values: Tensor, discount: float):
        super().__init__()
        self.process, self.values, self.discount = process, values, discount

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        metrics, units = super().compute(states)
        found = joined(states)
        policy = torch.zeros(self.values.shape, dtype=torch.float64)
        policy[torch.from_numpy(found["rows"])] = torch.from_numpy(found["policy"]).double()
        horizon = int(np.ceil(np.log(1e-9) / np.log(self.discount)))
        best = float(self.process.begins.double() @ self.values.amax(1))
        metrics["return"] = self.process.expected(policy, 1.0, self.process.longest)
        metrics["value_gap"] = max(0.0, best - self.process.expected(policy, self.discount, horizon))
        return metrics, units


class CardsEvaluator(Evaluator):
    """A strategy for every information set of a game of two, judged on its whole tree.

    nash_conv       what both players together would gain if each knew the other's strategy; 0 in an equilibrium
    against_random  exact mean result against random moves, over both seats
    regret          a unit is an information set: what its best move would gain there, all else played as it is, where
                    chance and the other lead there; the mean over information sets that they lead to
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self.parts: list[dict[str, np.ndarray]] = []

    def update(self, scores: Tensor, batch: Positions) -> None:
        policy = strategy(finite(scores, batch.states.legal), mixes=True)
        self.parts.append({"rows": batch.rows.cpu().numpy(), "policy": policy.cpu().numpy()})

    state = MovesEvaluator.state

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        found, tree = joined(states), self.tree
        policy = tree.uniform.clone()
        policy[torch.from_numpy(found["rows"])] = torch.from_numpy(found["policy"]).double()
        policy = policy / policy.sum(1, keepdim=True)
        gains, weights = tree.gains(policy), tree.arriving(policy)
        regret = gains.masked_fill(~tree.legal, -float("inf")).amax(1) - (gains * policy).sum(1)
        there = (weights > 0).nonzero()[:, 0]
        units = pd.DataFrame({"position": there.numpy(), "regret": (regret / weights)[there].clamp(min=0).numpy()})
        metrics = {"nash_conv": tree.nash_conv(policy), "regret": float(units["regret"].mean())}
        results = []
        for seat in range(2):
            mixed = torch.where((tree.owner == seat)[:, None], policy, tree.uniform)
            results.append(float(tree.values(tree.odds(mixed))[0, seat]))
        return metrics | {"against_random": sum(results) / 2}, units


def finite(scores: Tensor, legal: Tensor) -> Tensor:
    """Logits with illegal moves at -inf. Raises JobError where a legal move has no finite best logit."""
    scores = scores.masked_fill(~legal.to(scores.device), -float("inf"))
    if bool(scores.isnan().any()) or bool((scores.amax(1).isinf()).any()):
        raise JobError(
            "The policy gave scores that are not finite. Lower the learning rate (optimizer.lr=...) or clip gradients "
            "(trainer.gradient_clip_val=1)."
        )
    return scores


def joined(states: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The states of all processes, sorted by row."""
    found = {name: np.concatenate([state[name] for state in states]) for name in states[0]}
    order = np.argsort(found["rows"], kind="stable")
    return {name: values[order] for name, values in found.items()}


def wilson(points: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` games (Wilson 1927); with draws as halves it is wider than need be."""
    z, share = 1.959964, points / n
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)
