"""Which stored run a job takes."""

from itertools import permutations

import pytest

from marquee.sweeps.plan import Frozen, best_run, told_of_earlier
from marquee.sweeps.store import Job, Sweep

from ..finished_runs import write_run

ORDER = ["finished", "running", "pruned", "interrupted", "failed"]


@pytest.mark.parametrize("better, worse", [(a, b) for i, a in enumerate(ORDER) for b in ORDER[i + 1 :]])
def test_a_finished_run_is_taken_before_one_under_way_and_that_before_what_is_left(better, worse):
    """Whatever is the newer: `found` is in the order of time."""
    for found in permutations([{"status": better}, {"status": worse}]):
        assert best_run(found)["status"] == better


def test_of_runs_that_ended_alike_the_newest_is_taken():
    assert best_run([{"status": "failed", "id": 1}, {"status": "failed", "id": 2}])["id"] == 2


def test_a_run_that_cannot_be_read_is_none():
    assert best_run([{"status": "unreadable"}]) is None


@pytest.mark.parametrize("changes, what", [
    ({"code": {"sha256": "old"}}, "other code"),
    ({"data": {"fingerprint": "old"}, "split": None}, "other data and split"),
    ({}, "other fingerprint"), ({"schema_version": None}, "other fingerprint"),
])  # fmt: skip
def test_what_finished_before_and_cannot_be_taken_is_told_with_what_has_changed(tmp_path, changes, what):
    run = write_run(tmp_path, "mf/bpr", 1, [0.1])
    config = run.manifest["config"]
    as_now = {"code": {"sha256": "c"}, "data": {"fingerprint": "d"}, "split": {"fingerprint": "s"}}
    run.update(**{**as_now, **changes})
    folder = tmp_path / "sweeps" / "grid"
    done = Job(0, ["seed=1"], fingerprint="old", status="finished", run=run.folder.name)
    job = Frozen(["seed=1"], config, "mf/bpr", "new", {"sha256": "c"}, "d", "s")
    (line,) = told_of_earlier(Sweep(folder, "grid", [], "", [done]), [job])
    assert line.startswith(f"1 job was finished before with {what}: to be run again.")
