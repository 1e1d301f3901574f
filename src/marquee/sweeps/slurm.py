"""What Slurm says of jobs: one look at the queue for all of them, and its words for how a job ended.

By squeue and not by sacct, as submitit does: many clusters keep no accounting, and where they do it lags behind. The
queue still lists a job that has ended for some minutes (MinJobAge, 300 s unless the site says otherwise).
"""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from marquee.errors import JobError

# How a job may have ended; in any other state it waits, runs, or is about to do so again.
OVER = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED",
        "PREEMPTED"}  # fmt: skip
GONE = "GONE"  # the queue does not list it: it ended some minutes ago
# Seconds between two looks: so that a thousand users may look, and where a job has left its result.
_LOOK, _HURRY = 15.0, 2.0

_WORDS = {
    "CANCELLED": "was cancelled (scancel); it is not tried again, and the same command goes on with it",
    "OUT_OF_MEMORY": "was out of memory: it needs more than hydra.launcher.mem_gb",
    "TIMEOUT": "was stopped at its time limit, hydra.launcher.time_limit",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node, which did not boot",
    "PREEMPTED": "was pre-empted",
    "DEADLINE": "came to its deadline",
}

# Where Slurm ends a job for its memory without cgroups, only its log says so.
_OUT_OF_MEMORY = ("exceeded memory limit", "oom-kill", "oom_kill")


class Queue:
    """The states of this user's jobs, as of the last look."""

    def __init__(self, look: Callable[[], dict[str, str] | None] | None = None):
        self._look = look or squeue
        self._states: dict[str, str] = {}
        self._tried = self._seen = -float("inf")

    def state(self, job: str, since: float, hurry: bool = False) -> str | None:
        """The state of a job that was submitted at `since` (time.monotonic), or None: Slurm has not answered since."""
        now = time.monotonic()
        if now - self._tried >= (_HURRY if hurry or self._seen < since else _LOOK):
            self._tried = now
            found = self._look()
            if found is not None:
                self._states, self._seen = found, now
        return self._states.get(job, GONE) if self._seen >= since else None


def squeue() -> dict[str, str] | None:
    """The states of this user's jobs, each task of an array by its own number (`12_3`); None: Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split()[:2] for line in lines if len(line.split()) >= 2)


def state_now(job: str) -> str:
    """Raises JobError where Slurm does not answer: whoever asks is about to submit the job again if it is over."""
    states = squeue()
    if states is None:
        raise JobError(
            f"Slurm does not answer (squeue), so it cannot be known whether its job {job} still runs.\n"
            "  fix: type the same command when Slurm is back"
        )
    return states.get(job, GONE)


def end_of(job: str, state: str, errors: Path) -> str | None:
    """How a job that left no result ended, in words; `errors` is what it and Slurm wrote to its standard error."""
    told = _last_lines(errors)
    if any(sign in line for line in told for sign in _OUT_OF_MEMORY):
        state = "OUT_OF_MEMORY"
    if state in _WORDS:
        return f"Slurm job {job} {_WORDS[state]}"
    last = next((line for line in reversed(told) if "error" in line.lower()), None)
    return f"Slurm job {job} left no result ({state.lower()}){f': {last.strip()}' if last else ''}; see {errors}"


def _last_lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()[-40:]
    except OSError:
        return []
