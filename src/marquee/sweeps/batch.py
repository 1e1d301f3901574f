"""From a batch of overrides to results: plan, return what is stored, continue what was interrupted, run the rest.

A grid is one batch, a search many (session.py). Everything that must survive a crash is in files: the sweep's
record, each frozen job, each run's manifest. Nothing here is needed to go on after kill -9 but the same command.
"""

import errno
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from marquee.errors import ConfigError, JobError
from marquee.runs.liveness import status_of
from marquee.runs.signals import Presses, counted_interrupts
from marquee.sweeps.ends import last_words, manifest_of, tail
from marquee.sweeps.plan import Frozen, freeze, is_over, look_again, plan, told_of_earlier
from marquee.sweeps.pool import Pool, Running, Stop, ended, in_nursery
from marquee.sweeps.store import Job, Sweep, hold, note_run
from marquee.sweeps.view import View
from marquee.sweeps.worker import TAKEN, mark_interrupted

# After a polite word, how long a job may take to end before it is ended.
GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.5


@dataclass
class Settings:
    """What a user may ask of a launcher.

    time_limit  minutes for each attempt, None: no limit
    retries     further attempts for a job that failed; each goes on where the last one's checkpoint is
    on_failure  continue: the other jobs run on; stop: no further job is started
    """

    time_limit: float | None = None
    retries: int = 0
    on_failure: Literal["continue", "stop"] = "continue"


@dataclass
class _Attempt:
    """One running attempt at a job."""

    job: Job
    running: Running
    started: float = field(default_factory=time.monotonic)
    timed_out: bool = False
    stopped_at: float | None = None


def run_batch(
    folder: Path, command: Sequence[str], batch: Sequence[Sequence[str]], first: int, settings: Settings, pool: Pool,
    view: View,
) -> list[Job]:  # fmt: skip
    """Run a batch of jobs under the sweep in `folder`; the jobs in the batch's order, each with its end.

    first  the number of the batch's first job

    Raises ConfigError or DataError before anything is started; KeyboardInterrupt after Ctrl-C, with everything saved.
    """
    hold(folder)
    sweep = Sweep.begin(folder, command)
    with view, counted_interrupts() as presses:
        if not view.later:
            view.say(f"planning {len(batch)} jobs" if len(batch) > 1 else "planning 1 job")
        frozen = in_nursery(plan, [list(words) for words in batch], folder.name)
        _one_output(folder, frozen)
        for line in told_of_earlier(sweep, frozen):
            view.say(line)
        adopted = _adopted(sweep, frozen, pool)
        jobs = [Job(first + index, job.overrides, job.model, job.fingerprint) for index, job in enumerate(frozen)]
        sweep.add(jobs)
        for index, running in adopted.items():
            jobs[index].status, jobs[index].attempts, jobs[index].place = "running", 1, running.place
        _write_plan(sweep, jobs, frozen)
        batch_run = _Batch(sweep, jobs, frozen, settings, pool, view, presses)
        batch_run.attempts = [_Attempt(jobs[index], running) for index, running in adopted.items()]
        batch_run.run()
    return jobs


def _adopted(sweep: Sweep, frozen: Sequence[Frozen], pool: Pool) -> dict[int, Running]:
    """The jobs that an earlier launcher left on a cluster and that wait or run there still, by their number here.

    One that the cluster no longer knows is at an end, whatever its run's manifest says: it can be continued.
    """
    if not pool.outlives:
        return {}
    earlier = {tuple(job.overrides): job for job in sweep.jobs if job.status == "running" and job.place}
    found = {}
    for index, job in enumerate(frozen):
        known = earlier.get(tuple(job.overrides))
        if known is None or is_over(job) or known.fingerprint != job.fingerprint:
            continue
        running = pool.adopt(known.place or "")
        if running is not None:
            found[index] = running
        elif job.status == "running":
            mark_interrupted(sweep.folder / f"{known.stem}.json", "its process on the cluster is gone")
            job.status = "interrupted"
    return found


def _one_output(folder: Path, frozen: Sequence[Frozen]) -> None:
    """Raise ConfigError where the runs would not lie beside the sweep: it names them by their place there."""
    for job in frozen:
        output = Path(job.config["paths"]["output"]).expanduser().resolve()
        if output != folder.resolve().parent.parent:
            raise ConfigError(
                f"paths.output={job.config['paths']['output']}: all runs of a sweep lie in one folder, and its own is "
                f"{folder.resolve().parent.parent}.\n  fix: one paths.output for all jobs; one sweep for each folder"
            )


def _write_plan(sweep: Sweep, jobs: Sequence[Job], frozen: Sequence[Frozen]) -> None:
    """Freeze what is to run. Two jobs of one fingerprint are one: the first does it, the others share its run."""
    seen = set()
    try:
        for job, content in zip(jobs, frozen, strict=True):
            job.run = content.run
            note_run(sweep.folder, job.stem, content.run)
            if is_over(content):
                job.status = content.status or "finished"
            elif content.fingerprint not in seen and job.status != "running":
                freeze(sweep.folder, job.stem, content)
                (sweep.folder / f"{job.stem}.log").unlink(missing_ok=True)
            seen.add(content.fingerprint)
        sweep.save()
    except OSError as error:
        room = " Free some space." if error.errno == errno.ENOSPC else ""
        raise JobError(f"{sweep.folder} cannot be written: {error.strerror or error}.{room}") from error


class _Batch:
    """One batch on its way."""

    def __init__(
        self, sweep: Sweep, jobs: list[Job], frozen: list[Frozen], settings: Settings, pool: Pool, view: View,
        presses: Presses,
    ):  # fmt: skip
        self.sweep, self.jobs, self.settings, self.pool = sweep, jobs, settings, pool
        self.view, self.presses = view, presses
        self.frozen = {job.index: content for job, content in zip(jobs, frozen, strict=True)}
        self.elsewhere: set[int] = set()  # jobs whose run another process of this machine is at
        first: dict[str, Job] = {}
        self.twins: dict[int, Job] = {}  # a job's index -> the job that does its work
        for job, content in zip(jobs, frozen, strict=True):
            if content.fingerprint in first:
                self.twins[job.index] = first[content.fingerprint]
            else:
                first[content.fingerprint] = job
        self.waiting = [job for job in jobs if job.status == "waiting" and job.index not in self.twins]
        self.attempts: list[_Attempt] = []
        self.stopping = False  # no further job is started

    def run(self) -> None:
        """Until nothing runs and nothing waits, or until somebody says stop."""
        self.presses.jobs_run = True
        self.view.begin(self.sweep, self.jobs, self.waiting, self.pool.capacity)
        try:
            while self.attempts or (self.waiting and not self.stopping):
                self._start()
                self.pool.wait([attempt.running for attempt in self.attempts], _POLL_SECONDS)
                self._hear()
                self._limit()
                for attempt in [a for a in self.attempts if a.running.exit_code() is not None]:
                    self.attempts.remove(attempt)
                    self._end(attempt)
                self.view.refresh([(a.job, a.running, a.started) for a in self.attempts])
        except BaseException:
            self._leave()
            raise
        finally:
            self._share()
            self.sweep.save()
            self.view.end()
        if self.presses.count:
            raise KeyboardInterrupt(_to_go_on(self.jobs))

    def _start(self) -> None:
        begun = [] if self.stopping else self._ready(self.pool.capacity - len(self.attempts))
        if not begun:
            return
        files = [self.sweep.folder / f"{job.stem}.json" for job in begun]
        for job, running in zip(begun, self.pool.start(files), strict=True):
            job.status, job.attempts, job.error, job.place = "running", job.attempts + 1, None, running.place
            self.attempts.append(_Attempt(job, running))
        self.sweep.save()

    def _ready(self, free: int) -> list[Job]:
        """The next jobs to start. What another sweep has done meanwhile is taken; what one is doing is waited for."""
        ready = []
        for job in list(self.waiting):
            if len(ready) >= free:
                break
            content = self.frozen[job.index]
            look_again(content)
            if content.status == "running":
                if job.index not in self.elsewhere:
                    self.elsewhere.add(job.index)
                    self.view.say(f"another process is at {content.run}: waiting for its end")
                continue
            self.waiting.remove(job)
            job.run = content.run
            note_run(self.sweep.folder, job.stem, content.run)
            if is_over(content):
                job.status = content.status or "finished"
                self.view.ended(job, manifest_of(self.sweep.run_folder(job)))
                self.sweep.save()
            else:
                ready.append(job)
        return ready

    def _hear(self) -> None:
        """Ctrl-C once: stop after the epoch; twice: now; three times: at once."""
        if not self.presses.heard():
            return
        self.stopping = True
        how: Stop = ("gently", "now", "kill")[min(self.presses.count, 3) - 1]
        for attempt in self.attempts:
            attempt.running.stop(how)
            attempt.stopped_at = time.monotonic() if how == "now" else attempt.stopped_at
        one = len(self.attempts) == 1
        count = f"{len(self.attempts)} running job{'' if one else 's'}"
        words = {
            "gently": f"stopping: {count} {'ends with its' if one else 'end with their'} epoch; Ctrl-C again stops now",
            "now": f"stopping {count} now",
            "kill": f"ending {count}",
        }
        self.view.say(words[how])

    def _limit(self) -> None:
        now, limit = time.monotonic(), self.settings.time_limit
        for attempt in self.attempts:
            over = limit is not None and self.pool.counts_time and now - attempt.started > limit * 60
            if over and attempt.stopped_at is None:
                attempt.timed_out, attempt.stopped_at = True, now
                attempt.running.stop("now")
            elif attempt.stopped_at is not None and now - attempt.stopped_at > GRACE_SECONDS:
                attempt.running.stop("kill")

    def _end(self, attempt: _Attempt) -> None:
        """Read how an attempt ended from what it left: its run's manifest, its exit code, its log."""
        job = attempt.job
        job.seconds = round(time.monotonic() - attempt.started, 3)
        job.exit_code = attempt.running.exit_code()
        if job.exit_code == TAKEN:
            job.status, job.attempts, job.seconds, job.exit_code = "waiting", job.attempts - 1, None, None
            self._follow(job)
            self.waiting.insert(0, job)
            self.sweep.save()
            return
        folder = self.sweep.run_folder(job)
        job.run = folder.name if folder else None
        manifest = manifest_of(folder)
        status = status_of(folder, manifest) if folder and manifest else "failed"
        if status in ("finished", "pruned") and manifest.get("fingerprint") == job.fingerprint:
            job.status = status
        elif status == "finished":  # the code was edited and the job began afresh on a cluster: say so, keep it
            job.status, job.fingerprint = status, manifest["fingerprint"]
        elif attempt.timed_out:
            job.status, job.error = "failed", f"stopped at the time limit of {self.settings.time_limit:g} min"
        elif self.presses.count and job.exit_code in (130, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT):
            job.status, job.error = "interrupted", "stopped by Ctrl-C"
        else:
            job.status, job.error = "failed", attempt.running.told() or self._why(job, folder, manifest)
        if job.status == "failed":
            self._failed(job, attempt.running.cancelled)
        else:
            self.view.ended(job, manifest)
        self.sweep.save()

    def _follow(self, job: Job) -> None:
        """Wait for the run that the job was left to, also where the job had another fingerprint than was planned.

        It has on a cluster where the code was edited; looking for the planned one would hand it out for ever.
        """
        found = manifest_of(self.sweep.run_folder(job)).get("fingerprint")
        if found and not self.frozen[job.index].resumes:
            job.fingerprint = self.frozen[job.index].fingerprint = found

    def _why(self, job: Job, folder: Path | None, manifest: dict[str, Any]) -> str:
        if manifest.get("error"):
            return str(manifest["error"])
        code = job.exit_code
        if code is not None and code < 0:
            return f"the process {ended(code)}"
        if code == 0:
            return f"its run's folder {folder or ''} is gone".replace("  ", " ")
        told = [line for line in tail(self.sweep.folder / f"{job.stem}.log", 40) if line.startswith("error: ")]
        return told[-1].removeprefix("error: ") if told else f"the process {ended(code)}"

    def _failed(self, job: Job, cancelled: bool) -> None:
        again = job.attempts <= self.settings.retries and not self.stopping and job.exit_code != ConfigError.exit_code
        again = again and not cancelled
        log = self.sweep.folder / f"{job.stem}.log"
        self.view.failed(job, last_words(log), log, again)
        if again:
            job.status = "waiting"
            self.waiting.insert(0, job)
        elif self.settings.on_failure == "stop" and not self.stopping:
            self.stopping = True
            self.view.say("on_failure=stop: no further job is started")

    def _share(self) -> None:
        """Give the jobs that share a fingerprint what the first of them got."""
        for job in self.jobs:
            twin = self.twins.get(job.index)
            if twin is not None:
                job.status, job.run, job.error, job.exit_code = twin.status, twin.run, twin.error, twin.exit_code

    def _leave(self) -> None:
        """Something went wrong here: the jobs are told to stop, and none is left behind."""
        for how in ("now", "kill"):
            for attempt in self.attempts:
                attempt.running.stop(how)
            deadline = time.monotonic() + (GRACE_SECONDS if how == "now" else 2)
            while any(a.running.exit_code() is None for a in self.attempts) and time.monotonic() < deadline:
                time.sleep(0.1)
        for attempt in self.attempts:
            attempt.job.status = "interrupted"


def _to_go_on(jobs: Sequence[Job]) -> str:
    done = sum(job.status in ("finished", "pruned") for job in jobs)
    return f"Interrupted. {done} of {len(jobs)} jobs are done and everything else is kept; the same command goes on."
