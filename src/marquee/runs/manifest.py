"""A run is a folder that explains itself: its place, its manifest, its config.yaml, and how to find it again."""

import json
import os
import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from marquee.errors import ConfigError, JobError
from marquee.runs.environment import environment

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
Status = Literal["running", "finished", "failed", "interrupted", "pruned"]

# Every manifest has these; they are null until known.
KEYS = (
    "schema_version", "id", "fingerprint", "status", "name", "tags", "sweep", "config", "overrides", "code",
    "environment", "data", "split", "seed", "started", "finished", "durations", "metrics", "baselines", "oracle",
    "checkpoint", "error", "process",
)  # fmt: skip


class Run:
    """A run's folder and its manifest. Every change reaches the disk whole or not at all."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def create(cls, output: Path, fingerprint: str, slug: str, content: Mapping[str, Any]) -> "Run":
        """Reserve `<output>/runs/<fingerprint8>-<slug>/`, or a numbered one beside it, and write status `running`.

        mkdir decides who owns a name, so two runs that start at the same moment get two folders. Raises JobError
        where the output folder cannot be written.
        """
        stem = f"{fingerprint[:8]}-{slugged(slug)}"
        number = 1
        try:
            (output / "runs").mkdir(parents=True, exist_ok=True)
            while True:
                folder = output / "runs" / (stem if number == 1 else f"{stem}-{number}")
                try:
                    folder.mkdir()
                    break
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise _unwritable(output, error) from error
        blank: dict[str, Any] = dict.fromkeys(KEYS)
        blank.update(tags=[], overrides=[], durations={}, metrics={}, baselines={})
        if not content.get("environment"):
            blank["environment"] = environment()
        start = {"schema_version": SCHEMA_VERSION, "id": folder.name, "fingerprint": fingerprint, "status": "running"}
        run = cls(
            folder,
            {
                **blank,
                **{key: value for key, value in content.items() if value is not None},
                **start,
                "started": now(),
                "process": process(),
            },
        )
        run.save()
        write_text(folder / "config.yaml", _yaml(run.manifest["config"] or {}))
        point_latest(output, folder)
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in a folder. Raises ConfigError where there is none."""
        return cls(folder, read_manifest(folder))

    def update(self, **fields: Any) -> None:
        """Change fields of the manifest and save it."""
        self.manifest.update(fields)
        self.save()

    def finish(self, status: Status, **fields: Any) -> None:
        """Write the end of a run: its status, the time, and what is known by now."""
        self.update(status=status, finished=now(), **fields)

    def save(self) -> None:
        """Write manifest.json atomically."""
        write_text(self.folder / MANIFEST, json.dumps(_jsonable(self.manifest), indent=2, ensure_ascii=False) + "\n")

    def restart(self, overrides: Sequence[str] = ()) -> None:
        """Mark an interrupted run as running again, in this process; `resumed` lists every time it happened."""
        resumed = [*(self.manifest.get("resumed") or []), {"at": now(), "overrides": list(overrides)}]
        self.update(status="running", finished=None, error=None, process=process(), resumed=resumed)

    def reconfigure(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Record that the run goes on with another configuration (more epochs): what stands here is what was trained.

        The folder keeps its name, and `begun_as` the fingerprint that trackers know the run by.
        """
        begun_as = self.manifest.get("begun_as") or self.manifest["fingerprint"]
        self.update(config=dict(config), fingerprint=fingerprint, begun_as=begun_as)
        write_text(self.folder / "config.yaml", _yaml(config))


def slugged(text: str) -> str:
    """A name that any file system takes: lower-case words joined by hyphens, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "run"


def now() -> str:
    """UTC, to the millisecond: 2026-01-31T12:00:00.000+00:00."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def process() -> dict[str, Any]:
    """Who writes this manifest, so that a later look can tell a running run from one whose process is gone."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> str | None:
    """The kernel's start time of a process (clock ticks since boot, after the boot's id), or None where unknown.

    A process id is used again after a while; together with its start time it is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{fields[19]}"
    except (OSError, IndexError):
        return None


def is_alive(owner: Mapping[str, Any] | None) -> bool:
    """Whether the process of a manifest still runs. One on another machine cannot be seen and counts as alive."""
    if not owner or owner.get("host") != socket.gethostname():
        return owner is not None
    if owner.get("started") is not None:
        return process_start(owner["pid"]) == owner["started"]
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def is_here(manifest: Mapping[str, Any]) -> bool:
    """Whether the process of a run is, or was, on this machine, so that it can be told how it is."""
    return (manifest.get("process") or {}).get("host") == socket.gethostname()


def status_of(manifest: Mapping[str, Any]) -> str:
    """The status to show: `running` with its process gone was interrupted (killed -9, power cut)."""
    status = manifest.get("status", "failed")
    return "interrupted" if status == "running" and not is_alive(manifest.get("process")) else status


# Reading and finding ------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder. Raises ConfigError where it is missing, unreadable or from a later Marquee."""
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no run: it has no {MANIFEST}. `marquee ls` lists the runs.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or "id" not in manifest:
        raise ConfigError(f"{file} is not the manifest of a run.")
    if manifest.get("schema_version", 0) > SCHEMA_VERSION:
        raise ConfigError(
            f"{file} has schema_version {manifest['schema_version']}; this Marquee reads up to {SCHEMA_VERSION}. "
            "Upgrade marquee."
        )
    return manifest


def run_folders(output: Path) -> list[Path]:
    """The folders of all runs, by name."""
    return sorted(file.parent for file in (output / "runs").glob(f"*/{MANIFEST}"))


def run_folders_of(output: Path, fingerprint: str) -> list[Path]:
    """The folders of the runs that may have a fingerprint: their names begin with its first digits."""
    return sorted(file.parent for file in (output / "runs").glob(f"{fingerprint[:8]}-*/{MANIFEST}"))


def find_run(run: str, output: Path = Path("outputs")) -> Path:
    """The folder of a run that is named by path, id, fingerprint prefix, id prefix, or `latest`.

    Raises ConfigError for a name that fits no run or several, with the candidates.
    """
    if run == "latest":
        return _latest(output)
    path = Path(run).expanduser()
    if (path / MANIFEST).is_file():
        return path.resolve()
    if path.name == MANIFEST and path.is_file():
        return path.parent.resolve()
    folders = run_folders(output)
    for folder in folders:
        if folder.name == run:
            return folder.resolve()
    matches = [folder for folder in folders if run and folder.name.startswith(run)]
    if not matches and len(run) > 8 and re.fullmatch(r"[0-9a-f]+", run):
        same = [folder for folder in folders if folder.name.startswith(run[:8])]
        matches = [folder for folder in same if read_manifest(folder)["fingerprint"].startswith(run)]
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        raise ConfigError(f"{run} may be any of these runs; write more of the name:\n" + _names(matches))
    if path.is_dir():
        raise ConfigError(f"{run} is a folder without {MANIFEST}, so no run.")
    raise ConfigError(_no_such_run(run, output, folders))


def _no_such_run(run: str, output: Path, folders: list[Path]) -> str:
    if not folders:
        return f"There is no run {run}: {output / 'runs'} holds none yet. Start one: marquee train"
    from marquee.config.targets import closest

    near = closest(run, [folder.name for folder in folders])
    hint = f" Did you mean {near}?" if near else ""
    recent = sorted(folders, key=lambda folder: (folder / MANIFEST).stat().st_mtime)[-5:]
    return f"There is no run {run} in {output / 'runs'}.{hint} The most recent:\n" + _names(reversed(recent))


def _names(folders: Any) -> str:
    return "\n".join(f"  {folder.name}" for folder in folders)


def _latest(output: Path) -> Path:
    pointer = output / "latest"
    target = pointer
    if pointer.is_file():  # the text form, where links are not allowed
        target = output / pointer.read_text(encoding="utf-8").strip()
    if (target / MANIFEST).is_file():
        return target.resolve()
    folders = run_folders(output)
    if not folders:
        raise ConfigError(f"There is no latest run: {output / 'runs'} holds none yet. Start one: marquee train")
    return max(folders, key=lambda folder: read_manifest(folder).get("started") or "").resolve()


def point_latest(output: Path, folder: Path) -> None:
    """Make `<output>/latest` a link to the run, replaced in one step; a text file where links are not allowed."""
    target = os.path.join("runs", folder.name)
    temporary = output / f".latest-{os.getpid()}-{folder.name}"
    try:
        os.symlink(target, temporary, target_is_directory=True)
    except OSError:
        temporary.write_text(target + "\n", encoding="utf-8")
    try:
        os.replace(temporary, output / "latest")
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(output, error) from error


# Writing -------------------------------------------------------------------------------------------------------------


def write_text(file: Path, text: str) -> None:
    """Replace a file's content in one step: a reader sees the old text or the new one, also after a power cut."""
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~umask())
            os.replace(temporary, file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(file.parent, error) from error


def umask() -> int:
    """What the files and folders of this process are not allowed; reading it means setting it for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(folder: Path, error: OSError) -> JobError:
    return JobError(
        f"The output folder {folder} cannot be written: {error.strerror or error}. "
        "Free some space or choose another: paths.output=FOLDER"
    )


def _yaml(content: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(_jsonable(content, finite=False), sort_keys=False, allow_unicode=True, width=120)


def _jsonable(content: Any, finite: bool = True) -> Any:
    """Plain data: NumPy and torch scalars become numbers, paths text; with `finite`, NaN and infinity become null."""
    if isinstance(content, Mapping):
        return {str(key): _jsonable(value, finite) for key, value in content.items()}
    if isinstance(content, (list, tuple, set)):
        return [_jsonable(value, finite) for value in content]
    if isinstance(content, (str, int, bool, type(None))):
        return content
    if isinstance(content, float):
        value = float(content)  # NumPy's float64 is a float, and YAML cannot write it
        return value if not finite or (value == value and abs(value) != float("inf")) else None
    if hasattr(content, "item"):
        return _jsonable(content.item(), finite)
    return str(content)
