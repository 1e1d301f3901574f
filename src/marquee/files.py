"""The one way to replace a file: a reader sees the old content or the new one, also after a crash or a power cut."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
        _sync(temporary, os.O_RDWR)
        temporary.chmod(0o666 & ~umask())  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system opens a folder, and not every file system syncs one
        _sync(path.parent, os.O_RDONLY)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file by `text`, in UTF-8 and with its line ends as they are. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def umask() -> int:
    """The permissions that new files of this process do not get; reading them means setting them for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
