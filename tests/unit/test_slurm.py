"""What Slurm says of jobs, without a Slurm: its answers are made up as slurm-wlm 22.05 was seen to give them."""

import pickle
import time
from types import SimpleNamespace

import pytest

from marquee.errors import JobError
from marquee.sweeps import slurm
from marquee.sweeps.clusters import SlurmRunning
from marquee.sweeps.slurm import Queue, end_of, state_now


@pytest.fixture
def job(tmp_path):
    """A job of submitit's, as far as we look at one."""
    paths = SimpleNamespace(folder=tmp_path, result_pickle=tmp_path / "result", stderr=tmp_path / "err")
    return SimpleNamespace(job_id="7_0", paths=paths)


def running(job, *answers):
    """The job, where each look at the queue gives the next answer, and looks come as often as one asks."""
    left = list(answers)
    queue = Queue(lambda: left.pop(0) if len(left) > 1 else left[0])
    found = SlurmRunning(job, queue)
    asked = queue.state

    def state(*arguments, **further):
        queue._tried = -float("inf")
        return asked(*arguments, **further)

    queue.state = state
    return found


def leave(job, code):
    job.paths.result_pickle.write_bytes(pickle.dumps(("success", code)))


@pytest.mark.parametrize("state", ["PENDING", "COMPLETING", "REQUEUED", "RUNNING", "REQUEUE_HOLD"])
def test_a_job_that_is_requeued_runs_on_whatever_its_process_has_left(job, state):
    leave(job, 130)
    found = running(job, {"7_0": state}, {"7_0": "COMPLETED"})
    assert found.exit_code() is None
    leave(job, 0)
    assert found.exit_code() == 0 and found.told() is None


def test_a_queue_that_does_not_answer_says_nothing_of_a_jobs_end(job, monkeypatch):
    leave(job, 0)
    found = running(job, None, {"7_0": "COMPLETED"})
    assert found.exit_code() is None and found.exit_code() == 0
    monkeypatch.setattr(slurm, "squeue", lambda: None)
    with pytest.raises(JobError, match="Slurm does not answer"):
        state_now("7_0")


def test_a_look_from_before_a_job_was_submitted_does_not_count():
    looks = iter([{}, {"7_0": "PENDING"}])
    queue = Queue(lambda: next(looks))
    assert queue.state("6", since=0.0) == slurm.GONE
    assert queue.state("7_0", since=time.monotonic()) is None
    queue._tried = -float("inf")
    assert queue.state("7_0", since=queue._seen) == "PENDING"


def test_many_jobs_and_many_questions_are_one_look():
    looks = []
    queue = Queue(lambda: looks.append(1) or {"1": "RUNNING", "2": "PENDING"})
    assert [queue.state(job, since=0.0) for job in "1212"] == ["RUNNING", "PENDING", "RUNNING", "PENDING"]
    assert looks == [1]


def test_a_job_that_is_no_longer_listed_is_what_it_left(job):
    leave(job, 4)
    assert running(job, {}).exit_code() == 4


@pytest.mark.parametrize(
    ("state", "log", "words"),
    [
        ("OUT_OF_MEMORY", "", "was out of memory: it needs more than hydra.launcher.mem_gb"),
        ("FAILED", "slurmstepd: error: StepId=7.0 exceeded memory limit (5 > 2), being killed", "was out of memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0.", "was out of memory"),
        ("CANCELLED", "", "was cancelled (scancel)"),
        ("TIMEOUT", "", "hydra.launcher.time_limit"),
        ("NODE_FAIL", "", "lost its node"),
        (
            "FAILED",
            "a line\n/bin/python: Error while finding module\nend",
            "(failed): /bin/python: Error while finding",
        ),
    ],
)
def test_how_a_job_ended_is_told_in_words(job, state, log, words):
    job.paths.stderr.write_text(log)
    found = running(job, {"7_0": state})
    assert found.exit_code() == -9 and found.told().startswith("Slurm job 7_0 ") and words in found.told()
    assert found.cancelled == (state == "CANCELLED")
    assert found.told() == end_of("7_0", state, job.paths.stderr)


def test_a_cancelled_job_that_tidied_up_is_cancelled(job):
    leave(job, 130)
    found = running(job, {"7_0": "CANCELLED"})
    assert found.exit_code() == -9 and found.cancelled
