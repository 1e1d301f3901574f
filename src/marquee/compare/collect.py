"""From folders to groups and blocks: which runs are found, which count, and why the others do not."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marquee.compare.groups import Block, Group, name_groups
from marquee.compare.protocol import configuration_key, fold_and_draw, protocol_key, switches
from marquee.errors import ConfigError
from marquee.runs.finding import run_folders
from marquee.runs.liveness import status_of
from marquee.runs.record import MANIFEST, Run, read_manifest
from marquee.sweeps.store import RECORD, Sweep


@dataclass
class LeftOut:
    """A run that is in no table, with its status (failed, repeated, ...) and why."""

    run: str
    status: str
    message: str


def collect(paths: Sequence[Path]) -> tuple[list[Block], list[LeftOut]]:
    """The finished runs that `paths` mean as blocks, the largest first, and the runs that are left out.

    Raises ConfigError for a path without runs, and where no run is finished.
    """
    runs, left_out = [], []
    for folder in find_folders(paths):
        try:
            run = Run(folder, read_manifest(folder))
            reason = _why_not(run)
        except ConfigError as error:
            left_out.append(LeftOut(folder.name, "unreadable", str(error)))
            continue
        if reason:
            left_out.append(LeftOut(folder.name, *reason))
        else:
            runs.append(run)
    if not runs:
        listed = "\n".join(f"  {entry.run}  {entry.status}  {entry.message}".rstrip() for entry in left_out[:20])
        raise ConfigError(f"No run of {_joined(paths)} is finished, so there is nothing to compare:\n{listed}")
    memberships = _memberships(runs)
    blocks = []
    for same_protocol in _by(runs, lambda run: f"{memberships[run.folder]} {protocol_key(run.manifest)}"):
        groups = []
        for same in _by(same_protocol, lambda run: configuration_key(run.manifest)):
            newest, repeated = _newest(same)
            groups.append(Group(newest))
            left_out += repeated
        blocks.append(Block(groups))
    blocks.sort(key=lambda block: (-len(block.groups), -len(block.runs), str(block.manifest["data"]["name"])))
    for number, block in enumerate(blocks):
        name_groups(block)
        block.like, block.differs = _nearest(block, blocks[:number])
    return blocks, left_out


def find_folders(paths: Sequence[Path]) -> list[Path]:
    """The run folders that paths mean, each once: a run's own, a sweep's, or all of an outputs folder (or `runs`).

    Raises ConfigError for a path without runs.
    """
    found: dict[Path, None] = {}
    for path in map(located, paths):
        place = path.parent if path.name == MANIFEST else path
        if (place / MANIFEST).is_file():
            folders = [place]
        elif (place / RECORD).is_file():
            folders = Sweep.open(place).run_folders()
        else:
            folders = run_folders(place) or sorted(file.parent for file in place.glob(f"*/{MANIFEST}"))
        if not folders:
            raise ConfigError(_nothing_in(path))
        found.update(dict.fromkeys(folder.resolve() for folder in folders))
    return list(found)


def located(path: Path) -> Path:
    """The path, or the sweep of that name in the usual outputs folder."""
    path = path.expanduser()
    named = Path(os.environ.get("MARQUEE_OUTPUT", "outputs")) / "sweeps" / path
    return named if not path.exists() and (named / RECORD).is_file() else path


def _nothing_in(path: Path) -> str:
    what = "Give an outputs folder (paths.output of the training, by default outputs), a sweep's folder or runs'."
    if (path / RECORD).is_file():
        return f"{path} is a sweep without a run so far. {what}"
    if not path.exists():
        return f"{path} does not exist. {what}"
    if not path.is_dir():
        return f"{path} is a file. {what}"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{path} holds no runs; found: {', '.join(names[:8]) or 'nothing'}{more}. {what}"


def _why_not(run: Run) -> tuple[str, str] | None:
    """(status, message) of a run that cannot be compared."""
    manifest = run.manifest
    status = status_of(run.folder, manifest)
    error = manifest.get("error")
    message = str(error["message"] if isinstance(error, dict) and "message" in error else error or "")
    if status != "finished":
        return status, message.split("\n")[0]
    missing = [key for key in ("config", "data", "split", "metrics", "monitor") if not manifest.get(key)]
    return ("incomplete", f"its manifest has no {', '.join(missing)}") if missing else None


def _memberships(runs: Sequence[Run]) -> dict[Path, int]:
    """The number of the split's membership that each run was tested by, by its folder.

    Folds and draws of one protocol hold different rows, but one fold of one draw always the same. Where it does not
    (a file of the split, or its code, has changed), the runs are of two protocols that have one name.
    """
    known: dict[str, list[dict[Any, str]]] = {}
    found = {}
    for run in sorted(runs, key=lambda run: run.manifest.get("started") or ""):
        cell, own = fold_and_draw(run.manifest), run.manifest["split"]["fingerprint"]
        of_protocol = known.setdefault(protocol_key(run.manifest), [])
        fitting = [number for number, cells in enumerate(of_protocol) if cells.get(cell, own) == own]
        exact = [number for number in fitting if cell in of_protocol[number]]
        if not fitting:
            of_protocol.append({})
        number = (exact or fitting or [len(of_protocol) - 1])[0]
        of_protocol[number][cell] = own
        found[run.folder] = number
    return found


def _newest(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The newest run of each seed, draw and fold: to do the same again is no further evidence."""

    def place(run: Run) -> tuple[int, Any, Any]:
        fold, draw = fold_and_draw(run.manifest)
        return run.manifest["seed"], draw or 0, fold or 0

    newest: dict[Any, Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: run.manifest.get("started") or "", reverse=True):
        kept = newest.setdefault(place(run), run)
        if kept is not run:
            code = "" if _code(kept) == _code(run) else ", other code"
            message = f"same configuration and seed as the newer {kept.folder.name}{code}"
            left_out.append(LeftOut(run.folder.name, "repeated", message))
    return sorted(newest.values(), key=place), left_out


def _code(run: Run) -> Any:
    return (run.manifest.get("code") or {}).get("sha256")


def _nearest(block: Block, before: Sequence[Block]) -> tuple[int | None, list[str]]:
    differences = [switches(block.manifest, other.manifest) for other in before]
    if not differences:
        return None, []
    best = min(range(len(differences)), key=lambda index: len(differences[index]))
    return best + 1, differences[best] or ["the split itself: it holds other rows under the same keys"]


def _by(things: Iterable[Any], key: Any) -> list[list[Any]]:
    found: dict[str, list[Any]] = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return list(found.values())


def _joined(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
