"""A run as one zip file with checksums, and back: nothing in it can write elsewhere, grow without end or be run."""

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from marquee.errors import ConfigError, DataError
from marquee.files import put, sync, working_folder
from marquee.inference.portable.artefact import SUMS, file_sum, sums_of
from marquee.runs.finding import run_folders
from marquee.runs.record import MANIFEST, read_manifest, unwritable

# What inference, comparison and a rerun read of a run; checkpoints (pickled by Lightning) and logs stay behind.
TAKEN = (
    MANIFEST,
    "config.yaml",
    "metrics.csv",
    "per_unit.parquet",
    "keywords.csv",
    "events.parquet",
    "events.safetensors",
    "windows.csv",
    "windows.json",
)
ENDINGS = (".json", ".yaml", ".csv", ".parquet", ".safetensors", ".txt", ".png", ".svg")
MOST_BYTES = 20_000_000_000  # of all files together, unpacked
MOST_FILES = 10_000
MOST_RATIO = 200  # of a file's size to what it takes in the archive; tables of ids reach some 30
SMALL = 1_000_000  # bytes below which no ratio is suspicious
# Offsets that lead nowhere, and names of which one is the folder of another.
IN_THE_FILE = (errno.EINVAL, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError)
MOMENT = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same run gives the same archive


def pack(run: Path, file: Path) -> None:
    """Write the run's archive: what TAKEN names, `inference/`, and SHA256SUMS."""
    sources = [run / name for name in TAKEN if (run / name).is_file()]
    sources += sorted(path for path in (run / "inference").rglob("*") if path.is_file() and not path.is_symlink())
    if strange := [path for path in sources if path.suffix not in ENDINGS]:
        raise DataError(f"{strange[0]} is of a kind that no archive takes; taken are {', '.join(ENDINGS)}.")
    names = {path.relative_to(run).as_posix(): path for path in sources}
    sums = "".join(f"{file_sum(path)}  {name}\n" for name, path in names.items())
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(SUMS, MOMENT), sums)
        for name, path in names.items():
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive into an empty folder; the run's manifest.

    Raises DataError for what is no such archive, is damaged, or would do harm: names that lead elsewhere, links, files
    that SHA256SUMS does not list or sums otherwise, kinds of files that no run has, sizes that nobody means.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _checked(file, archive)
            sums = sums_of(_small(archive, SUMS).decode("utf-8"))
            names = {entry.filename for entry in entries} - {SUMS}
            if missing := sorted(set(sums) - names):
                raise DataError(f"{file} lacks {missing[0]} (sha256 {sums[missing[0]]}), which its {SUMS} lists.")
            if further := sorted(names - set(sums)):
                raise DataError(f"{file} holds {further[0]}, which its {SUMS} does not list.")
            for entry in entries:
                if entry.filename != SUMS:
                    _extract(file, archive, entry, folder / entry.filename, sums[entry.filename])
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist.") from None
    except OSError as error:
        if error.errno not in IN_THE_FILE:
            raise
        raise _damaged(file, error) from None
    except DAMAGE as error:
        raise _damaged(file, error) from None
    return read_manifest(folder)


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} (sha256 {file_sum(file)}) is damaged or no archive of marquee export --format run: {error}"
    )


def _checked(file: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise DataError(f"{file} would unpack to more than a run has ({MOST_FILES:,} files, {MOST_BYTES:,} bytes).")
    if len({entry.filename for entry in entries}) < len(entries):
        raise DataError(f"{file} has two entries of one name.")
    if SUMS not in {entry.filename for entry in entries}:
        raise DataError(f"{file} has no {SUMS}: it was not written by marquee export --format run.")
    for entry in entries:
        name, path = entry.filename, PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or name != path.as_posix():
            raise DataError(f"{file} has an entry that leads out of its folder: {name!r}. Nothing was unpacked.")
        kind = entry.external_attr >> 16
        if stat.S_IFMT(kind) not in (0, stat.S_IFREG):
            raise DataError(f"{file} has an entry that is no plain file (a link?): {name!r}. Nothing was unpacked.")
        known = name in (*TAKEN, SUMS) or (path.parts[0] == "inference" and path.suffix in ENDINGS)
        if not known:
            raise DataError(
                f"{file} has an entry that no run's archive has: {name!r}. Taken are {', '.join(TAKEN)} and, below "
                f"inference/, files that end in {', '.join(ENDINGS)}; no pickle among them."
            )
        if entry.file_size > SMALL and entry.file_size > MOST_RATIO * max(entry.compress_size, 1):
            raise DataError(
                f"{file}: {name} would grow from {entry.compress_size:,} to {entry.file_size:,} bytes. "
                "Nothing was unpacked."
            )
    return entries


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as source:
        return source.read(10_000_000)


def _extract(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, wanted: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as out:
        left = entry.file_size
        while block := source.read(min(1 << 20, left + 1)):  # never more than the entry said
            left -= len(block)
            if left < 0:
                raise DataError(f"{file}: {entry.filename} is longer than its entry says.")
            out.write(block)
    if (found := file_sum(target)) != wanted:
        raise DataError(f"{file}: {entry.filename} is corrupt: sha256 {found}, and {SUMS} says {wanted}.")


def import_run(file: Path, output: Path) -> tuple[Path, bool]:
    """The folder of the archive's run below `output`, and whether it was there already.

    Raises ConfigError for another run of its name, DataError as `unpack` does, JobError where nothing can be written.
    """
    runs = output / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with working_folder(runs, ".import-") as place:
            inside = place / "run"
            inside.mkdir()
            manifest = unpack(file, inside)
            _refuse_unfinished(file, manifest)
            target = runs / str(manifest["id"])
            if target.name != manifest["id"] or target.parent != runs or target.name.startswith("."):
                raise DataError(f"{file}: {manifest['id']!r} is no name of a run's folder.")
            own = _sums(inside)
            same = [folder for folder in run_folders(output) if own and _sums(folder) == own]
            if same:
                return same[0], True
            if target.exists():
                raise ConfigError(
                    f"{target} is another run (or the same one, changed since): nothing was imported. "
                    f"Import into another folder: marquee import {file} --runs FOLDER"
                )
            sync(inside)
            put(inside, target)
            return target, False
    except OSError as error:
        raise unwritable(output, error) from error


def _sums(folder: Path) -> tuple[str, str] | None:
    """What makes a run this run: fingerprint and weights."""
    try:
        manifest = read_manifest(folder)
    except ConfigError:  # a neighbour that nobody can read
        return None
    weights = (manifest.get("checkpoint") or {}).get("weights_sha256")
    return (manifest["fingerprint"], weights) if weights else None


def _refuse_unfinished(file: Path, manifest: dict[str, Any]) -> None:
    if manifest["status"] != "finished":
        raise DataError(f"{file} holds a run that is {manifest['status']}, and only finished ones are of use.")


def unpacked(file: Path) -> tuple[Path, "tempfile.TemporaryDirectory[str]"]:
    """The archive's run in a temporary folder, and what removes that when nobody holds it any more."""
    place = tempfile.TemporaryDirectory(prefix="marquee-")
    inside = Path(place.name) / "run"
    inside.mkdir()
    _refuse_unfinished(file, unpack(file, inside))
    return inside, place
