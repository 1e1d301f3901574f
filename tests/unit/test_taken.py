"""A job that is left to another process: its launcher waits for that run, and hands the job out no second time."""

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from marquee.runs import lock
from marquee.runs.record import Run
from marquee.sweeps.batch import Settings, _Batch
from marquee.sweeps.plan import Frozen, look_again
from marquee.sweeps.pool import Pool
from marquee.sweeps.store import Job, Sweep, note_run
from marquee.sweeps.worker import TAKEN

PLANNED, EDITED = "0" * 64, "1" * 64


class Left(Pool):
    """A place where each job finds that another process is at `run`; that one ends `later` looks on."""

    capacity = 1

    def __init__(self, run: Run, folder: Path, later: int):
        self.run, self.folder, self.later, self.started = run, folder, later, 0

    def start(self, files):
        self.started += len(files)
        assert self.started < 5, "handed out again and again"
        note_run(self.folder, f"jobs/{files[0].stem}", self.run.folder.name)
        return [SimpleNamespace(place="a node", exit_code=lambda: TAKEN, stop=None) for _ in files]

    def wait(self, running, seconds):
        self.later -= 1
        if self.later == 0:
            self.run.finish("finished")
            lock.release(self.run.folder)


def frozen(output: Path) -> Frozen:
    config = {"paths": {"output": str(output)}, "callbacks": None}
    return Frozen(["seed=1"], config, "bpr", PLANNED, {"sha256": "0"}, "d", "s")


@pytest.mark.parametrize("fingerprint", [PLANNED, EDITED])
def test_the_run_that_a_job_was_left_to_is_waited_for_whatever_its_fingerprint(tmp_path, fingerprint):
    """On a cluster the code may have been edited since the planning: the worker's fingerprint is another then."""
    run = Run.create(tmp_path, fingerprint, "world", {"config": {}})
    sweep = Sweep.begin(tmp_path / "sweeps" / "many", [])
    job, pool = Job(0, ["seed=1"], "bpr", PLANNED), Left(run, sweep.folder, later=4)
    view, presses = mock.MagicMock(), SimpleNamespace(jobs_run=False, count=0, heard=lambda: False)
    _Batch(sweep, [job], [frozen(tmp_path)], Settings(), pool, view, presses).run()
    assert (job.status, job.run, job.fingerprint) == ("finished", run.folder.name, fingerprint)
    assert pool.started == (1 if fingerprint == EDITED else 0)  # the planned one is seen before anything is started


def test_a_run_that_has_failed_and_is_still_held_is_not_taken(tmp_path):
    """Its process hands the record to a tracker, which may take minutes; each attempt would find the folder held."""
    run = Run.create(tmp_path, PLANNED, "world", {"config": {}})
    run.finish("failed")
    job = frozen(tmp_path)
    look_again(job)
    assert job.status == "running"
    lock.release(run.folder)
    look_again(job)
    assert job.status == "failed"
