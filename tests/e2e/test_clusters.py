"""The same sweeps through submitit's executor for one machine, and what is said where no engine is found.

A real Slurm and a Ray cluster: test_engines.py.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from marquee.errors import JobError

from .commands import FAST
from .conftest import manifest_of
from .sweeping import EASE as SHORT
from .sweeping import begin, jobs_of, runs_of, wait_for

EASE = [*SHORT, "sweep=grid"]
GRU = [*FAST["gru"], "tracker=none", "trainer.max_epochs=8", "sweep=grid"]
SUBMITIT = ["hydra/launcher=slurm", "hydra.launcher.executor=local", "hydra.launcher.n_jobs=2",
            "hydra.launcher.cpus_per_task=1"]  # fmt: skip


def weights(output: Path) -> list[str]:
    return [
        manifest_of(output / "runs" / job["run"])["checkpoint"]["weights_sha256"] for job in jobs_of("grid", output)
    ]


def test_jobs_on_a_cluster_outlive_their_launcher_and_give_what_local_ones_give(tmp_path, shell, world_cache):
    """The job is held while there is no launcher, so that it cannot be at its end before the next one looks for it.

    Then it is told to make room, as a cluster does before a time limit: submitit starts it again, in its place.
    """
    pytest.importorskip("submitit")
    output = tmp_path / "outputs"
    words = [*GRU, "seed=1", "trainer.max_epochs=30", "callbacks=none"]
    process = begin(words, output, world_cache, *SUBMITIT)
    wait_for(lambda: len(runs_of(output)) == 1 and (runs_of(output)[0] / "manifest.json").is_file())
    (run,) = runs_of(output)
    job = manifest_of(run)["process"]["pid"]
    os.kill(job, signal.SIGSTOP)
    try:
        process.kill()
        process.wait()
        assert [job["place"].split()[0] for job in jobs_of("grid", output)] == ["local"]
        again = begin(words, output, world_cache, *SUBMITIT)
        wait_for(lambda: "sweep grid: 1 job" in again.told() or again.poll() is not None)
        os.kill(job, signal.SIGUSR2)
    finally:
        os.kill(job, signal.SIGCONT)
    told, _ = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert runs_of(output) == [run]
    assert len(manifest_of(run)["resumed"]) == 1
    assert jobs_of("grid", output)[0]["attempts"] == 1, "it was waited for, neither stored nor begun again"
    assert shell("train", "-m", *words, "paths.output=other").code == 0
    assert weights(output) == weights(Path("other"))


def test_a_job_at_its_time_limit_is_submitted_anew_unless_no_epoch_ended(shell, monkeypatch):
    pytest.importorskip("submitit")
    from marquee.runs.signals import taken_off
    from marquee.sweeps.clusters import ClusterJob

    monkeypatch.setattr(taken_off, "set", lambda: None)
    file, last = Path("outputs/sweeps/s/jobs/0000.json"), Path("outputs/runs/r/checkpoints/last.ckpt")
    for folder in (file.parent, last.parent):
        folder.mkdir(parents=True)
    file.write_text(json.dumps({"config": {"paths": {"output": "outputs"}}}))
    file.with_suffix(".run").write_text("r\n")
    job = ClusterJob(minutes=1)
    job.began = time.time() - 10
    again = job.checkpoint(str(file), 2)  # pre-empted in its first epoch
    assert isinstance(again.function, ClusterJob) and again.args == (str(file), 2)
    job.began = time.time() - 50
    with pytest.raises(JobError, match="no epoch ended in hydra.launcher.time_limit=1 minutes"):
        job.checkpoint(str(file), 2)
    last.touch()
    assert job.checkpoint(str(file), 2).function.minutes == 1


def test_no_slurm_here_says_what_to_do(shell, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    done = shell("train", "-m", *EASE, "seed=1,2", "hydra/launcher=slurm")
    assert done.code == 2 and "hydra.launcher.executor=local" in done.err and runs_of() == []


@pytest.mark.parametrize(("launcher", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_is_named(shell, monkeypatch, launcher, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = shell("train", "-m", *EASE, "seed=1,2", f"hydra/launcher={launcher}")
    assert done.code == 2 and f"pip install 'marquee[{launcher}]'" in done.err


@pytest.mark.parametrize(
    ("address", "told", "code"), [("127.0.0.1:9", "no Ray cluster answers", 4), ("nowhere", "host:port", 2)]
)
def test_a_ray_cluster_that_is_not_there_is_named(shell, address, told, code):
    pytest.importorskip("ray")
    done = shell("train", "-m", *EASE, "seed=1,2", "hydra/launcher=ray", f"hydra.launcher.address={address}")
    assert done.code == code and address in done.err and told in done.err
    assert runs_of() == []
