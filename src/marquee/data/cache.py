"""Prepared data on disk: built once under the fingerprint of what it was built from, checked each time it is opened."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from marquee.data.dataset import Paths
from marquee.errors import DataError, JobError

log = logging.getLogger(__name__)

MARKER = "complete.json"  # written last: {file: [bytes, crc32]} of everything beside it
ABANDONED = 24 * 3600  # seconds after which a folder that some killed process was filling is swept away
CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def cached(paths: Paths, name: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder `paths.cache/prepared/<name>-<hash of key>`, filled by `build(folder)` if it does not stand complete.

    `key` holds everything the content depends on (sums of the raw files, parameters, the preparation's version), as
    JSON values; the source of `marquee.data` counts too, so that changed code never reads what older code
    wrote. The folder appears by a rename, so that nobody sees it half written; where two processes build the same
    thing, the second keeps the first one's copy. A folder whose sizes or CRCs have changed is built again.

    Raises DataError where the cache cannot be written, JobError where the disk is full.
    """
    content = {"key": dict(key), "code": preparation_code()}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    folder = paths.cache / "prepared" / f"{name}-{digest}"
    if _complete(folder):
        return folder
    if folder.exists():
        log.warning("the prepared data in %s is damaged and is built again", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _unwritable(paths.cache, error) from error
    try:
        build(temporary)
        _mark(temporary)
        _move(temporary, folder)
    except OSError as error:
        # NumPy tells of a short write ("10 requested and 3 written") without an error number.
        short = error.errno is None and str(error).endswith(" written")
        if short or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise JobError(
                f"The disk is full: {folder.parent} has no room for the prepared data of {name}. "
                "Free some space, or put the cache elsewhere with paths.cache=FOLDER."
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


@cache
def preparation_code() -> str:
    """A hash of the code that prepares data: a few milliseconds, once a process."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _complete(folder: Path) -> bool:
    try:
        listed = json.loads((folder / MARKER).read_text())
        # The sizes first: they cost nothing and tell a truncated file from a whole one.
        if any((folder / name).stat().st_size != size for name, (size, _) in listed.items()):
            return False
        return all(_crc32(folder / name) == crc for name, (_, crc) in listed.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _crc32(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _mark(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): [path.stat().st_size, _crc32(path)] for path in files}
    (folder / MARKER).write_text(json.dumps(listed))
    folder.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from its other users


def _move(temporary: Path, folder: Path) -> None:
    """Put the finished folder in its place, unless another process was faster."""
    for _ in range(3):
        try:
            os.rename(temporary, folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if _complete(folder):
            return
        # Take the damaged folder out of the way in one step, so that two processes cannot both be deleting it.
        grave = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        with suppress(FileNotFoundError):  # another process has just done the same
            os.rename(folder, grave / "damaged")
        shutil.rmtree(grave, ignore_errors=True)
    raise DataError(f"{folder} keeps being replaced by other processes. Run the command again.")


def _sweep(folder: Path) -> None:
    """Delete what processes killed long ago left of this very folder."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - leftover.stat().st_mtime > ABANDONED:
            shutil.rmtree(leftover, ignore_errors=True)


def _unwritable(cache: Path, error: OSError) -> DataError | JobError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError(
            f"The disk is full: nothing more fits into {cache}. Use another folder with paths.cache=FOLDER."
        )
    return DataError(
        f"paths.cache={cache} cannot be written ({error.strerror or error}). Prepared data is kept there; "
        "name a writable folder with paths.cache=FOLDER."
    )
