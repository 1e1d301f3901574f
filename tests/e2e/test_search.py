"""Searches as they are typed: killed and issued again, pruned across processes, and the winner kept as a recipe."""

import json
import os
import re
import shlex
import signal
import time
from types import SimpleNamespace
from unittest import mock

import optuna
import pytest

from marquee.config.compose import compose
from marquee.config.fingerprint import identity
from marquee.search.study import open_storage

from .commands import FAST, begin, environment
from .conftest import answer

SEARCH = ["train", "-m", "hydra/sweeper=optuna", "tracker=none", "sweep=tune", *FAST["bpr"], "hydra.sweeper.space=none",
          "optimizer.lr=tag(log,interval(1e-3,1e-1))", "model.l2=tag(log,interval(1e-3,1e-1))"]  # fmt: skip


def marquee(*words, output, cache, **further):
    """In this process, whose jobs are forked from what is imported already."""
    with mock.patch.dict(os.environ, {**environment(output, cache), **further}):
        done = answer(*words)
    return SimpleNamespace(returncode=done.code, stdout=done.out, stderr=done.err)


def trials(output):
    storage = open_storage(f"sqlite:///{output}/sweeps/tune/study.db")
    return optuna.load_study(study_name="tune/mf/bpr", storage=storage).trials


def test_a_search_killed_part_way_and_issued_again_ends_as_one_that_was_not(tmp_path, world_cache):
    words = [*SEARCH, "trainer.max_epochs=4", "hydra.sweeper.n_trials=3"]
    whole = marquee(*words, output=tmp_path / "whole", cache=world_cache)
    assert whole.returncode == 0, whole.stderr
    ended = [line for line in whole.stdout.splitlines() if line.startswith("[")]
    assert [line[:5] for line in ended] == ["[1/3]", "[2/3]", "[3/3]"]
    assert all(
        re.fullmatch(r"\[./3\] finished  optimizer\.lr=\S+ model\.l2=\S+  validation ndcg@10 .*", line)
        for line in ended
    )
    output = tmp_path / "outputs"
    killed = begin(*words, env=environment(output, world_cache))
    try:
        _wait_for_epochs(output, 2, killed)  # into the second trial
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert [trial.state.name for trial in trials(output)] == ["COMPLETE", "RUNNING"]
    again = marquee(*words, output=output, cache=world_cache)
    assert again.returncode == 0, again.stderr
    assert [trial.state.name for trial in trials(output)] == ["COMPLETE"] * 3
    assert [(t.number, t.params, t.value) for t in trials(output)] == [
        (t.number, t.params, t.value) for t in trials(tmp_path / "whole")
    ]
    manifests = [json.loads(file.read_text()) for file in output.glob("runs/*/manifest.json")]
    assert len(manifests) == 3, "the run of the trial that was interrupted was continued"
    best = max(trials(output), key=lambda trial: trial.value)
    assert f"in trial {best.number}: " in again.stdout and "marquee train data=world_ratings" in again.stdout
    # Once more: nothing is left to do. With another space under this name: no.
    assert marquee(*words, output=output, cache=world_cache).returncode == 0
    assert len(list(output.glob("runs/*/manifest.json"))) == 3
    refused = marquee(*words, "model.dim=4,8", output=output, cache=world_cache)
    assert refused.returncode == 2 and "made with other settings" in refused.stderr


def _wait_for_epochs(output, runs, process):
    """Until so many runs have written a row of their curves."""
    for _ in range(6000):
        if len(list(output.glob("runs/*/checkpoints/last.ckpt"))) >= runs or process.poll() is not None:
            return
        time.sleep(0.05)


def test_a_run_is_pruned_by_a_study_in_another_process(tmp_path, world_cache):
    """A grid of six step sizes, the worst last: it is below the median of five from the first judged epoch on."""
    output = tmp_path / "outputs"
    done = marquee(
        *SEARCH[:-2], "optimizer.lr=0.03,0.02,0.025,0.035,0.015,0.0000001", "hydra.sweeper.sampler=grid",
        "hydra.sweeper.pruner=median", "trainer.max_epochs=6", output=output, cache=world_cache,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [trial.state.name for trial in trials(output)] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert "6 trials, 5 complete, 1 pruned" in done.stdout
    (pruned,) = [
        manifest
        for file in output.glob("runs/*/manifest.json")
        if (manifest := json.loads(file.read_text()))["status"] == "pruned"
    ]
    assert 1 < pruned["epochs"] < 6 and pruned["error"] is None
    assert list(pruned["metrics"]) == ["validation/ndcg@10"], "it was not tested"
    assert len(trials(output)[5].intermediate_values) == pruned["epochs"]
    listed = marquee("ls", "--status", "pruned", "--runs", str(output), output=output, cache=world_cache)
    assert pruned["id"] in listed.stdout
    rerun = marquee("rerun", _finished(output), "--runs", str(output), output=output, cache=world_cache)
    assert rerun.returncode == 0 and "identical" in rerun.stdout, rerun.stderr
    assert len(trials(output)) == 6


def _finished(output):
    folders = (file.parent for file in sorted(output.glob("runs/*/manifest.json")))
    return next(folder.name for folder in folders if (folder / "per_unit.parquet").exists())


def test_the_winner_is_saved_as_a_recipe_with_the_configuration_of_the_run(tmp_path, world_cache):
    output, place = tmp_path / "outputs", {"output": tmp_path / "outputs", "cache": world_cache}
    words = ["tracker=none", "data=world_ratings", "model=linear/ease,neighbours/item_knn", "split=ratio", "seed=1,2"]
    swept = marquee("train", "-m", *words, "sweep=grid", "scheduler=cosine", "trainer.max_epochs=7", **place)
    assert swept.returncode == 0, swept.stderr
    conf = tmp_path / "conf"
    conf.mkdir()

    def run(*words):
        return marquee(*words, **place, MARQUEE_CONF=str(conf))

    saved = run("best", str(output / "sweeps" / "grid"), "--save", "experiment/won")
    assert saved.returncode == 0, saved.stderr
    assert saved.stdout.splitlines()[-1] == "marquee train experiment=won"
    text = (conf / "experiment" / "won.yaml").read_text()
    assert "marquee train experiment=won" in text and "seeds 1, 2" in text and "±" in text and "split ratio" in text
    trained = run(*shlex.split(saved.stdout.splitlines()[-1])[1:], "tracker=none")
    assert trained.returncode == 0, trained.stderr
    latest = json.loads((output / "latest" / "manifest.json").read_text())
    manifests = [json.loads(file.read_text()) for file in output.glob("runs/*/manifest.json")]
    of_sweep = [manifest for manifest in manifests if manifest["sweep"] == "grid" and manifest["seed"] == 1]
    (run_of_sweep,) = [manifest for manifest in of_sweep if manifest["model"] == latest["model"]]
    assert identity(latest["config"]) == identity(run_of_sweep["config"])
    assert latest["metrics"] == run_of_sweep["metrics"]
    again = run("best", str(output / "sweeps" / "grid"), "--save", "experiment/won")
    assert again.returncode == 2 and "not overwritten" in again.stderr
    assert text == (conf / "experiment" / "won.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "said"), [("won", "experiment/NAME"), ("experiment/../x", "experiment/NAME"), ("model/won", "experiment/")]
)
def test_a_recipe_has_a_name_of_its_own_group(name, said, tmp_path, monkeypatch):
    from marquee.cli.main import main

    from ..finished_runs import write_run

    words = ["data=world_ratings", "model=linear/ease"]
    run = write_run(tmp_path / "outputs", "linear/ease", 1, [0.1], validation=0.2)
    run.update(config=compose(words).config, overrides=words)
    monkeypatch.chdir(tmp_path)
    assert main(["best", "outputs", "--save", name]) == 2
    assert not (tmp_path / "conf").exists()


def test_without_a_folder_of_ones_own_a_recipe_goes_into_conf_here_and_says_how_to_name_it(
    tmp_path, monkeypatch, capsys
):
    from marquee.cli.main import main

    from ..finished_runs import write_run

    words = ["data=sequences", "data.path=plays.txt", "model=rnn/gru4rec", "model.dim=8", "optimizer=adamw",
             "trainer.max_epochs=9", "scheduler=cosine", "tags=[a]", "callbacks=patient"]  # fmt: skip
    run = write_run(tmp_path / "outputs", "rnn/gru4rec", 3, [0.1, 0.3], validation=0.2)
    config = {**compose(words).config, "seed": 3}
    run.update(config=config, overrides=[*words, "seed=3"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARQUEE_CONF", raising=False)
    assert main(["best", "outputs", "--save", "experiment/mine/first"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "marquee train --config-dir conf experiment=mine/first"
    assert "MARQUEE_CONF" not in os.environ
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path / "conf"))
    recipe = compose(["experiment=mine/first", "seed=3"])
    assert identity(recipe.config) == identity(config)
    assert recipe.config["data"]["path"] == "plays.txt" and recipe.choices["optimizer"] == "adamw"
    assert "T_max" not in (tmp_path / "conf/experiment/mine/first.yaml").read_text(), "it follows from max_epochs"
