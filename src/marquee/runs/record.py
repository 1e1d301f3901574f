"""A run is a folder that explains itself: its place, its manifest, its config.yaml."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from marquee.config.former import modern_manifest
from marquee.errors import ConfigError, JobError
from marquee.files import write_text
from marquee.runs.environment import environment
from marquee.runs.lock import hold, process

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
LATEST = "latest"  # beside `runs/`: points to the run that was begun last
Status = Literal["running", "finished", "failed", "interrupted", "pruned"]

# Every manifest has these; they are null until known.
KEYS = (
    "schema_version", "id", "fingerprint", "status", "name", "tags", "sweep", "config", "overrides", "code",
    "environment", "data", "split", "task", "seed", "started", "finished", "durations", "metrics", "baselines",
    "oracle", "checkpoint", "error", "process", "parent", "events", "update", "certificate",
)  # fmt: skip


class Run:
    """A run's folder and its manifest. Every change reaches the disk whole or not at all."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def create(cls, output: Path, fingerprint: str, slug: str, content: Mapping[str, Any]) -> "Run":
        """Reserve `<output>/runs/<fingerprint8>-<slug>/`, or a numbered one beside it, and write status `running`.

        mkdir decides who owns a name, so two runs that start at the same moment get two folders. The folder is held
        (runs/lock.py) before its manifest stands. Raises JobError where the output folder cannot be written.
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
            hold(folder)
        except OSError as error:
            raise unwritable(output, error) from error
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
        write_record(folder / "config.yaml", _yaml(run.manifest["config"] or {}))
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
        write_record(self.folder / MANIFEST, json.dumps(_jsonable(self.manifest), indent=2, ensure_ascii=False) + "\n")

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
        write_record(self.folder / "config.yaml", _yaml(config))


def slugged(text: str) -> str:
    """A name that any file system takes: lower-case words joined by hyphens, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "run"


def now() -> str:
    """UTC, to the millisecond: 2026-01-31T12:00:00.000+00:00."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


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
    version = manifest.get("schema_version") or 0
    if isinstance(version, int) and version > SCHEMA_VERSION:  # said first: a later one may be of another shape
        raise ConfigError(
            f"{file} has schema_version {version}; this Marquee reads up to {SCHEMA_VERSION}. Upgrade marquee."
        )
    if wrong := _misshapen(manifest):
        raise ConfigError(f"{file} is not as a run writes it: {wrong}.")
    return manifest if version == SCHEMA_VERSION else modern_manifest(manifest)


# What readers rely on, where it is there and not null: a record may have been edited, or be somebody else's.
_NODES = ("data", "split", "task", "model", "optimizer", "scheduler", "trainer", "callbacks", "tracker", "paths")
_SHAPE: dict[type, tuple[str, ...]] = {
    dict: (
        "config", *(f"config.{node}" for node in _NODES), "code", "environment", "environment.packages", "data",
        "data.spec", "data.report", "split", "split.config", "task", "task.directions", "durations", "metrics",
        "baselines", "oracle", "checkpoint", "cost", "process", "parent", "events", "update", "certificate",
    ),
    list: (
        "overrides", "tags", "resumed", "exports", "task.measured", "task.shown", "update.forgotten", "update.files",
    ),
    str: (
        "id", "fingerprint", "status", "name", "sweep", "model", "monitor", "mode", "started", "finished", "error",
        "code.version", "code.commit", "code.sha256", "data.name", "data.fingerprint", "split.name",
        "split.fingerprint", "task.unit", "task.protocol",
        "parent.id", "parent.fingerprint", "update.label",
    ),
    int: ("schema_version", "seed", "parameters", "n_units", "epochs", "best_epoch", "process.pid"),
}  # fmt: skip
_WORDS = {dict: "mapping", list: "list", str: "text", int: "integer"}


def _misshapen(manifest: Mapping[str, Any]) -> str | None:
    """The first key that holds something of another kind than a run writes there, in words."""
    for kind, keys in _SHAPE.items():
        for key in keys:
            value: Any = manifest
            for name in key.split("."):  # a parent is looked at before its children
                value = value.get(name) if value else None
            if value is not None and not isinstance(value, kind):
                return f"{key} is no {_WORDS[kind]}"
    for key in ("overrides", "task.measured", "task.shown"):
        parent, _, name = key.rpartition(".")
        values = ((manifest.get(parent) or {}) if parent else manifest).get(name) or []
        if not all(isinstance(value, str) for value in values):
            return f"{key} is no list of text"
    baselines = manifest.get("baselines") or {}
    numbers = {key: manifest.get(key) or {} for key in ("durations", "metrics", "oracle")}
    numbers["cost"] = {key: value for key, value in (manifest.get("cost") or {}).items() if key != "energy_of"}
    for key, values in [*numbers.items(), *((f"baselines.{name}", baselines[name]) for name in baselines)]:
        if not isinstance(values, dict) or not all(value is None or _is_number(value) for value in values.values()):
            return f"{key} holds something else than numbers"
    for key in ("started", "finished"):
        try:
            datetime.fromisoformat(manifest.get(key) or now())
        except ValueError:
            return f"{key} is no time"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Writing -------------------------------------------------------------------------------------------------------------


def write_record(file: Path, text: str) -> None:
    """Replace a file of the output folder in one step. Raises JobError, which says what to do, where that fails."""
    try:
        write_text(file, text)
    except OSError as error:
        raise unwritable(file.parent, error) from error


def point_latest(output: Path, folder: Path) -> None:
    """Make `<output>/latest` a link to the run, replaced in one step; a text file where links are not allowed."""
    target = os.path.join("runs", folder.name)
    temporary = output / f".latest-{os.getpid()}-{folder.name}"
    try:
        os.symlink(target, temporary, target_is_directory=True)
    except OSError:
        write_record(output / LATEST, target + "\n")
        return
    try:
        os.replace(temporary, output / LATEST)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(output, error) from error


def unwritable(folder: Path, error: OSError) -> JobError:
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
