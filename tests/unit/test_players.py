"""What learners of games are told: targets and advantages by hand, tables and searches beside the truth."""

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.games.board_games import TicTacToe
from marquee.data.games.boards import Board, BoardState
from marquee.data.games.dataset import Positions
from marquee.data.games.environment import States
from marquee.data.games.grids import PlaceState, Process
from marquee.data.games.playing import uniform
from marquee.data.games.replay import Moves, Replay, moves
from marquee.data.games.rollouts import roll_out
from marquee.data.games.spec import GridSpec
from marquee.data.holdout import Holdout
from marquee.errors import JobError
from marquee.metrics.playing import MovesEvaluator, wilson
from marquee.models.policy.dqn import backed_up
from marquee.models.policy.search import search
from marquee.models.tabular.q_learning import QLearning


def line(n=3, longest=10):
    """Places 0 ... n-1 in a row; action 1 goes on and pays 1 at the end, action 0 stays."""
    places = torch.tensor([[[i], [min(i + 1, n - 1)]] for i in range(n)])
    over = torch.zeros(n, 2, 1, dtype=torch.uint8)
    over[n - 1, 1] = 1
    rewards = torch.zeros(n, 2, 1)
    rewards[n - 1, 1] = 1.0
    begins = torch.zeros(n)
    begins[0] = 1
    tables = {"places": places, "odds": torch.ones(n, 2, 1), "rewards": rewards, "over": over, "begins": begins}
    return Process(tables, longest)


class Always:
    """Chooses one action and expects a value a place."""

    def __init__(self, action, values):
        self.action, self.expected = action, torch.tensor(values)

    def parameters(self):
        return iter(())

    buffers = parameters

    def both(self, states):
        logits = torch.full((len(states.index), 2), -50.0)
        logits[:, self.action] = 50.0
        return logits, self.expected[states.index]

    def __call__(self, states):
        return self.both(states)[0]


def test_advantages_are_those_worked_out_by_hand():
    """Three moves, discount .5, lambda .5, values .1 .2 .3: the surprises are 0, -.05 and .7."""
    taken = roll_out(line(), Always(1, [0.1, 0.2, 0.3]), 1, 1, 0.5, 0.5)
    assert taken.actions.tolist() == [1, 1, 1]
    third = 1 - 0.3
    second = (0.5 * 0.3 - 0.2) + 0.25 * third
    first = (0.5 * 0.2 - 0.1) + 0.25 * second
    assert taken.returns.tolist() == pytest.approx([first + 0.1, second + 0.2, third + 0.3])
    assert float(taken.advantages.mean()) == pytest.approx(0, abs=1e-6)
    assert float(taken.advantages.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_a_game_that_is_broken_off_is_worth_what_is_expected_of_it():
    taken = roll_out(line(longest=2), Always(0, [0.4, 0.0, 0.0]), 1, 1, 0.5, 1.0)
    # By hand: standing still twice at 0, worth .4 after that: .5 * .4 and .25 * .4.
    assert taken.returns.tolist() == pytest.approx([0.1, 0.2])


def test_each_player_of_a_game_for_two_gets_the_result_of_its_own(tmp_path):
    class Drops(Always):
        def both(self, states):
            return uniform(states), torch.zeros(len(states.legal))

    board = Board(3, 3, 3, drops=False)
    taken = roll_out(board, Drops(0, [0.0]), 40, 1, 1.0, 1.0)
    # With lambda 1 the return is the result: moves of even and odd numbers of stones belong to opponents.
    stones = taken.observations[:, :2].sum((1, 2, 3)).int()
    assert set(taken.returns.tolist()) <= {-1.0, 0.0, 1.0}
    for parity in (0, 1):
        assert len(set(taken.returns[stones % 2 == parity].tolist())) > 1
    last = taken.returns[-1]  # who moved last has won, or all is drawn
    assert last >= 0


def test_targets_turn_round_between_two_players():
    batch = Moves(None, None, torch.tensor([0.0, 1.0, 0.5]), torch.tensor([False, True, False]), None, None)
    after = torch.tensor([0.4, float("-inf"), 0.2])
    assert backed_up(batch, after, 1.0, players=2).tolist() == pytest.approx([-0.4, 1.0, 0.3])
    assert backed_up(batch, after, 0.5, players=1).tolist() == pytest.approx([0.2, 1.0, 0.6])


def test_q_learning_finds_the_values_of_a_line_by_hand():
    """1, .5 and .25 going on, half of it standing still, with discount .5."""
    process, spec = line(), GridSpec((3,), 2, 1, 3, 0.5)
    model = QLearning(spec, view=Replay(), rate=1.0)
    made = moves(process, Always(1, [0.0] * 3), 50, 1, at_random=0.5)
    before, after = (process.see(PlaceState(made[f"{side} place"])) for side in ("before", "after"))
    batch = Moves(before, made["actions"], made["rewards"], made["done"], after, None)
    for _ in range(4):
        model.fit(batch)
    assert model.table[:, 1].tolist() == pytest.approx([0.25, 0.5, 1.0])
    assert model.table[:, 0].tolist() == pytest.approx([0.125, 0.25, 0.5])


def test_a_search_without_a_network_plays_perfectly_where_it_looks_at_everything(tmp_path):
    """The end of tic-tac-toe, five and more stones, 300 simulations: no move loses value, beside the solved table."""
    data = TicTacToe()
    data.setup(Holdout(validation=0.1, test=0.1), Paths(tmp_path, tmp_path / "cache"))
    board, keys = data.environment, data.truth.keys
    rows = np.arange(0, len(keys), 5)
    states = data.states(rows)
    late = board.count(states.state.all) >= 5
    roots = BoardState(states.state.own[late], states.state.all[late])

    def blind(state):
        legal = board.see(state).legal.float()
        return legal / legal.sum(1, keepdim=True), torch.zeros(len(legal))

    found = search(board, blind, roots, 300, 1.5)
    values = data.truth.values(roots)
    chosen = values.gather(1, found.visits.argmax(1, keepdim=True))[:, 0]
    assert bool((chosen == values.amax(1)).all())
    assert bool((found.visits.sum(1) == 300).all())
    assert bool((found.visits[~board.see(roots).legal] == 0).all())
    # The search of one position does not depend on those beside it.
    alone = search(board, blind, BoardState(roots.own[3:4], roots.all[3:4]), 300, 1.5)
    assert torch.equal(alone.visits[0], found.visits[3])


def test_metrics_by_hand():
    """Two decisive states and one where all is the same: best, half of a tie that is half wrong, anything."""
    truth = torch.tensor([[1.0, -1.0, -torch.inf], [0.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    legal = truth > -torch.inf
    scores = torch.tensor([[2.0, 1.0, 9.0], [3.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    evaluator = MovesEvaluator()
    states = States(torch.zeros(3, 1), legal, torch.arange(3))
    evaluator.update(scores, Positions(states, truth, torch.tensor([5, 7, 9])))
    metrics, units = evaluator.compute([evaluator.state()])
    assert metrics == {"optimal": 0.75, "regret": 0.25, "optimal_all": pytest.approx(2.5 / 3)}
    assert units["position"].tolist() == [5, 7] and units["regret"].tolist() == [0.0, 0.5]
    with pytest.raises(JobError, match="not finite"):
        evaluator.update(scores * torch.nan, Positions(states, truth, torch.arange(3)))


def test_wilsons_interval_is_the_published_one():
    """81 of 263: .2553 to .3662 (Newcombe 1998, table I)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
