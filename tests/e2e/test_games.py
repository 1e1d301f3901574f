"""Games from training to use: runs that resume to the bit, tables, advice, a game at the terminal, a league."""

import io
import json

import pandas as pd
import pytest

from marquee.config.compose import compose

from .conftest import answer, manifest_of
from .serving import Client
from .test_contracts import found, resumed_as_whole

SMALL_BOARD = ["data=connect_four", "data.width=4", "data.height=3", "data.connect=3"]
TINY = ["tracker=none", "model.dim=4", "model.blocks=1", "callbacks=none"]
SELF_PLAY = ["model.simulations=4", "model.play_simulations=4", "model.view.games=8", "model.view.steps=3",
             "model.view.opening=2", "task.validation_positions=20", "task.positions=40", "task.games=8"]  # fmt: skip


def configured(*words):
    composed = compose(list(words))
    assert [str(problem) for problem in found(composed.config)] == []
    return composed.config


@pytest.fixture
def here(shell, tmp_path):
    (tmp_path / "data").mkdir(exist_ok=True)


# Resume: the last checkpoint's weights, optimisers and buffers, equal to the bit ------------------------------------


def test_ppo_resumes_to_the_bit_and_plays_the_same_games(here):
    resumed_as_whole(configured(*SMALL_BOARD, "model=policy/ppo", *TINY, "model.view.games=16", "task.games=8"))


def test_dqn_resumes_to_the_bit_with_its_buffer(here):
    small = ["model.view.games=8", "model.view.steps=4", "model.view.batch_size=16", "model.view.buffer=100"]
    _, folder = resumed_as_whole(configured(*SMALL_BOARD, "model=policy/dqn", *TINY, *small, "task.games=8"))
    kept = checkpoint(folder)["view"]
    assert len(kept["actions"]) == 100 and set(kept) >= {"before own", "after all", "rewards", "done"}


def test_alphazero_resumes_to_the_bit_with_its_buffer(here):
    _, folder = resumed_as_whole(configured(*SMALL_BOARD, "model=policy/alphazero", *TINY, *SELF_PLAY))
    kept = checkpoint(folder)["view"]
    assert kept["shares"].sum(1).allclose(kept["shares"].new_ones(len(kept["own"])))


def test_a_table_resumes_to_the_bit(here):
    small = ["model.view.games=8", "model.view.steps=4", "model.view.batch_size=64"]
    resumed_as_whole(configured("data=tic_tac_toe", "model=tabular/q_learning", "tracker=none", *small, "task.games=8"))


def checkpoint(folder):
    import torch

    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


# Runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(shared_folder, world_cache, tmp_path_factory):
    """Finished runs: a cloning and an AlphaZero on a small board, CFR+ on Kuhn poker, Q-learning on a lake."""
    import os
    from unittest import mock

    from .commands import environment

    output, folders = tmp_path_factory.mktemp("games") / "outputs", {}
    jobs = {
        "cloned": [*SMALL_BOARD, "model.view.share=0.5", *TINY, "trainer.max_epochs=3", "task.games=20"],
        "searching": [*SMALL_BOARD, "model=policy/alphazero", *TINY, *SELF_PLAY, "trainer.max_epochs=1",
                      "data.threats=false"],
    }  # fmt: skip
    libraries = {}
    for name, package, words in (
        ("kuhn", "pyspiel", ["data=kuhn_poker", "trainer.max_epochs=10"]),
        ("lake", "gymnasium", ["data=frozen_lake", "trainer.max_epochs=3", "model.view.games=64"]),
    ):
        try:
            __import__(package)
            libraries[name] = [*words, "tracker=none", "callbacks=none"]
        except ImportError:
            pass
    with mock.patch.dict(os.environ, environment(output, world_cache)):
        for name, words in (jobs | libraries).items():
            done = answer("train", *words)
            assert done.code == 0, done.err
            folders[name] = (output / "latest").resolve()
    return folders


def run_of(runs, name):
    if name not in runs:
        pytest.skip("needs the libraries of the extra games")
    return runs[name]


def test_a_run_is_recorded_with_baselines_truth_and_decisive_positions(runs):
    manifest = manifest_of(runs["cloned"])
    metrics = {name.removeprefix("test/"): value for name, value in manifest["metrics"].items()}
    assert manifest["oracle"]["optimal"] == 1 and manifest["oracle"]["loss_perfect"] == 0.5  # X always wins here
    assert manifest["oracle"]["nash_conv"] == pytest.approx(0, abs=1e-12)
    assert set(manifest["baselines"]) == {"uniform", "one_ply"}
    assert metrics["optimal"] > manifest["baselines"]["uniform"]["optimal"]
    assert metrics["win_random"] + metrics["draw_random"] + metrics["loss_random"] == pytest.approx(1)
    units = pd.read_parquet(runs["cloned"] / "per_unit.parquet")
    assert list(units) == ["position", "optimal", "regret"] and units["position"].is_monotonic_increasing
    assert metrics["optimal"] == pytest.approx(units["optimal"].mean())
    assert metrics["regret"] == pytest.approx(units["regret"].mean())
    assert manifest["cost"]["latency_ms"] > 0 and manifest["cost"]["batch_latency_ms"] > 0


def test_poker_and_maps_are_judged_by_their_own_metrics(runs):
    kuhn = manifest_of(run_of(runs, "kuhn"))
    assert kuhn["monitor"] == "nash_conv" and kuhn["mode"] == "min" and kuhn["oracle"] is None
    assert kuhn["metrics"]["test/nash_conv"] < 0.05 < kuhn["baselines"]["uniform"]["nash_conv"]
    lake = manifest_of(run_of(runs, "lake"))
    assert lake["metrics"]["test/return"] > lake["baselines"]["uniform"]["return"]
    assert lake["oracle"]["value_gap"] == pytest.approx(0, abs=1e-6)


def test_a_board_on_which_nothing_is_decided_is_refused(shell):
    """2 x 3 with three in a line: after two moves all are as good."""
    done = shell("train", "data=connect_four", "data.width=2", "data.height=3", "data.connect=3", "tracker=none")
    assert done.code == 3 and "positions has moves that differ in value" in done.err and "larger board" in done.err


# Advice --------------------------------------------------------------------------------------------------------------


def test_advice_names_each_move_with_its_truth(runs, tmp_path):
    done = answer("advise", str(runs["cloned"]), "--position", "1221")
    assert done.code == 0, done.err
    assert ". . . ." in done.out and "probability" in done.out and "truth" in done.out
    file = tmp_path / "moves.csv"
    assert answer("advise", str(runs["searching"]), "--position", "12", "--output", str(file)).code == 0
    table = pd.read_csv(file)
    assert sorted(table["move"]) == [1, 2, 3, 4] and table["probability"].sum() == pytest.approx(1)
    assert table["best"].tolist() == (table["truth"] == table["truth"].max()).tolist()


@pytest.mark.parametrize(
    ("name", "position", "told"),
    [
        ("cloned", "11111", "column 1 is full"), ("cloned", "9", "columns 1 to 4"), ("cloned", "a", "no position"),
        ("cloned", "121212", "the game"), ("kuhn", "Kx", "no information set"), ("lake", "5", "goes on"),
        ("lake", "99", "a number from 0 to 15"), ("kuhn", "", "12"), ("lake", "9" * 5000, "a number from 0 to 15"),
        ("cloned", "1," + "9" * 5000, "no position"), ("cloned", "1" * 5000, "column 1 is full"),
    ],
)  # fmt: skip
def test_an_impossible_position_gets_one_clear_error(runs, name, position, told):
    done = answer("advise", str(run_of(runs, name)), "--position", position)
    assert done.code == 2 and told in done.err and "Traceback" not in done.err and done.out == ""
    assert len(done.err) < 600


def test_poker_and_maps_are_advised_too(runs):
    done = answer("advise", str(run_of(runs, "kuhn")), "--position", "kb")
    assert done.code == 0 and "bet" in done.out and "not solved" in done.out
    done = answer("advise", str(run_of(runs, "lake")), "--position", "14")
    assert done.code == 0 and "down" in done.out and "truth" in done.out


def test_a_run_that_plays_no_game_says_what_it_does(trained, runs):
    done = answer("advise", str(trained["ease"]), "--position", "1")
    assert done.code == 2 and "recommends items" in done.err
    done = answer("predict", str(runs["cloned"]), "--text", "x")
    assert done.code == 2 and "plays games" in done.err and "advise" in done.err


# At the terminal -----------------------------------------------------------------------------------------------------


def typed(monkeypatch, lines, *words):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return answer("play", *map(str, words))


def test_a_person_plays_takes_back_and_wins_or_loses(runs, monkeypatch):
    done = typed(monkeypatch, ["x", "undo", "1", "undo", "hint", "quit"], runs["cloned"])
    assert done.code == 0 and "You are X" in done.out
    assert "'x' is no move here. Moves: 1, 2, 3, 4; also: undo, hint, quit" in done.out
    assert "no move of yours to take back" in done.out and "Your last move is taken back." in done.out
    assert "The run would play" in done.out and done.out.endswith("The game was left.\n")
    assert max(map(len, done.out.splitlines())) <= 80
    done = typed(monkeypatch, list("1234") * 12, runs["cloned"], "--second")
    assert "You are O" in done.out
    assert any(word in done.out for word in ("you win", "you lose", "a draw")), done.out


def test_the_end_of_the_input_and_ctrl_c_leave_the_game(runs, monkeypatch):
    done = typed(monkeypatch, [], runs["cloned"])
    assert done.code == 0 and "The game was left." in done.out

    def interrupted(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    done = answer("play", str(runs["cloned"]))
    assert done.code == 130 and "The game was left." in done.err and "Traceback" not in done.err


def test_poker_is_played_for_its_stakes(runs, monkeypatch):
    kuhn = run_of(runs, "kuhn")
    ends = [typed(monkeypatch, ["b", "b"], kuhn, "--seed", seed).out.splitlines()[-1] for seed in range(8)]
    assert all(end.startswith(("You win ", "You lose ")) and "The run had" in end for end in ends)
    assert ends == [typed(monkeypatch, ["b", "b"], kuhn, "--seed", s).out.splitlines()[-1] for s in range(8)]
    assert len(set(ends)) > 1
    assert answer("play", str(run_of(runs, "lake"))).code == 2


def test_a_league_is_a_table_with_intervals(runs, tmp_path, monkeypatch):
    pair = [str(runs["cloned"]), str(runs["searching"])]
    file = tmp_path / "league.json"
    assert answer("play", "--league", *pair, "-n", "40", "--output", str(file)).code == 0
    (row,) = json.loads(file.read_text())
    assert row["won"] + row["drawn"] + row["lost"] == 40
    assert row["low"] < row["score"] < row["high"]
    done = answer("play", "--league", *pair, "-n", "10")
    assert done.code == 0 and "score" in done.out and all(folder.rpartition("/")[2] in done.out for folder in pair)
    for words, told in (
        (["--league", pair[0]], "at least two"), (pair, "--league"), ([pair[0], "-n", "5"], "for a league"),
        (["--league", *pair, "--opening", "12"], "a game has 12 moves at most"),
    ):  # fmt: skip
        done = answer("play", *words)
        assert done.code == 2 and told in done.err
    done = answer("play", "--league", pair[0], str(run_of(runs, "kuhn")))
    assert done.code == 2 and "one game" in done.err


# What fits what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "model"),
    [("kuhn_poker", "policy/cloning"), ("kuhn_poker", "policy/dqn"), ("frozen_lake", "tabular/cfr_plus"),
     ("tic_tac_toe", "tabular/value_iteration"), ("taxi", "policy/alphazero"), ("tic_tac_toe", "cnn/poster")],
)  # fmt: skip
def test_a_learner_of_another_kind_of_game_does_not_fit(data, model):
    composed = compose([f"data={data}", f"model={model}"])
    (problem,) = found(composed.config)
    assert problem.key == "model" and "what fits" in problem.allowed


def test_a_board_without_numbered_states_is_told_which_learner_to_take():
    from marquee.data.games.spec import BoardSpec
    from marquee.models.tabular.q_learning import QLearning

    spec = BoardSpec((2, 6, 7), 7, 2, 0, 7, 6, 4, True, False)
    with pytest.raises(ValueError, match="policy/dqn"):
        QLearning(spec, view=None)


def test_every_game_has_golden_requests_that_come_out_again(runs):
    from marquee.serving.served import open_served, try_golden

    for folder in runs.values():
        served = open_served(folder)
        try_golden(served)
        assert (served.wrong, served.remarks) == ([], []) and (folder / "inference" / "golden.json").is_file()


def test_a_service_advises_as_the_command_line_does(runs, tmp_path):
    file = tmp_path / "moves.json"
    assert answer("advise", str(runs["cloned"]), "--position", "1", "--output", str(file)).code == 0
    client = Client(runs["cloned"])
    try:
        assert client.get("/ready").status_code == 200
        told = client.post("/v1/advise", {"position": "1"}).json()["moves"]
        assert [move["move"] for move in told] == [str(move["move"]) for move in json.loads(file.read_text())]
        assert client.post("/v1/advise", {"position": "x"}).status_code == 400
    finally:
        client.close()
