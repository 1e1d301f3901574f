"""A sweep is a folder: `sweep.json` lists its jobs, `jobs/` holds each frozen job, its output and the name of its run.

The runs themselves lie with all others in `<output>/runs/`, so one run can belong to several sweeps and is made once.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, JobError
from marquee.runs import lock
from marquee.runs.liveness import status_of
from marquee.runs.record import MANIFEST, now, read_manifest, slugged, write_record

SCHEMA_VERSION = 1
RECORD = "sweep.json"
# Words that say where and how long, and nothing of what is compared.
_NO_CONTENT = (
    "hydra.launcher", "hydra/launcher", "hydra.sweeper.n_trials", "hydra.sweeper.storage", "paths.", "tracker", "-",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass
class Job:
    """One job of a sweep and what became of it.

    status     waiting, running, finished, failed, interrupted or pruned
    run        the id of its run in `<output>/runs/`, as soon as there is one
    attempts   how often it was started under this sweep's name; 0: its result was stored before
    seconds    wall time of the last attempt
    place      where the last attempt was started: a process, a cluster's job
    """

    index: int
    overrides: list[str]
    model: str = ""
    fingerprint: str | None = None
    status: str = "waiting"
    run: str | None = None
    error: str | None = None
    attempts: int = 0
    seconds: float | None = None
    exit_code: int | None = None
    place: str | None = None

    @property
    def stem(self) -> str:
        return f"jobs/{self.index:04d}"


@dataclass
class Sweep:
    """The record of a sweep. Every change reaches the disk whole or not at all."""

    folder: Path
    name: str
    command: list[str]
    began: str
    jobs: list[Job] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path, command: Sequence[str]) -> "Sweep":
        """The sweep in a folder, with the jobs that it holds; a new one where there is none.

        A record that cannot be read is put aside as `sweep.json.unreadable` and made anew: the runs know themselves.
        """
        try:
            (folder / "jobs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(f"The sweep's folder {folder} cannot be written: {error.strerror}.") from error
        if (folder / RECORD).is_file():
            try:
                sweep = cls.open(folder)
                sweep.command = list(command)
                return sweep
            except ConfigError as error:
                if "Upgrade" in str(error):
                    raise
                os.replace(folder / RECORD, folder / f"{RECORD}.unreadable")
        return cls(folder, folder.name, list(command), now())

    @classmethod
    def open(cls, folder: Path) -> "Sweep":
        """The sweep in a folder. Raises ConfigError where there is none, or none that this version reads."""
        file = folder / RECORD
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema_version"] > SCHEMA_VERSION:
                raise ConfigError(
                    f"{file} has schema_version {content['schema_version']}; this Marquee reads up to "
                    f"{SCHEMA_VERSION}. Upgrade marquee."
                )
            jobs = [_read(job) for job in content["jobs"]]
            command, began = content["command"], content["began"]
            if not _is_text(command) or not datetime.fromisoformat(began):
                raise ValueError("command is no list of text")
            return cls(folder, folder.name, command, began, jobs)
        except FileNotFoundError:
            raise ConfigError(f"{folder} is no sweep: it has no {RECORD}. `marquee sweeps` lists them.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file} cannot be read: {type(error).__name__}: {error}") from error

    @property
    def output(self) -> Path:
        """The folder that `runs/` lies in: two up."""
        return self.folder.parent.parent

    def add(self, jobs: Sequence[Job]) -> None:
        """Take in jobs; one with the overrides or the fingerprint of a job that is held takes its place."""
        typed = {tuple(job.overrides) for job in jobs}
        same = {job.fingerprint for job in jobs}
        indices = {job.index for job in jobs}
        kept = [job for job in self.jobs if tuple(job.overrides) not in typed and job.fingerprint not in same]
        free = max([*indices, *(job.index for job in kept), -1]) + 1
        for job in kept:  # the sweeper counts from its own first job: an older one with that number makes room
            if job.index in indices:
                _move(self.folder, job, free)
                free += 1
        self.jobs = sorted([*kept, *jobs], key=lambda job: job.index)

    def save(self) -> None:
        content = {
            "schema_version": SCHEMA_VERSION, "name": self.name, "command": self.command, "began": self.began,
            "saved": now(), "jobs": [{**asdict(job), "log": f"{job.stem}.log"} for job in self.jobs],
        }  # fmt: skip
        write_record(self.folder / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def run_folder(self, job: Job) -> Path | None:
        """The folder of a job's run: what the job itself has noted, else `job.run`."""
        name = noted_run(self.folder, job) or job.run
        return self.output / "runs" / Path(name).name if name else None  # a name, and no way out of `runs/`

    def run_folders(self) -> list[Path]:
        """The folders of all runs, in the order of the jobs, each once."""
        found = [folder for job in self.jobs if (folder := self.run_folder(job)) and (folder / MANIFEST).is_file()]
        return list(dict.fromkeys(found))

    def status(self, job: Job) -> str:
        """A job's status as it is now; one that is `running` in the record is what its run says."""
        if job.status != "running":
            return job.status
        folder = self.run_folder(job)
        if folder is None:
            return "running" if lock.at_work(self.folder) else "interrupted"
        with suppress(ConfigError):
            return status_of(folder, read_manifest(folder))
        return "interrupted"


def _read(content: Mapping[str, Any]) -> Job:
    """A job of a record. Raises ValueError where a key is of another kind: a record may be somebody else's."""
    known = {entry.name for entry in fields(Job)}
    job = Job(**{key: value for key, value in content.items() if key in known})
    if not isinstance(job.index, int):
        raise ValueError(f"index of a job: {job.index!r}")
    kinds = {"run": str, "error": str, "place": str, "fingerprint": str, "exit_code": int, "seconds": (int, float)}
    for key, kind in {**kinds, "status": str, "model": str, "attempts": int}.items():
        value = getattr(job, key)
        if not isinstance(value, kind) and (value is not None or key not in kinds):
            raise ValueError(f"{key} of job {job.index}: {value!r}")
    if not _is_text(job.overrides):
        raise ValueError(f"overrides of job {job.index}: {job.overrides!r}")
    return job


def _is_text(words: Any) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _move(folder: Path, job: Job, index: int) -> None:
    before, job.index = job.stem, index
    for ending in (".json", ".log", ".run"):
        with suppress(FileNotFoundError):
            os.replace(folder / f"{before}{ending}", folder / f"{job.stem}{ending}")


# What a job notes of itself ------------------------------------------------------------------------------------------


def noted_run(folder: Path, job: Job) -> str | None:
    """The run that a job opened or is to continue: the content of `jobs/NNNN.run`."""
    with suppress(OSError):
        return (folder / f"{job.stem}.run").read_text(encoding="utf-8").strip() or None
    return None


def note_run(folder: Path, stem: str, run: str | None) -> None:
    """Write, or take away, the name of a job's run."""
    file = folder / f"{stem}.run"
    if run is None:
        file.unlink(missing_ok=True)
    else:
        write_record(file, run + "\n")


def telling_words(jobs: Sequence[Job], common: Sequence[str] = ()) -> dict[int, str]:
    """For each job (by index) the words that tell it from the others; what a search adds to prune is none of them.

    common  words that are known to be the same in all jobs, also in those that are still to come
    """
    first, *others = [set(job.overrides) for job in jobs]
    shared = first.intersection(*others).union(common) if others else set(common)
    told = {}
    for job in jobs:
        words = [word for word in job.overrides if word not in shared and not word.startswith("callbacks.pruning")]
        told[job.index] = " ".join(words) or "(defaults)"
    return told


# Names and places ----------------------------------------------------------------------------------------------------


def sweep_name(given: str | None, words: Sequence[str], data: str) -> str:
    """The name that was given, or one made of the command's content: the same command means the same sweep.

    Where the jobs run and how many trials a search has in all is no part of the content. Raises ConfigError for a
    name that cannot be a folder's.
    """
    if given is not None:
        if not _NAME.fullmatch(given):
            raise ConfigError(
                f"sweep={given}: a sweep's name is a folder's name.\n"
                "  allowed: letters, digits, dot, hyphen and underscore, beginning with a letter or digit; one name"
            )
        return given
    from hashlib import sha256

    told = sorted(word for word in words if not word.startswith(_NO_CONTENT))
    return f"{slugged(data)}-{sha256(chr(10).join(told).encode()).hexdigest()[:8]}"


def sweep_folders(output: Path) -> list[Path]:
    """The folders of all sweeps, by name."""
    return sorted(file.parent for file in (output / "sweeps").glob(f"*/{RECORD}"))


def find_sweep(sweep: str, output: Path = Path("outputs")) -> Path:
    """The folder of a sweep, named by its name or path. Raises ConfigError with the sweeps that there are."""
    for folder in (output / "sweeps" / sweep, Path(sweep).expanduser()):
        if sweep and (folder / RECORD).is_file():
            return folder
    from marquee.config.targets import closest

    names = [folder.name for folder in sweep_folders(output)]
    near = closest(sweep, names)
    raise ConfigError(
        f"There is no sweep {sweep} in {output / 'sweeps'}.{f' Did you mean {near}?' if near else ''}\n"
        f"  sweeps: {', '.join(names) or 'none yet; start one: marquee train -m seed=1,2,3'}"
    )


# One process works on a sweep at a time ------------------------------------------------------------------------------

_held: list[Path] = []


def hold(folder: Path) -> None:
    """Keep other processes out of a sweep's folder until `release` or the end of this one.

    Raises ConfigError where another holds it.
    """
    try:
        held = lock.hold(folder)
    except OSError as error:
        raise JobError(f"The sweep's folder {folder} cannot be written: {error.strerror or error}.") from error
    if not held:
        raise ConfigError(
            f"The sweep {folder.name} is being run by another process ({lock.told(folder)}). Wait for it, stop it, or "
            f"give this one another name: sweep=NAME (what is finished by then is not run again)."
        )
    _held.append(folder)


def release() -> None:
    """Let go of every sweep that this process holds."""
    while _held:
        lock.release(_held.pop())
