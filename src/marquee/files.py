"""The one way to replace a file or a folder: a reader sees the old or the new, also after a crash or a power cut."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its ending; what was written there takes its place in one step.

    If the block raises, `path` stays as it was and nothing is left behind. Raises OSError where the folder cannot be
    written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())  # mkstemp makes files that only their owner may read
        put(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def put(source: Path, path: Path) -> None:
    """Move a finished file or folder of the same disk to its place in one step, when all of it is on the disk."""
    sync(source)
    os.replace(source, path)
    _sync_folder(path.parent)


@contextmanager
def working_folder(parent: Path, prefix: str, rescue: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A new folder in `parent`, which is gone afterwards, as are those of its prefix whose processes were killed.

    Each is locked as long as its process lives; `rescue` sees those that are left before they go. Raises OSError where
    the folder cannot be written.
    """
    for left in parent.glob(f"{escape(prefix)}*/{LOCK}"):
        with suppress(Timeout, OSError), FileLock(left, timeout=0):
            if rescue is not None:
                rescue(left.parent)
            shutil.rmtree(left.parent)
    place = tempfile.TemporaryDirectory(dir=parent, prefix=prefix)
    with place as name, FileLock(Path(name) / LOCK):
        yield Path(name)


def sync(path: Path) -> None:
    """Return when a file, or every file of a folder, is on the disk: what is said to be finished must be there."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            _sync(file)
        elif file.is_dir():
            _sync_folder(file)
    if path.is_dir():
        _sync_folder(path)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file by `text`, in UTF-8 and with its line ends as they are. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def umask() -> int:
    """The permissions that new files of this process do not get; reading them means setting them for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system opens a folder, and not every file system syncs one
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
