"""Where jobs run, continued: Slurm through submitit, and Ray. Engines that exist; we hand them frozen jobs.

Files are how a job and its launcher know of each other, so the sweep's folder, the outputs and the data must lie where
every node sees them at the same path. A ledger on a network file system is no risk: each job writes its own manifest.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, JobError
from marquee.sweeps.pool import Pool, Running, Stop

_SLURM_LIVE = ("PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "COMPLETING", "UNKNOWN")


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
        self.capacity = n_jobs
        self.executor = submitit.AutoExecutor(folder=str(self.folder), cluster=executor)
        given = {key: value for key, value in parameters.items() if value is not None}
        for key, value in given.items():
            # In a script for sbatch each line that does not begin with #SBATCH is a command.
            if key != "slurm_setup" and not str(value).isprintable():
                raise ConfigError(f"hydra.launcher: {key.removeprefix('slurm_')} is one line of text, not {value!r}.")
        self.executor.update_parameters(**given)

    def start(self, files: Sequence[Path]) -> list[Running]:
        with self.executor.batch():  # on Slurm: one array
            jobs = [self.executor.submit(ClusterJob(), str(file.resolve()), self.threads) for file in files]
        return [SubmititRunning(job, self.kind) for job in jobs]

    def adopt(self, place: str) -> Running | None:
        import submitit
        from submitit.local.local import LocalJob

        kind, _, number = place.partition(" ")
        if kind != self.kind or not number:
            return None
        if kind == "local":
            running = SubmititRunning(LocalJob(self.folder, number), kind)
            return running if running.exit_code() is None else None
        job: Any = submitit.SlurmJob(self.folder, number)
        return SubmititRunning(job, kind) if job.state.split(" ")[0] in _SLURM_LIVE else None


class ClusterJob:
    """The function that submitit pickles. A requeued job (pre-emption, time limit) goes on with its run."""

    def __call__(self, file: str, threads: int | None) -> int:
        from marquee.sweeps.worker import submitted

        return submitted(file, threads)

    def checkpoint(self, file: str, threads: int | None) -> Any:
        """submitit calls this in the process that is about to be taken away; what it returns is submitted anew."""
        import submitit

        from marquee.sweeps.worker import mark_interrupted

        mark_interrupted(Path(file), "taken off the cluster, to be continued")
        return submitit.helpers.DelayedSubmission(ClusterJob(), file, threads)


class SubmititRunning(Running):
    """A job of submitit's."""

    def __init__(self, job: Any, kind: str):
        self.job, self.kind = job, kind

    def exit_code(self) -> int | None:
        if self.kind == "local" and self.job._process is None and not self.job.paths.result_pickle.exists():
            # Adopted: all that is known of it is its controller's process.
            return None if _is_process(int(self.job.job_id)) else -signal.SIGKILL
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception:  # submitit's words for a job that left no result: killed, out of memory, node lost
            return -signal.SIGKILL

    def stop(self, how: Stop) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if self.kind == "local":
                if how == "kill":
                    os.kill(int(self.job.job_id), signal.SIGKILL)
                else:
                    os.kill(int(self.job.job_id), signal.SIGTERM)
            elif how == "gently" and self.job.state.split(" ")[0] == "RUNNING":
                subprocess.run(["scancel", "--signal=INT", str(self.job.job_id)], check=False, timeout=30)
            else:
                self.job.cancel(check=False)

    @property
    def place(self) -> str:
        return f"{self.kind} {self.job.job_id}"


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

    def exit_code(self) -> int | None:
        import ray

        ready, _ = ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(ray.get(self.reference))
        except ray.exceptions.TaskCancelledError:
            return 130
        except ray.exceptions.RayError:  # the worker died: killed, out of memory, node lost
            return -signal.SIGKILL

    def stop(self, how: Stop) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(self.reference, force=how == "kill")  # without force: as Ctrl-C in the worker

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
