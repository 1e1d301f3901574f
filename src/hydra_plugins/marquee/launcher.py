"""Marquee's launchers as Hydra finds them. Hydra imports this file at every start, so it holds names and no work.

A launcher has settings and a pool; the work is done by the command's session (marquee/sweeps/session.py).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from hydra.plugins.launcher import Launcher


class _MarqueeLauncher(Launcher):
    """What all launchers share; `pool` says where jobs run."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.config = config

    def pool(self, folder: Path) -> Any:
        """The place for the jobs of the sweep in `folder`."""
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        from marquee.sweeps.session import current

        return current().launch(self, job_overrides, initial_job_idx)


class LocalLauncher(_MarqueeLauncher):
    """`n_jobs` processes on this machine."""

    def __init__(
        self,
        *,
        n_jobs: Annotated[int, Ge(1)] = 1,
        time_limit: Annotated[float, Gt(0)] | None = None,
        retries: Annotated[int, Ge(0)] = 0,
        on_failure: Literal["continue", "stop"] = "continue",
        gpus: list[Annotated[int, Ge(0)]] | None = None,
    ):
        self.n_jobs, self.gpus = n_jobs, gpus
        self.time_limit, self.retries, self.on_failure = time_limit, retries, on_failure

    def pool(self, folder: Path) -> Any:
        from marquee.sweeps.pool import LocalPool, thread_share

        return LocalPool(self.n_jobs, thread_share(self.n_jobs), list(self.gpus or ()))


class SlurmLauncher(_MarqueeLauncher):
    """Jobs of a Slurm cluster, through submitit."""

    def __init__(
        self,
        *,
        executor: Literal["slurm", "local"] = "slurm",
        n_jobs: Annotated[int, Ge(1)] = 64,
        time_limit: Annotated[float, Gt(0)] = 240,
        retries: Annotated[int, Ge(0)] = 2,
        on_failure: Literal["continue", "stop"] = "continue",
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        cpus_per_task: Annotated[int, Ge(1)] = 4,
        mem_gb: Annotated[float, Gt(0)] = 16,
        gpus_per_node: Annotated[int, Ge(0)] = 0,
        shell_setup: list[str] | None = None,
        additional: dict[str, Any] | None = None,
    ):
        self.executor, self.n_jobs = executor, n_jobs
        self.time_limit, self.retries, self.on_failure = time_limit, retries, on_failure
        self.partition, self.account, self.qos = partition, account, qos
        self.cpus_per_task, self.mem_gb, self.gpus_per_node = cpus_per_task, mem_gb, gpus_per_node
        self.shell_setup, self.additional = shell_setup, additional

    def pool(self, folder: Path) -> Any:
        from marquee.sweeps.clusters import SubmititPool

        minutes = max(math.ceil(self.time_limit), 1)
        slurm = {
            "partition": self.partition, "account": self.account, "qos": self.qos, "setup": self.shell_setup,
            "array_parallelism": self.n_jobs, "additional_parameters": self.additional,
            # Seconds before the limit at which a job is told to save itself: 90, but not at its very start.
            "signal_delay_s": min(90, 15 * minutes),
        }  # fmt: skip
        parameters = {
            "timeout_min": minutes, "mem_gb": self.mem_gb, "nodes": 1, "tasks_per_node": 1,
            "cpus_per_task": self.cpus_per_task, "gpus_per_node": self.gpus_per_node, "name": folder.name,
            **{f"slurm_{key}": value for key, value in slurm.items()},
        }  # fmt: skip
        return SubmititPool(folder, self.executor, self.cpus_per_task, self.n_jobs, parameters)


class RayLauncher(_MarqueeLauncher):
    """Tasks of a Ray cluster, or of this machine where no address is given."""

    def __init__(
        self,
        *,
        address: str | None = None,
        n_jobs: Annotated[int, Ge(1)] = 8,
        time_limit: Annotated[float, Gt(0)] | None = None,
        retries: Annotated[int, Ge(0)] = 1,
        on_failure: Literal["continue", "stop"] = "continue",
        num_cpus: Annotated[int, Ge(1)] = 1,
        num_gpus: Annotated[float, Ge(0)] = 0,
        memory_gb: Annotated[float, Gt(0)] | None = None,
    ):
        self.address, self.n_jobs = address, n_jobs
        self.time_limit, self.retries, self.on_failure = time_limit, retries, on_failure
        self.num_cpus, self.num_gpus, self.memory_gb = num_cpus, num_gpus, memory_gb

    def pool(self, folder: Path) -> Any:
        from marquee.sweeps.clusters import RayPool

        return RayPool(self.address, self.n_jobs, self.num_cpus, self.num_cpus, self.num_gpus, self.memory_gb)
