"""Where jobs run, continued: Slurm through submitit, and Ray. Engines that exist; we hand them frozen jobs.

Files are how a job and its launcher know of each other, so the sweep's folder, the outputs and the data must lie where
every node sees them at the same path. A ledger on a network file system is no risk: each job writes its own manifest.
"""

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, JobError
from marquee.runs.signals import taken_off
from marquee.sweeps.pool import Pool, Running, Stop
from marquee.sweeps.slurm import GONE, OVER, Queue, end_of, state_now

# How often a job may come to its time limit: as long as it saves something in between (ClusterJob).
_REQUEUES = 10_000
# Seconds until a result that a job has left is seen on a network file system.
_RESULT_SECONDS = 15.0


class SubmititPool(Pool):
    """Jobs that submitit hands to Slurm as an array, or (`executor=local`) to processes of this machine.

    They go on when the launcher is gone; issued again, the same sweep finds them.
    """

    counts_time = False
    outlives = True

    def __init__(self, folder: Path, executor: str, threads: int, n_jobs: int, parameters: Mapping[str, Any]):
        submitit = _imported("submitit", "slurm")
        if executor == "slurm" and shutil.which("srun") is None:
            raise ConfigError(
                "hydra.launcher.executor=slurm: there is no Slurm on this machine (no srun on the path). Submit from a "
                "login node, or try the same path here: hydra.launcher.executor=local"
            )
        self.folder, self.kind, self.threads = folder / "cluster", executor, threads
        self.capacity, self.queue = n_jobs, Queue()
        self.minutes = parameters["timeout_min"]
        self.executor = submitit.AutoExecutor(
            folder=str(self.folder), cluster=executor, slurm_max_num_timeout=_REQUEUES
        )
        given = {key: value for key, value in parameters.items() if value is not None}
        for key, value in given.items():
            # In a script for sbatch each line that does not begin with #SBATCH is a command.
            if key != "slurm_setup" and not str(value).isprintable():
                raise ConfigError(f"hydra.launcher: {key.removeprefix('slurm_')} is one line of text, not {value!r}.")
        self.executor.update_parameters(**given)

    def start(self, files: Sequence[Path]) -> list[Running]:
        import submitit

        try:
            with self.executor.batch():  # on Slurm: one array
                job = ClusterJob(self.minutes)
                jobs = [self.executor.submit(job, str(file.resolve()), self.threads) for file in files]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            told = " ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines())
            raise ConfigError(f"hydra/launcher=slurm: sbatch takes no such job: {told}") from error
        return [self._running(job) for job in jobs]

    def adopt(self, place: str) -> Running | None:
        import submitit
        from submitit.local.local import LocalJob

        kind, _, number = place.partition(" ")
        if kind != self.kind or not number:
            return None
        if kind == "local":
            running = LocalRunning(LocalJob(self.folder, number))
            return running if running.exit_code() is None else None
        return self._running(submitit.SlurmJob(self.folder, number)) if state_now(number) not in {*OVER, GONE} else None

    def _running(self, job: Any) -> "SubmititRunning":
        return LocalRunning(job) if self.kind == "local" else SlurmRunning(job, self.queue)


class ClusterJob:
    """The function that submitit pickles. A requeued job (pre-emption, time limit) goes on with its run.

    minutes  its time limit
    """

    def __init__(self, minutes: float):
        self.minutes, self.began = minutes, 0.0

    def __call__(self, file: str, threads: int | None) -> int:
        import submitit
        from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

        from marquee.sweeps.worker import submitted

        self.began = time.time()
        # What it left when it was taken off before is not its result.
        submitit.JobEnvironment().paths.result_pickle.unlink(missing_ok=True)
        code = submitted(file, threads)
        if taken_off.is_set():  # Lightning and we have caught submitit's exit, to save everything: now it is due
            sys.exit(LOCAL_REQUEUE_RETURN_CODE)
        return code

    def checkpoint(self, file: str, threads: int | None) -> Any:
        """submitit calls this in the process that is about to be taken away; what it returns is submitted anew.

        Raises JobError, which fails the run, where no epoch ended in most of the time limit: it would never end.
        """
        import submitit

        from marquee.sweeps.worker import saved_last

        if time.time() - self.began > 30 * self.minutes and saved_last(Path(file)) < self.began:
            raise JobError(f"no epoch ended in hydra.launcher.time_limit={self.minutes:g} minutes: give it more")
        taken_off.set()
        return submitit.helpers.DelayedSubmission(ClusterJob(self.minutes), file, threads)


class SubmititRunning(Running):
    """A job of submitit's."""

    kind: str

    def __init__(self, job: Any):
        self.job = job

    def result(self) -> int | None:
        """The exit code that the job has left, None where it left none."""
        with contextlib.suppress(OSError):  # a network file system looks anew
            os.utime(self.job.paths.folder)
        try:
            outcome, code = pickle.loads(self.job.paths.result_pickle.read_bytes())
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return int(code) if outcome == "success" else JobError.exit_code

    @property
    def place(self) -> str:
        return f"{self.kind} {self.job.job_id}"


class LocalRunning(SubmititRunning):
    """A job of submitit's executor for one machine: a controller's process, which starts the job's."""

    kind = "local"

    def exit_code(self) -> int | None:
        if self.job._process is not None:
            over = self.job._process.poll() is not None
        else:  # adopted: all that is known of it is its controller's process
            over = self.result() is not None or not _is_process(int(self.job.job_id))
        if not over:
            return None
        code = self.result()
        return -signal.SIGKILL if code is None else code

    def stop(self, how: Stop) -> None:
        with contextlib.suppress(OSError):
            os.kill(int(self.job.job_id), signal.SIGKILL if how == "kill" else signal.SIGTERM)


class SlurmRunning(SubmititRunning):
    """A job of Slurm's. Its end is Slurm's to say: one that is requeued runs on, whatever its process has left."""

    kind = "slurm"

    def __init__(self, job: Any, queue: Queue):
        super().__init__(job)
        self.queue, self.began = queue, time.monotonic()
        self.over: str | None = None  # the state that it ended in
        self.missed: float | None = None  # since when it is over and its result not to be seen
        self.code: int | None = None

    def exit_code(self) -> int | None:
        if self.code is not None:
            return self.code
        if self.over is None:
            state = self.queue.state(self.job.job_id, self.began, hurry=self.job.paths.result_pickle.exists())
            if state is None or state not in {*OVER, GONE}:
                return None
            self.over, self.missed = state, time.monotonic()
        found = self.result()
        if self.over in ("COMPLETED", "FAILED", GONE):
            if found is None and time.monotonic() - (self.missed or 0) < _RESULT_SECONDS and self.over != "FAILED":
                return None
            self.code = -signal.SIGKILL if found is None else found
        else:  # ended by Slurm: a job that tidied up after SIGTERM may have left a result, too
            self.code = 0 if found == 0 else -signal.SIGKILL
        return self.code

    def told(self) -> str | None:
        if self.code is None or self.code >= 0 or self.over is None:
            return None
        return end_of(self.job.job_id, self.over, self.job.paths.stderr)

    @property
    def cancelled(self) -> bool:
        return self.over == "CANCELLED"

    def stop(self, how: Stop) -> None:
        running = self.queue.state(self.job.job_id, self.began, hurry=True) == "RUNNING"
        signals = ["--signal=INT"] if how == "gently" and running else []
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", *signals, str(self.job.job_id)], check=False, timeout=30)


class RayPool(Pool):
    """Jobs as tasks of a Ray cluster, each in a worker process that ends with it."""

    def __init__(self, address: str | None, n_jobs: int, threads: int, num_cpus: float, num_gpus: float,
                 memory_gb: float | None):  # fmt: skip
        ray = _imported("ray", "ray")
        self.capacity, self.threads = n_jobs, threads
        if not ray.is_initialized():
            _check_address(address)
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                told = str(error).splitlines()[0]
                raise JobError(f"hydra.launcher.address={address}: Ray was not reached or started: {told}") from error
        memory = int(memory_gb * 2**30) if memory_gb else None
        self.task = ray.remote(max_calls=1, max_retries=0, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory)(_in_ray)

    def start(self, files: Sequence[Path]) -> list[Running]:
        return [RayRunning(self.task.remote(str(file.resolve()), self.threads)) for file in files]


class RayRunning(Running):
    """A task of Ray's."""

    def __init__(self, reference: Any):
        self.reference = reference
        self.lost: str | None = None

    def exit_code(self) -> int | None:
        import ray

        ready, _ = ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(ray.get(self.reference))
        except ray.exceptions.TaskCancelledError:
            return 130
        except ray.exceptions.RayError as error:  # the worker died: killed, out of memory, node lost
            self.lost = type(error).__name__
            return -signal.SIGKILL

    def stop(self, how: Stop) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(self.reference, force=how == "kill")  # without force: as Ctrl-C in the worker

    def told(self) -> str | None:
        return f"its worker or node was lost ({self.lost}, as Ray calls it)" if self.lost else None

    @property
    def place(self) -> str:
        return f"ray {self.reference.hex()[:16]}"


def _check_address(address: str | None) -> None:
    """Ray itself tries for minutes, in a log that nobody sees."""
    if address in (None, "auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"hydra.launcher.address={address} is no address.\n  allowed: host:port, auto, or null for this machine"
        )
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise JobError(
            f"hydra.launcher.address={address}: no Ray cluster answers there ({error.strerror or error}). Start one "
            "(ray start --head), or leave the address out to use this machine."
        ) from error


def _in_ray(file: str, threads: int | None) -> int:
    from marquee.sweeps.worker import submitted

    return submitted(file, threads)


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"hydra/launcher={extra} needs {module}, which is not installed: pip install 'marquee[{extra}]'"
        ) from error


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
