"""What an attempt at a job left: its run's manifest, its log, and the exception that its exit code stands for."""

from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, DataError, JobError, MarqueeError
from marquee.runs.record import read_manifest
from marquee.sweeps.store import Job

_LOG_LINES = 12


def manifest_of(folder: Path | None) -> dict[str, Any]:
    """The manifest of a job's run; an empty one where there is none, or none that can be read."""
    try:
        return read_manifest(folder) if folder else {}
    except ConfigError:
        return {}


def tail(file: Path, lines: int) -> list[str]:
    """The last lines of a log, as far as they lie in its last 20,000 bytes; none where it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - 20_000, 0))
            return stream.read().decode("utf-8", "replace").rstrip().splitlines()[-lines:]
    except OSError:
        return []


def last_words(log: Path) -> list[str]:
    """The end of a log; of a crash in compiled code the head of its traceback, which has the latest call on top."""
    lines = tail(log, 400)
    crash = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    return lines[crash[-1] :][:_LOG_LINES] if crash else lines[-_LOG_LINES:]


def error_of(job: Job) -> MarqueeError:
    """What a job's end is as an exception: of the kind that its exit code stands for."""
    kind = {ConfigError.exit_code: ConfigError, DataError.exit_code: DataError}.get(job.exit_code or 0, JobError)
    return kind(job.error or f"the job was {job.status}")
