"""Sweeps that are killed or interrupted, and issued again: nothing done twice, nothing lost."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path
from unittest import mock

import pytest

from . import commands
from .commands import environment, spawn
from .conftest import answer, manifest_of
from .sweeping import MOODY, begin, jobs_of, runs_of, wait_for

# Jobs of several epochs, long enough to be killed in one of them.
MANY = ["data=world_ratings", "model=rnn/gru4rec", "seed=range(1,7)", "trainer.max_epochs=4", "model.dim=8",
        "model.hidden=8", "model.view.max_length=20", "tracker=none", "sweep=many"]  # fmt: skip


def finished(output: Path) -> int:
    file = output / "sweeps" / "many" / "sweep.json"
    return file.read_text().count('"status": "finished"') if file.is_file() else 0


def is_training(output: Path, job: int) -> bool:
    """Whether a job has saved an epoch and not ended."""
    note = output / "sweeps" / "many" / "jobs" / f"{job:04d}.run"
    run = output / "runs" / note.read_text().strip() if note.is_file() else None
    return run is not None and (run / "checkpoints" / "last.ckpt").is_file()


def comparison(shell, output: Path) -> dict:
    """What `marquee compare` finds, without what may differ: times, names of folders, memory."""
    found = json.loads(shell("compare", output / "sweeps" / "many", "--format", "json").out)
    (block,) = found["blocks"]
    return {"metrics": block["metrics"], "seeds": [entry["seeds"] for entry in block["configurations"]]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, world_cache) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "outputs"
    with mock.patch.dict(os.environ, environment(output, world_cache)):
        done = answer("train", "-m", *MANY, "hydra.launcher.n_jobs=2")
    assert done.code == 0, done.err
    return output


def test_killed_in_job_3_of_6_and_issued_again_equals_the_uninterrupted_sweep(
    tmp_path, shell, world_cache, uninterrupted
):
    output = tmp_path / "outputs"
    process = begin(MANY, output, world_cache)
    wait_for(lambda: finished(output) >= 2 and is_training(output, 2))
    process.kill()
    process.wait()
    done = finished(output)
    again = begin(MANY, output, world_cache, "hydra.launcher.n_jobs=2")
    told, _ = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert f"6 jobs: {done} stored, 1 to continue, {5 - done} to run" in told
    resumed = [folder.name for folder in runs_of(output) if manifest_of(folder).get("resumed")]
    assert resumed == [jobs_of("many", output)[done]["run"]] and len(runs_of(output)) == 6
    assert comparison(shell, output) == comparison(shell, uninterrupted)
    ids = [job["run"] for job in jobs_of("many", output)]
    for run, other in zip(ids, [job["run"] for job in jobs_of("many", uninterrupted)], strict=True):
        one, two = manifest_of(output / "runs" / run), manifest_of(uninterrupted / "runs" / other)
        assert one["checkpoint"]["weights_sha256"] == two["checkpoint"]["weights_sha256"]


def test_ctrl_c_once_lets_epochs_end_and_the_same_command_goes_on(tmp_path, world_cache):
    """The first command is started anew: Ctrl-C reaches its whole group, and so the nursery of its own."""
    output = tmp_path / "outputs"
    words = [*MANY, "hydra.launcher.n_jobs=2"]
    process = spawn("train", "-m", *words, env=environment(output, world_cache))
    wait_for(lambda: finished(output) >= 1 and is_training(output, 2))
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "end with their epoch" in told and "the same command goes on" in told
    done = finished(output)
    held = [folder for folder in runs_of(output) if manifest_of(folder)["status"] == "interrupted"]
    assert done + len(held) < 6
    again = begin(words, output, world_cache)
    told, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and f"{done} stored" in told and finished(output) == 6
    assert all(manifest_of(folder)["status"] == "finished" for folder in runs_of(output))
    for folder in runs_of(output):  # no epoch has lost its training loss to the interruption
        with (folder / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"] and all(row["train/loss"] for row in rows)


def test_two_sweeps_that_share_jobs_at_once_do_each_of_them_once(tmp_path, world_cache):
    output = tmp_path / "outputs"
    one = [word.replace("range(1,7)", "1,2") for word in MANY]
    first = begin(one, output, world_cache)
    wait_for(lambda: is_training(output, 0))
    second = begin([*one[:-1], "sweep=other", "seed=1,2,3"], output, world_cache)
    for process in (first, second):
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert len(runs_of(output)) == 3
    assert [job["run"] for job in jobs_of("many", output)] == [job["run"] for job in jobs_of("other", output)[:2]]


def test_ctrl_c_twice_stops_now(shell, moody, tmp_path, world_cache):
    output = tmp_path / "outputs"
    words = [*MOODY, "model.mood=hang", "seed=1,2", "sweep=many"]
    process = begin(words, output, world_cache)
    wait_for(lambda: (output / "sweeps" / "many" / "jobs" / "0000.run").is_file())
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: "Ctrl-C again stops now" in process.told())
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "stopping 1 running job now" in told
    assert [job["status"] for job in jobs_of("many", output)] == ["interrupted", "waiting"]


def test_jobs_that_are_handed_out_at_the_same_moment_are_run_once(tmp_path, world_cache):
    """Where all launchers have looked, and found nothing, before one of them has made a run."""
    output = tmp_path / "outputs"
    with mock.patch.dict(os.environ, environment(output, world_cache)):
        assert answer("train", "-m", *[word for word in MANY if "seed" not in word], "seed=1").code == 0
    (run,) = runs_of(output)
    job = output / "sweeps" / "many" / "jobs" / "0000.json"
    content = json.loads(job.read_text())
    shutil.rmtree(run)
    files = [job.with_name(f"{number:04d}.json") for number in range(1, 4)]
    for file in files:
        file.write_text(json.dumps(content))
    env = environment(output, world_cache)
    codes = sorted(process.wait(300) for process in [commands.begin("job", file, env=env) for file in files])
    assert codes == [0, 75, 75]
    assert [manifest_of(folder)["status"] for folder in runs_of(output)] == ["finished"]


def test_two_processes_that_resume_one_run_at_once_the_second_is_refused(tmp_path, world_cache):
    output = tmp_path / "outputs"
    env = environment(output, world_cache)
    words = [word for word in MANY if not word.startswith(("seed", "sweep"))]
    process = commands.begin("train", *words, "seed=1", env=env)
    wait_for(lambda: (output / "latest" / "checkpoints" / "last.ckpt").is_file())
    process.kill()
    process.wait()
    (run,) = runs_of(output)
    both = [commands.begin("train", f"resume={run.name}", env=env) for _ in range(2)]
    ends = [(process.communicate(300), process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 2]
    told = next(err for (_, err), code in ends if code == 2)
    assert f"marquee train resume={run.name}" in told or "is finished, so there is nothing to resume" in told
    assert len(manifest_of(run)["resumed"]) == 1 and manifest_of(run)["status"] == "finished"
