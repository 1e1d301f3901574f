"""The folders of runs, and a run by any of its names: path, id, label, fingerprint, a prefix, or `latest`."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from marquee.errors import ConfigError
from marquee.runs.liveness import status_of
from marquee.runs.lock import Taken, turn
from marquee.runs.record import LATEST, MANIFEST, read_manifest, unwritable

EXPORT = "export.json"  # of the folder that `marquee export` writes


def run_folders(output: Path) -> list[Path]:
    """The folders of all runs, by name."""
    return sorted(file.parent for file in (output / "runs").glob(f"*/{MANIFEST}"))


def run_folders_of(output: Path, fingerprint: str) -> list[Path]:
    """The folders of the runs that may have a fingerprint: their names begin with its first digits."""
    return sorted(file.parent for file in (output / "runs").glob(f"{fingerprint[:8]}-*/{MANIFEST}"))


@contextmanager
def first_of(output: Path, fingerprint: str) -> Iterator[None]:
    """Around the making of a run: nobody else makes one of this fingerprint at the same moment.

    Raises Taken where one is finished or under way, JobError where the output folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(turn(output))
        except OSError as error:
            raise unwritable(output, error) from error
        for folder in run_folders_of(output, fingerprint):
            try:
                manifest = read_manifest(folder)
            except ConfigError:
                continue
            status = status_of(folder, manifest)
            if manifest.get("fingerprint") == fingerprint and status in ("finished", "running"):
                raise Taken(f"{folder.name} has this fingerprint and is {status}.", folder)
        yield


def find_run(run: str, output: Path = Path("outputs")) -> Path:
    """The folder of a run that is named by path, id, its label (name=...), fingerprint prefix, id prefix, or `latest`.

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
    named = [folder for folder in folders if folder.name.partition("-")[2] == run]
    matches = named or [folder for folder in folders if run and folder.name.startswith(run)]
    if not matches and len(run) > 8 and re.fullmatch(r"[0-9a-f]+", run):
        same = [folder for folder in folders if folder.name.startswith(run[:8])]
        matches = [folder for folder in same if read_manifest(folder)["fingerprint"].startswith(run)]
    if len(matches) == 1:
        return matches[0].resolve()
    if matches:
        raise ConfigError(f"{run} may be any of these runs; write more of the name:\n" + _names(matches))
    if (path / EXPORT).is_file() or (path.suffix.lower() in (".onnx", ".zip") and path.is_file()):
        raise ConfigError(
            f"{run} is an export, and this takes a run. load, recommend, predict, generate and score take exports."
        )
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


def _names(folders: Iterable[Path]) -> str:
    return "\n".join(f"  {folder.name}" for folder in folders)


def _latest(output: Path) -> Path:
    pointer = output / LATEST
    target = pointer
    if pointer.is_file():  # the text form, where links are not allowed
        target = output / pointer.read_text(encoding="utf-8").strip()
    if (target / MANIFEST).is_file():
        return target.resolve()
    folders = run_folders(output)
    if not folders:
        raise ConfigError(f"There is no latest run: {output / 'runs'} holds none yet. Start one: marquee train")
    return max(folders, key=lambda folder: read_manifest(folder).get("started") or "").resolve()
