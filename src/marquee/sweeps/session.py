"""One command `marquee train -m`: its batches of jobs, as Hydra's launcher plugin hands them on, and how they ended.

Hydra makes sweepers and launchers by itself and knows nothing of the command that it serves. So the command begins a
session, the plugin (hydra_plugins/marquee/launcher.py) finds it, and each batch runs under it (batch.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from marquee.config.compose import typed
from marquee.errors import ConfigError
from marquee.runs.record import read_manifest
from marquee.sweeps.batch import Settings, run_batch
from marquee.sweeps.ends import error_of
from marquee.sweeps.settings import check_settings
from marquee.sweeps.store import Job
from marquee.sweeps.view import View


class Session:
    """What one command has launched.

    command  as it was typed
    jobs     that are at an end, for the summary and the exit code of the command
    places   the sweep's folder, once for each batch
    total    of a search: how many jobs there will be, and `shared`: the words that all of them have
    """

    def __init__(self, command: Sequence[str] = ()):
        self.command = list(command)
        self.jobs: list[Job] = []
        self.places: list[Path] = []
        self.total: int | None = None
        self.shared: list[str] = []

    def launch(self, launcher: Any, batch: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run a batch for a launcher; a JobReturn each, COMPLETED with the watched validation metric, or FAILED.

        first  the number of the batch's first job

        Raises ConfigError for a launcher's value of the wrong type or range.
        """
        _check(launcher)
        folder = Path(str(launcher.config.hydra.sweep.dir)).expanduser()
        settings = Settings(launcher.time_limit, launcher.retries, launcher.on_failure)
        pool = launcher.pool(folder)
        tasks = [_task_words(words) for words in batch]
        view = View(folder.name, bool(self.places), self.total, self.shared)
        jobs = run_batch(folder, self.command, tasks, first, settings, pool, view)
        self.jobs.extend(jobs)
        self.places.append(folder)
        return [_as_hydra_returns(job, folder) for job in jobs]


_current = Session()


def begin(command: Sequence[str]) -> Session:
    """Begin the session of a command; the one before it is over."""
    global _current
    _current = Session(command)
    return _current


def current() -> Session:
    """The session that was begun last."""
    return _current


def _check(launcher: Any) -> None:
    """Make the launcher's lists and dicts plain; raise ConfigError for values of the wrong type or range."""
    for name, value in vars(launcher).items():
        if name != "config" and OmegaConf.is_config(value):
            setattr(launcher, name, OmegaConf.to_container(value))
    check_settings(type(launcher), vars(launcher), "hydra.launcher")


def _task_words(words: Sequence[str]) -> list[str]:
    """A job's own words. Where Hydra's part would differ between jobs, the launcher could not share them out."""
    foreign = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: what is Hydra's own is the same for all jobs of a sweep.")
    return typed(words)


def _as_hydra_returns(job: Job, folder: Path) -> JobReturn:
    """A job's end as the JobReturn that sweepers, ours and others, read."""
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
    return result
