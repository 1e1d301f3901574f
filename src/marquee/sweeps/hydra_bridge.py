"""Between Hydra's launcher interface and ours: checked settings in, JobReturns out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marquee.config.compose import typed
from marquee.config.targets import signature
from marquee.config.values import describe, fits, shown
from marquee.errors import ConfigError
from marquee.runs.environment import cores
from marquee.sweeps.store import Job

# The jobs that launchers of this process have brought to an end, for the summary and the exit code of the command.
launched: list[Job] = []
places: list[Path] = []
command: list[str] = []  # as it was typed


def launch(launcher: Any, batch: Sequence[Sequence[str]], first: int) -> list[Any]:
    """Run a batch for a launcher; a JobReturn each, COMPLETED with the watched validation metric, or FAILED."""
    from hydra.core.utils import JobReturn, JobStatus

    from marquee.runs.manifest import read_manifest
    from marquee.sweeps.launcher import Settings, error_of
    from marquee.sweeps.launcher import launch as launch_jobs

    _check(launcher)
    folder = Path(str(launcher.config.hydra.sweep.dir)).expanduser()
    settings = Settings(launcher.time_limit, launcher.retries, launcher.on_failure)
    pool = launcher.pool(folder)
    tasks = [_task_words(words) for words in batch]
    jobs = launch_jobs(folder, command, tasks, first, settings, pool, later=bool(places))
    launched.extend(jobs)
    places.append(folder)
    results = []
    for job in jobs:
        result = JobReturn(overrides=job.overrides, task_name="marquee")
        run = folder.parent.parent / "runs" / job.run if job.run else None
        result.working_dir = str(run) if run else None
        if job.status in ("finished", "pruned") and run is not None:
            manifest = read_manifest(run)
            result.status = JobStatus.COMPLETED
            result.return_value = (manifest.get("metrics") or {}).get(f"validation/{manifest.get('monitor')}")
        else:
            result.status = JobStatus.FAILED
            result.return_value = error_of(job)
        results.append(result)
    return results


def _task_words(words: Sequence[str]) -> list[str]:
    """A job's own words. Where Hydra's part would differ between jobs, the launcher could not share them out."""
    foreign = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: what is Hydra's own is the same for all jobs of a sweep.")
    return typed(words)


def _check(launcher: Any) -> None:
    """Raise ConfigError for a launcher's value of the wrong type or range. Unknown keys are refused by Hydra."""
    from omegaconf import OmegaConf

    wrong = []
    for name, parameter in signature(type(launcher)).keys.items():
        value = getattr(launcher, name)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
            setattr(launcher, name, value)
        if not fits(parameter.annotation, value):
            wrong.append(
                f"hydra.launcher.{name}\n  found:   {shown(value)}\n  allowed: {describe(parameter.annotation)}"
            )
    if wrong:
        raise ConfigError("\n\n".join(wrong))


def thread_share(n_jobs: int) -> int:
    """Threads for each of `n_jobs` jobs: an even share of OMP_NUM_THREADS, or of the cores, and one at least."""
    whole = os.environ.get("OMP_NUM_THREADS", "")
    return max((int(whole) if whole.isdigit() and int(whole) > 0 else cores()) // n_jobs, 1)
