"""Games: thousands at once beside one after the other, and epochs of PPO and DQN beside plain loops.

The plain loops play the same games with the same rules, and have their networks, losses and steps from torch.nn alone.
"""

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.training import compare
from benchmarks.workspace import Workspace

AT_ONCE = ["model.view.games=512"]


def steps(space: Workspace) -> Measured:
    """CPU microseconds of a random move of Connect Four, 7 x 6, with what a network would read of the board.

    4,096 games at once, beside the environment that OpenSpiel's own learners step through (without OpenSpiel: beside
    games on Python's integers).
    """
    from marquee.data.games.boards import Board
    from marquee.data.games.playing import play_out, uniform

    board, made = Board(7, 6, 4, drops=True, threats=False), {"ours": 0, "theirs": 0}
    many, few, one_game = space.of(4096, 4096, 16), space.of(200, 50, 2), _one_game(board)

    def counted(states: Any) -> torch.Tensor:
        made["ours"] += len(states.legal)
        return uniform(states)

    def ours() -> None:
        play_out(board, [counted, counted], many, key=made["ours"])

    def theirs() -> None:
        made["theirs"] += sum(one_game() for _ in range(few))

    runs = space.of(5, 3, 1)
    spent = in_turns(runs, ours, theirs)
    each = [1e6 * seconds / (made[name] / runs) for seconds, name in zip(spent, ("ours", "theirs"), strict=True)]
    return Measured(*each, synthetic=space.quick)


def _one_game(board: Any) -> Callable[[], int]:
    """What plays a random game to its end, and returns its moves."""
    try:
        from open_spiel.python import rl_environment
    except ImportError:
        return lambda: _on_integers(board)
    environment = rl_environment.Environment("connect_four")

    def play() -> int:
        step, moves = environment.reset(), 0
        while not step.last():
            legal = step.observations["legal_actions"][step.observations["current_player"]]
            step, moves = environment.step([random.choice(legal)]), moves + 1
        return moves

    return play


def _on_integers(board: Any) -> int:
    own, everything, moves = 0, 0, 0
    while everything != board.full and not board.wins(everything ^ own):
        legal = [action for action in range(7) if not everything >> (action * 7 + 5) & 1]
        stone = board.put(everything, random.choice(legal))
        own, everything, moves = everything ^ own, everything | stone, moves + 1
    return moves


def plain(loss_of: Callable[[Any, Any], torch.Tensor]) -> Callable[[Any, int | None], Callable[[int], float]]:
    """What makes, for a task, the plain loop of an epoch, the games included."""

    def prepared(task: Any, steps: int | None) -> Callable[[int], float]:
        network, view = copy.deepcopy(task.model).train(), copy.deepcopy(task.model.view)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

        def epoch(number: int) -> float:
            start = cpu_seconds()
            policy = copy.deepcopy(network).eval().requires_grad_(False)
            for index, batch in enumerate(view.train_batches(task.data, task.seed, number, policy)):
                if steps is not None and index == steps:
                    break
                optimizer.zero_grad()
                loss_of(network, batch).backward()
                optimizer.step()
            return cpu_seconds() - start

        return epoch

    return prepared


def ppo_by_hand(network: nn.Module, batch: Any) -> torch.Tensor:
    """The clipped objective, the error of the value, the entropy."""
    features = network.trunk(batch.observations)
    odds = F.log_softmax(network.moves(features).masked_fill(~batch.legal, -1e9), 1)
    ratio = (odds.gather(1, batch.actions[:, None])[:, 0] - batch.chances).exp()
    gain = torch.min(ratio * batch.advantages, ratio.clamp(0.8, 1.2) * batch.advantages).mean()
    entropy = -(odds.exp() * odds).sum(1).mean()
    return 0.5 * F.mse_loss(network.result(features)[:, 0], batch.returns) - gain - 0.01 * entropy


def dqn_by_hand(network: nn.Module, batch: Any) -> torch.Tensor:
    """Double Q-learning in a game for two."""
    with torch.no_grad():
        ahead = network.output(network.trunk(batch.after.observations)).masked_fill(~batch.after.legal, -1e9)
        best = batch.judged.gather(1, ahead.argmax(1, keepdim=True))[:, 0]
        target = batch.rewards - torch.where(batch.done, 0.0, best)
    made = network.output(network.trunk(batch.before.observations)).gather(1, batch.actions[:, None])[:, 0]
    return F.smooth_l1_loss(made, target)


def learner(model: str, by_hand: Callable[[Any, Any], torch.Tensor]) -> Callable[[Workspace], Measured]:
    """An epoch of a learner as it is shipped."""
    few = {"full": AT_ONCE, "quick": ["model.view.games=64"], "once": ["model.view.games=8", "model.dim=4"]}
    return lambda space: compare(space, "games", plain(by_hand), f"model={model}", *few[space.size], runs=5)


BENCHMARKS = [
    Benchmark("game_moves", "ratio", 0.25, "CPU µs/move", "game by game", steps),
    Benchmark("ppo_epoch", "ratio", 1.1, "CPU s/epoch", "hand-written loop", learner("policy/ppo", ppo_by_hand)),
    Benchmark("dqn_epoch", "ratio", 1.1, "CPU s/epoch", "hand-written loop", learner("policy/dqn", dqn_by_hand)),
]
