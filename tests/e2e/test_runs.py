"""Whole runs: every family trains, is recorded, can be used, resumed bit-exactly, interrupted and repeated."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

import marquee as package
from marquee.cli.main import main
from marquee.config.build import build
from marquee.config.compose import compose
from marquee.errors import ConfigError
from marquee.models.mf.bpr import BPR
from marquee.runs.loaders import nothing_between_steps

from .commands import FAST, begin, environment, latest, marquee, spawn, train

KEYS = (
    "schema_version id fingerprint status config overrides code environment data split seed started finished durations "
    "metrics baselines oracle checkpoint error"
).split()


@pytest.fixture
def output(tmp_path):
    return tmp_path / "outputs"


@pytest.mark.parametrize("family", FAST)
def test_every_family_trains_and_leaves_a_run_that_explains_itself(family, monkeypatch, output, world_cache, capsys):
    manifest = train(monkeypatch, output, world_cache, *FAST[family], "trainer.max_epochs=2")
    folder = output / "runs" / manifest["id"]
    assert [key for key in KEYS if key not in manifest] == []
    assert manifest["status"] == "finished"
    assert folder.name.startswith(manifest["fingerprint"][:8])
    assert manifest["epochs"] == 2
    # The table on the screen shows what the manifest holds, baselines and ceiling beside it.
    screen = capsys.readouterr().out
    monitored = manifest["metrics"][f"test/{manifest['monitor']}"]
    assert f"{monitored:.4f}" in screen
    assert "oracle" in screen and "seed 1" in screen and str(folder) in screen
    # The per-unit table is what the metrics were computed from.
    units = pd.read_parquet(folder / "per_unit.parquet")
    assert len(units) > 100
    if manifest["monitor"] == "ndcg@10":
        assert units["ndcg@10"].mean() == pytest.approx(monitored)
    else:
        assert units["correct"].mean() == pytest.approx(monitored)
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["train/loss"]) > 0 and float(row[f"validation/{manifest['monitor']}"]) >= 0 for row in rows)
    assert (folder / "log.txt").exists() and (folder / "config.yaml").exists()


def test_steps_taken_at_once_are_the_same_steps(monkeypatch, output, world_cache, tmp_path):
    """BPR takes several steps in one call of the Trainer's: weights, steps and losses are those of single calls."""
    words = ["data=world_ratings", "model=mf/bpr", "model.dim=8", "model.view.batch_size=1000", "trainer.max_epochs=3"]
    joined = train(monkeypatch, output, world_cache, *words)
    monkeypatch.setattr(BPR, "steps_at_once", 1)
    single = train(monkeypatch, tmp_path / "single", world_cache, *words)
    assert joined["checkpoint"]["weights_sha256"] == single["checkpoint"]["weights_sha256"]
    files = [place / "latest" / "metrics.csv" for place in (output, tmp_path / "single")]
    one, other = (pd.read_csv(file).drop(columns="seconds") for file in files)
    pd.testing.assert_frame_equal(one, other)
    assert one["step"].tolist() == [32, 65, 98]  # 32,045 pairs, counted from 0


def test_steps_taken_at_once_are_evaluated_again_where_the_optimiser_asks_for_it(monkeypatch, output, world_cache):
    """LBFGS does, up to 20 times a step."""
    words = [*FAST["bpr"], *(f"~optimizer.{key}" for key in ("betas", "eps", "weight_decay", "fused"))]
    words += ["optimizer._target_=torch.optim.LBFGS", "trainer.max_epochs=1"]
    train(monkeypatch, output, world_cache, *words)
    assert pd.read_csv(output / "latest" / "metrics.csv")["step"].tolist() == [3]  # 32,045 pairs, counted from 0


def test_a_loss_that_is_no_number_names_its_step_among_all_that_an_epoch_has(monkeypatch, output, world_cache, capsys):
    for name, value in environment(output, world_cache).items():
        monkeypatch.setenv(name, value)
    assert main(["train", "tracker=none", *FAST["bpr"], "optimizer.lr=1e30", "model.l2=1e5"]) == 4
    assert "step 2 of 4." in capsys.readouterr().err


BETWEEN = [
    ["trainer.gradient_clip_val=1.0"], ["trainer.limit_train_batches=5"], ["trainer.precision=bf16-mixed"],
    ["trainer.max_steps=3"], ["trainer.accumulate_grad_batches=2"], ["trainer.val_check_interval=1"],
    ["trainer.min_steps=40"], ["trainer.strategy=fsdp"],
    ["scheduler=linear_warmup", "scheduler.interval=step"],
    ["+callbacks.rates._target_=pytorch_lightning.callbacks.LearningRateMonitor"],
]  # fmt: skip


@pytest.mark.parametrize("words", BETWEEN, ids=lambda words: words[-1])
def test_where_something_happens_between_steps_they_are_taken_one_by_one(words):
    """Each asks the Trainer to act after a certain step, or to make steps otherwise."""
    config = compose(["data=world_ratings", "model=mf/bpr", *words]).config
    assert not nothing_between_steps(config, config["trainer"])
    plain = compose(["data=world_ratings", "model=mf/bpr"]).config
    assert nothing_between_steps(plain, plain["trainer"])


@pytest.mark.parametrize("words, told", [
    (["model.sparse_gradients=true"], "optimizer=adagrad or optimizer=sparse_adam"),
    (["optimizer=sparse_adam"], "model.sparse_gradients=true"),
    (["model.sparse_gradients=true", "optimizer=adagrad", "trainer.gradient_clip_val=1"], "cannot be clipped"),
])  # fmt: skip
def test_gradients_that_an_optimizer_cannot_take_are_refused_before_there_is_a_run(shell, words, told):
    done = shell("train", "data=world_ratings", "model=mf/bpr", "tracker=none", *words)
    assert done.code == 2 and told in done.err and not Path("outputs/runs").exists()


def test_a_closed_form_needs_one_epoch_and_beats_the_baselines(monkeypatch, output, world_cache):
    manifest = train(monkeypatch, output, world_cache, "data=world_ratings", "model=linear/ease", "model.l2=50")
    assert manifest["epochs"] == 1
    score = manifest["metrics"]["test/ndcg@10"]
    assert manifest["baselines"]["baseline/popular"]["ndcg@10"] < score < manifest["oracle"]["ndcg@10"]


def test_the_same_command_twice_gives_two_folders_and_the_same_numbers(monkeypatch, output, world_cache):
    one = train(monkeypatch, output, world_cache, *FAST["bpr"], "trainer.max_epochs=2")
    two = train(monkeypatch, output, world_cache, *FAST["bpr"], "trainer.max_epochs=2")
    assert one["id"] != two["id"] and one["fingerprint"] == two["fingerprint"]
    assert one["checkpoint"]["weights_sha256"] == two["checkpoint"]["weights_sha256"]
    assert one["metrics"] == two["metrics"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_all_that_a_finished_run_leaves_is_on_the_disk_before_it_says_so(monkeypatch, output, world_cache):
    """What a power cut may not take; the manifest is written last."""
    synced, fsync = [], os.fsync

    def noting(handle):
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        synced.append((name, b'"status": "finished"' in Path(f"/proc/self/fd/{handle}").read_bytes()
                       if "manifest" in name else False))  # fmt: skip
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    train(monkeypatch, output, world_cache, "data=world_ratings", "model=linear/ease")
    end = next(place for place, (_, finished) in enumerate(synced) if finished)
    before = [name for name, _ in synced[:end]]
    run = output / "latest"
    files = [file.name for file in (run / "inference").rglob("*") if file.is_file()]
    assert "model.safetensors" in files and set(files) <= set(before)
    for name in ("best.ckpt", "last.ckpt", "per_unit.parquet"):  # written beside their place, under names of their own
        assert any(found.startswith(f".{name}-") for found in before), name


def test_rerun_says_identical(monkeypatch, output, world_cache, capsys):
    manifest = train(monkeypatch, output, world_cache, *FAST["cnn"], "trainer.max_epochs=1")
    assert main(["rerun", manifest["id"], "--runs", str(output)]) == 0
    assert f"identical: {latest(output)['id']}" in capsys.readouterr().out


@pytest.mark.parametrize("family", ["bpr", "gru", "ratings", "lstm", "cnn"])
def test_resume_after_kill_gives_the_same_weights(family, monkeypatch, output, world_cache, tmp_path):
    """Killed -9 in mid-epoch and resumed, a run ends with the weights (sha256) of an uninterrupted one.

    Matrix factorisation is killed in a process that was started anew, as a user's is; the others in forks.
    """
    words = [*FAST[family], "trainer.max_epochs=4", "scheduler=cosine"]
    whole = train(monkeypatch, tmp_path / "whole", world_cache, *words)
    start = spawn if family == "bpr" else begin
    killed = start("train", "tracker=none", *words, env=environment(output, world_cache))
    try:
        _wait_for_epochs(output, 2, killed)
        time.sleep(0.1)  # into the next epoch
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert json.loads((output / "latest" / "manifest.json").read_text())["status"] == "running"
    monkeypatch.setenv("MARQUEE_OUTPUT", str(output))
    assert main(["train", "resume=latest", "tracker=none"]) == 0
    resumed = latest(output)
    assert resumed["status"] == "finished"
    assert resumed["epochs"] == 4
    assert resumed["checkpoint"]["weights_sha256"] == whole["checkpoint"]["weights_sha256"]
    assert resumed["metrics"] == whole["metrics"]
    rows = list(csv.DictReader((output / "latest" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]


def _wait_for_epochs(output, epochs, process):
    """Until the run has written `epochs` rows of its curve."""
    for _ in range(15_000):
        curve, last = output / "latest" / "metrics.csv", output / "latest" / "checkpoints" / "last.ckpt"
        if curve.exists() and len(curve.read_text().splitlines()) > epochs and last.exists():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    raise AssertionError("the run did not get far enough")


def test_a_run_resumed_for_longer_is_recorded_as_what_it_became(monkeypatch, output, world_cache, tmp_path):
    """Two epochs, taken up again for four, end as a run of four epochs does: weights, configuration, fingerprint."""
    whole = train(monkeypatch, tmp_path / "whole", world_cache, *FAST["bpr"], "trainer.max_epochs=4")
    short = train(monkeypatch, output, world_cache, *FAST["bpr"], "trainer.max_epochs=2")
    manifest = output / "runs" / short["id"] / "manifest.json"
    manifest.write_text(json.dumps({**short, "status": "interrupted"}))
    assert main(["train", "resume=latest", "trainer.max_epochs=4", "tracker=none"]) == 0
    longer = latest(output)
    assert longer["id"] == short["id"] and longer["begun_as"] == short["fingerprint"]
    assert longer["config"]["trainer"]["max_epochs"] == 4
    assert longer["fingerprint"] == whole["fingerprint"]
    assert longer["checkpoint"]["weights_sha256"] == whole["checkpoint"]["weights_sha256"]
    assert longer["resumed"][0]["overrides"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupt_leaves_a_manifest_that_says_so(number, code, output, world_cache):
    words = ["train", *FAST["ratings"], "trainer.max_epochs=500", "callbacks=none"]
    running = begin(*words, env=environment(output, world_cache))
    _wait_for_epochs(output, 1, running)
    running.send_signal(number)
    _, errors = running.communicate(timeout=300)
    manifest = latest(output)
    assert manifest["status"] == "interrupted"
    assert manifest["finished"] and manifest["error"]
    assert running.returncode == code
    assert "resume=" in errors and "Traceback" not in errors


def test_a_finished_run_is_not_resumed(monkeypatch, output, world_cache, capsys):
    manifest = train(monkeypatch, output, world_cache, *FAST["bpr"], "trainer.max_epochs=1")
    assert main(["train", "resume=latest"]) == 2
    assert f"{manifest['id']} is finished" in capsys.readouterr().err


def test_nan_loss_fails_with_the_step_and_the_last_good_checkpoint(monkeypatch, output, world_cache, capsys):
    for name, value in environment(output, world_cache).items():
        monkeypatch.setenv(name, value)
    words = [*FAST["gru"], "optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=3", "tracker=none"]
    assert main(["train", *words]) == 4
    error = capsys.readouterr().err
    assert "step" in error and "optimizer.lr" in error
    assert latest(output)["status"] == "failed"
    assert "nan" in latest(output)["error"] or "inf" in latest(output)["error"]


def test_a_checkpoint_of_another_model_is_refused(monkeypatch, output, world_cache):
    one = train(monkeypatch, output, world_cache, *FAST["bpr"], "trainer.max_epochs=1")
    inference = output / "runs" / one["id"] / "inference"
    content = json.loads((inference / "model.json").read_text())
    content["model"]["dim"] = 4
    (inference / "model.json").write_text(json.dumps(content))
    with pytest.raises(package.errors.DataError, match="weights are not those of"):
        package.load(one["id"], output)


def test_a_read_only_output_folder_is_named(tmp_path, world_cache):
    file = tmp_path / "a-file"
    file.write_text("")
    done = marquee("train", *FAST["bpr"], "trainer.max_epochs=1", output=file, cache=world_cache)
    assert done.returncode == 4
    assert "cannot be written" in done.stderr and "paths.output" in done.stderr


def test_two_cpu_processes_evaluate_as_one(output, world_cache, tmp_path):
    """The same weights (no training) measured by one process and by two: no unit lost, none counted twice.

    The command of the two is started anew: it starts the other process by the words that it was started with.
    """
    words = ["train", *FAST["ratings"], "tracker=none", "trainer.max_epochs=1", "optimizer=sgd", "optimizer.lr=1e-12"]
    one = marquee(*words, output=output, cache=world_cache)
    assert one.returncode == 0, one.stderr
    two = spawn(*words, "trainer=ddp", "trainer.max_epochs=1", env=environment(tmp_path / "ddp", world_cache))
    told, _ = two.communicate(timeout=600)
    assert two.returncode == 0, told
    single, double = latest(output), latest(tmp_path / "ddp")
    assert len(list((tmp_path / "ddp" / "runs").iterdir())) == 1
    assert double["metrics"] == pytest.approx(single["metrics"], abs=1e-9)
    first = pd.read_parquet(output / "latest" / "per_unit.parquet")
    second = pd.read_parquet(tmp_path / "ddp" / "latest" / "per_unit.parquet")
    assert first["user"].tolist() == second["user"].tolist()


def test_only_whitelisted_classes_are_built():
    with pytest.raises(ConfigError, match="os.system"):
        build({"_target_": "os.system", "command": "true"})


def test_multirun_runs_every_job_and_shows_them_together(shell, output):
    words = ["-m", "data=world_ratings", "model=linear/ease,baseline/popular", "seed=1,2", "tracker=none"]
    done = shell("train", *words)
    assert done.code == 0, done.err
    assert len(list((output / "runs").iterdir())) == 4
    table = done.out.split("\n\n")[1]
    assert table.count("finished") == 4
