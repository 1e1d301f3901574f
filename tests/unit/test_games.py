"""The games: rules and truths against second implementations, published counts and results worked out by hand."""

from functools import cache

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.games.board_data import classes
from marquee.data.games.board_games import ConnectFour, TicTacToe
from marquee.data.games.boards import Board, BoardState
from marquee.data.games.dataset import WholeGame
from marquee.data.games.notation import draw_board, read_board
from marquee.data.games.playing import play_out, strategy, uniform
from marquee.data.games.responding import nash_conv
from marquee.data.games.solving import ILLEGAL, TooLarge, keys_of, position_of, solve
from marquee.data.games.streams import choose, uniforms
from marquee.data.holdout import Holdout
from marquee.errors import ConfigError


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games")
    return Paths(folder, folder / "cache")


@pytest.fixture(scope="module")
def tic_tac_toe(places):
    data = TicTacToe()
    data.setup(Holdout(validation=0.1, test=0.1), places)
    return data


# Boards --------------------------------------------------------------------------------------------------------------


def lines(width, height, connect):
    """Every line of a board as cells (column, row), by counting: a second implementation."""
    found = []
    for column in range(width):
        for row in range(height):
            for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
                cells = [(column + i * dx, row + i * dy) for i in range(connect)]
                if all(0 <= x < width and 0 <= y < height for x, y in cells):
                    found.append(frozenset(cells))
    return found


def minimax(width, height, connect, drops):
    """The value of each move of every position, by plain recursion over sets of cells."""
    every, all_lines = [(x, y) for y in range(height) for x in range(width)], lines(width, height, connect)

    def moves(taken):
        if not drops:  # in reading order: the top row first
            return [(n, (n % width, height - 1 - n // width)) for n in range(width * height)
                    if (n % width, height - 1 - n // width) not in taken]  # fmt: skip
        heights = [sum(1 for x, _ in taken if x == column) for column in range(width)]
        return [(column, (column, heights[column])) for column in range(width) if heights[column] < height]

    @cache
    def judged(own, other):
        values = {}
        for move, cell in moves(own | other):
            mine = own | {cell}
            if any(line <= mine for line in all_lines):
                values[move] = 1
            elif len(mine) + len(other) == len(every):
                values[move] = 0
            else:
                values[move] = -max(judged(other, mine).values())
            positions.add((other, mine))
        return values

    positions = {(frozenset(), frozenset())}
    judged(frozenset(), frozenset())
    return judged, positions


@pytest.mark.parametrize(("width", "height", "connect", "drops"), [(3, 3, 3, False), (3, 3, 3, True), (4, 3, 3, True)])
def test_every_value_is_that_of_plain_minimax(width, height, connect, drops):
    board = Board(width, height, connect, drops)
    found = solve(board)
    judged, positions = minimax(width, height, connect, drops)
    assert found["counts"].sum() == len(positions)
    own, everything = position_of(board, found["keys"])
    assert np.array_equal(keys_of(board, own, everything), found["keys"])
    cells = [(bit // (height + 1), bit % (height + 1)) for bit in range(width * (height + 1))]
    for mine, whole, moves in zip(own.tolist(), everything.tolist(), found["moves"]):
        one = frozenset(cell for bit, cell in enumerate(cells) if mine >> bit & 1)
        other = frozenset(cell for bit, cell in enumerate(cells) if (whole ^ mine) >> bit & 1)
        expected = judged(one, other)
        assert {move: value for move, value in enumerate(moves.tolist()) if value != ILLEGAL} == expected


def test_the_known_numbers_of_positions_are_found():
    """5,478 and 161,029, counted before by another program and named in the description of the positions."""
    assert solve(Board(3, 3, 3, False))["counts"].sum() == 5478
    found = solve(Board(4, 4, 4, True))
    assert found["counts"].sum() == 161_029
    start = keys_of(Board(4, 4, 4, True), 0, 0)
    assert found["moves"][np.searchsorted(found["keys"], start)].max() == 0, "a draw between perfect players"


def test_the_share_of_best_moves_of_random_play_is_that_of_the_notes(tic_tac_toe):
    """.405 of decisive states and .580 of all, computed before by another program."""
    moves = tic_tac_toe.truth.moves.numpy()
    best = moves == moves.max(1, keepdims=True)
    share = best.sum(1) / (moves != ILLEGAL).sum(1)
    assert share[share < 1].mean() == pytest.approx(0.405, abs=5e-4)
    assert share.mean() == pytest.approx(0.580, abs=5e-4)


def test_a_board_that_is_too_large_says_how_large_and_what_to_choose(places):
    # By hand: a column of 5 holds 0 to 5 stones of two colours in 1 + 2 + 4 + 8 + 16 + 32 ways.
    with pytest.raises(TooLarge, match=f"{63**5:,} ways to put stones"):
        solve(Board(5, 5, 4, True))
    with pytest.raises(ConfigError, match=r"(?s)data.width=7 data.height=7: .*too large.*data.width=4 data.height=5"):
        ConnectFour(width=7, height=7).setup(Holdout(), places)
    with pytest.raises(ConfigError, match="90 bits"):
        ConnectFour(width=10, height=8).setup(Holdout(), places)
    with pytest.raises(ConfigError, match="data.connect=6"):
        ConnectFour(width=4, height=5, connect=6).setup(Holdout(), places)


def test_threats_are_the_cells_that_complete_a_line():
    """By hand: X on 1 and 2 of tic-tac-toe completes at 3; O on 4 and 6 at 5."""
    board = Board(3, 3, 3, False, threats=True)
    own, everything = board.played([0, 3, 1, 5])
    seen = board.see(BoardState(torch.tensor([own]), torch.tensor([everything])))
    planes = seen.observations[0].flatten(1)
    assert [plane.nonzero()[:, 0].tolist() for plane in planes] == [[0, 1], [3, 5], [2], [4]]
    assert seen.legal[0].nonzero()[:, 0].tolist() == [2, 4, 6, 7, 8]


def test_mirror_images_and_turns_are_in_one_part(tic_tac_toe):
    board, keys = tic_tac_toe.environment, tic_tac_toe.truth.keys.numpy()
    groups = classes(board, keys)
    # 765 essentially different positions, of which 138 are ends (a published count): 627 where somebody has to move.
    assert len(np.unique(groups)) == 765 - 138
    part_of = {row: name for name, rows in tic_tac_toe.parts.items() for row in rows}
    for group in np.unique(groups)[::20]:
        assert len({part_of[row] for row in np.flatnonzero(groups == group)}) == 1
    # A turned position has the turned values.
    rows = np.arange(0, len(keys), 97)
    for turn, (cells, _) in enumerate(board.symmetries):
        own, everything = position_of(board, keys[rows])
        turned = keys_of(board, board.turned(own, cells), board.turned(everything, cells))
        there = np.searchsorted(keys, turned)
        shown = tic_tac_toe.choices(rows, turn)
        expected = tic_tac_toe.positions(there)
        assert torch.equal(shown.truth, expected.truth)
        assert torch.equal(shown.observations, expected.states.observations)


def test_games_between_perfect_players_are_drawn_and_random_play_loses(tic_tac_toe):
    board, truth = tic_tac_toe.environment, tic_tac_toe.truth
    assert play_out(board, [truth, truth], 50, 1).abs().max() == 0
    results = play_out(board, [truth, uniform], 200, 1)
    assert results[:, 0].min() == 0 and results[:, 0].mean() > 0.9
    assert nash_conv(tic_tac_toe, truth) == 0
    expected = best_against_random(0) + best_against_random(1)
    assert nash_conv(tic_tac_toe, uniform) == pytest.approx(expected, abs=1e-9)


def best_against_random(seat):
    """What the best player in a seat can expect against random moves, by recursion over sets of cells."""
    all_lines = lines(3, 3, 3)
    every = [(x, y) for x in range(3) for y in range(3)]

    @cache
    def worth(own, other):  # for who has to move, where `other` has just moved
        if any(line <= other for line in all_lines):
            return -1.0
        free = [cell for cell in every if cell not in own | other]
        if not free:
            return 0.0
        after = [-worth(other, own | {cell}) for cell in free]
        return max(after) if len(own | other) % 2 == seat else sum(after) / len(after)

    return worth(frozenset(), frozenset()) * (1 if seat == 0 else -1)


def test_a_game_is_the_same_whatever_is_played_beside_it(tic_tac_toe):
    few = play_out(tic_tac_toe.environment, [uniform, uniform], 10, 7)
    many = play_out(tic_tac_toe.environment, [uniform, uniform], 300, 7)
    assert torch.equal(few, many[:10])
    assert not torch.equal(few, play_out(tic_tac_toe.environment, [uniform, uniform], 10, 8))
    numbers = uniforms(5, torch.arange(20_000), 3, 2)
    assert torch.equal(numbers[7:9], uniforms(5, torch.tensor([7, 8]), 3, 2))
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.01) and float(numbers.var()) == pytest.approx(
        1 / 12, abs=0.002
    )
    assert abs(float(torch.corrcoef(numbers.T)[0, 1])) < 0.03


def test_what_has_no_probability_is_never_chosen():
    odds = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    for drawn in (0.0, 0.25, 0.75, 1 - 2**-24):
        chosen = choose(odds, torch.full((3,), drawn))
        assert bool((odds.gather(1, chosen[:, None]) > 0).all())
    assert choose(odds[1:2].expand(4, 3), torch.tensor([0.0, 0.49, 0.51, 0.99])).tolist() == [0, 0, 2, 2]


def test_moves_that_tie_are_equally_likely():
    logits = torch.tensor([[1.0, 1.0, -float("inf"), 0.5]])
    assert strategy(logits, mixes=False).tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert strategy(torch.tensor([[0.0, -float("inf")]]), mixes=True).tolist() == [[1.0, 0.0]]


def test_positions_are_read_and_drawn():
    board = Board(7, 6, 4, True)
    state, moves = read_board(board, "4453")
    assert moves == [3, 3, 4, 2]
    assert draw_board(board, int(state.own), int(state.all)).splitlines() == [
        ". . . . . . .", ". . . . . . .", ". . . . . . .", ". . . . . . .", ". . . O . . .", ". . O X X . .",
        "1 2 3 4 5 6 7",
    ]  # fmt: skip
    for text, told in (("8", "columns 1 to 7"), ("4x", "no position"), ("1111111", "column 1 is full"),
                       ("1212121", "X has won"), ("12121213", "over after 7 moves")):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            read_board(board, text)


def test_published_positions_have_the_published_values(real_data, tmp_path):
    """The signs of the scores of Pascal Pons's End-Easy set, all 1,000."""
    data = ConnectFour(width=7, height=6)
    data.setup(Holdout(validation=0.2, test=0.6), Paths(real_data, tmp_path))
    assert not data.solved and sum(map(len, data.parts.values())) == 1000
    lines_ = (real_data / "connect-four" / "Test_L3_R1.txt").read_text().splitlines()
    own, everything = zip(*(data.environment.played([int(c) - 1 for c in line.split()[0]]) for line in lines_))
    values = data.truth.values(BoardState(torch.tensor(own), torch.tensor(everything))).amax(1)
    assert values.tolist() == [np.sign(int(line.split()[1])) for line in lines_]
    assert torch.isnan(data.truth.values(BoardState(torch.zeros(1).long(), torch.zeros(1).long()))).all()


# Cards ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kuhn(places):
    pytest.importorskip("pyspiel", reason="needs OpenSpiel (extra games)")
    from marquee.data.games.poker import KuhnPoker

    data = KuhnPoker()
    data.setup(WholeGame(), places)
    return data


def test_the_best_response_to_random_poker_is_the_published_one(kuhn, places):
    """NashConv of uniform play, as OpenSpiel's own algorithm has it: 11/12 in Kuhn, 4.7472 in Leduc."""
    from marquee.data.games.poker import LeducPoker

    assert kuhn.tree.nash_conv(kuhn.tree.uniform) == pytest.approx(11 / 12, abs=1e-9)
    leduc = LeducPoker()
    leduc.setup(WholeGame(), places)
    assert leduc.spec.n_states == 936
    assert leduc.tree.nash_conv(leduc.tree.uniform) == pytest.approx(4.7472, abs=5e-5)
    assert {"J1:", "K2:rc/Q1:r"} <= set(leduc.names)


def test_nash_conv_is_that_of_openspiel(kuhn):
    """A second implementation, on a strategy that is not symmetric."""
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python.algorithms import exploitability
    from open_spiel.python.policy import TabularPolicy

    policy = torch.rand(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    policy = policy / policy.sum(1, keepdim=True)
    theirs = TabularPolicy(pyspiel.load_game("kuhn_poker"))
    for name, row in theirs.state_lookup.items():
        theirs.action_probability_array[row] = policy[kuhn.names.index("JQK"[int(name[0])] + name[1:])].numpy()
    assert kuhn.tree.nash_conv(policy) == pytest.approx(exploitability.nash_conv(theirs.game, theirs), abs=1e-9)


def test_cfr_plus_finds_the_value_of_kuhn_poker(kuhn):
    """-1/18 for the first player (Kuhn 1950); the king is always bet when a bet may be called."""
    from marquee.data.games.nothing import Nothing
    from marquee.models.tabular.cfr_plus import CFRPlus

    model = CFRPlus(kuhn.spec, view=Nothing(), iterations=300)
    model.prepare(kuhn)
    model.fit(None)
    policy = strategy(model(kuhn.environment.infosets(torch.arange(12))), mixes=True).double()
    assert float(kuhn.tree.values(kuhn.tree.odds(policy))[0, 0]) == pytest.approx(-1 / 18, abs=1e-3)
    assert kuhn.tree.nash_conv(policy) < 0.005
    assert policy[kuhn.names.index("Kb"), 1] > 0.99 and policy[kuhn.names.index("Jb"), 1] < 0.01


def test_played_poker_pays_what_the_tree_says(kuhn):
    """The mean of 20,000 games beside the exact value of the strategies, within four standard errors."""
    odds = torch.where((kuhn.tree.owner == 0)[:, None], torch.tensor([0.2, 0.8]), torch.tensor([0.6, 0.4])).double()
    results = play_out(kuhn.environment, [lambda states: odds[states.index].log()] * 2, 20_000, 3, mixes=True)
    exact = float(kuhn.tree.values(kuhn.tree.odds(odds))[0, 0])
    assert float(results[:, 0].mean()) == pytest.approx(exact, abs=4 * float(results[:, 0].std()) / 20_000**0.5)
    assert bool((results.sum(1) == 0).all())


def test_without_the_library_it_is_said_what_to_install(places, monkeypatch):
    import sys

    from marquee.data.games.grids import tables_of
    from marquee.data.games.poker import enumerate_tree

    monkeypatch.setitem(sys.modules, "pyspiel", None)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match=r"pip install open_spiel"):
        enumerate_tree("kuhn_poker")
    with pytest.raises(ConfigError, match=r"pip install gymnasium"):
        tables_of("taxi", "Taxi", {})


# Maps ----------------------------------------------------------------------------------------------------------------


def test_value_iteration_and_exact_returns_by_hand():
    """Two places; `go` leads to the end with probability 1/2 and pays 1, `stay` pays .1: V = 1 / (2 - .9)."""
    from marquee.data.games.grids import Process

    tables = {
        "places": torch.tensor([[[0, 1], [0, 0]], [[1, 1], [1, 1]]]),
        "odds": torch.tensor([[[0.5, 0.5], [1.0, 0.0]]] * 2),
        "rewards": torch.tensor([[[0.0, 2.0], [0.1, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]),
        "over": torch.tensor([[[0, 1], [0, 0]], [[1, 1], [1, 1]]]), "begins": torch.tensor([1.0, 0.0]),
    }  # fmt: skip
    process = Process(tables, longest=5)
    values = process.iterated(0.9)
    best = 1 / (1 - 0.45)  # V = .5 * 2 + .5 * .9 * V
    assert values[0].tolist() == pytest.approx([best, 0.1 + 0.9 * best])
    # .1 + .9 V is more than V only where V < 1, so `stay` is worse here.
    go = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert process.expected(go, 1.0, 3) == pytest.approx(1 + 0.5 + 0.25)
    assert process.reached().tolist() == [True, False]


def test_frozen_lake_and_taxi_are_those_of_gymnasium(places):
    """FrozenLake beside its own tables, and exact returns beside games that are played."""
    gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium (extra games)")
    from marquee.data.games.grids import FrozenLake, Taxi

    for lake, states in ((Taxi(), 500), (FrozenLake(), 16)):
        lake.setup(WholeGame(), places)
        results = play_out(lake.environment, [lake.oracle()], 4000, 1)
        best = strategy(lake.oracle()(lake.positions(np.arange(states)).states), mixes=False)
        mean = lake.environment.expected(best, 1.0, lake.environment.longest)
        assert float(results.mean()) == pytest.approx(mean, abs=4 * float(results.std()) / 4000**0.5)
    theirs = gymnasium.make("FrozenLake-v1").unwrapped.P
    for place, action in ((0, 2), (14, 1), (6, 0)):
        ours = lake.environment
        got = sorted(zip(ours.places[place, action].tolist(), ours.rewards[place, action].tolist()))
        assert got == sorted((int(after), float(reward)) for _, after, reward, _ in theirs[place][action])
