"""One process works in a folder at a time: a lock that its end lets go of, whatever ended it, and a sign of life.

Between processes of one machine the lock decides. Some network file systems do not carry locks from one machine to
another; there the sign of life does: whoever holds a folder touches `.owner` every BEAT_SECONDS, and an owner on
another machine that has not done so for STALE_SECONDS is gone.
"""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.files import write_text

LOCK, OWNER = ".lock", ".owner"
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
# A reader's look at a lock takes microseconds, and must not make a writer fail.
_PATIENCE_SECONDS = 1.0


class Taken(ConfigError):
    """Another process works on what this one was asked to do, or has just done it: in the folder `run`."""

    def __init__(self, message: str, run: Path):
        super().__init__(message)
        self.run = run


_held: dict[Path, tuple[int, Any]] = {}  # folder -> process, lock
_beating: dict[int, threading.Thread] = {}  # process -> the thread that beats


def hold(folder: Path) -> bool:
    """Take a folder for this process until `release` or its end; False where another process is at work in it.

    Raises OSError where the folder cannot be written.
    """
    from filelock import Timeout

    folder = folder.resolve()
    if _mine(folder):
        return True
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(folder)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.02)
    except Timeout:
        return False
    if _silent_for(folder) < STALE_SECONDS:  # on another machine, which this lock may not reach
        lock.release()
        return False
    write_text(folder / OWNER, json.dumps(process()))
    _held[folder] = os.getpid(), lock
    _beat()
    return True


def release(folder: Path) -> None:
    """Let go of a folder that this process holds; nothing where it does not."""
    folder = folder.resolve()
    if _mine(folder):
        _, lock = _held.pop(folder)
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """For a look and a change that belong together: other processes wait some milliseconds for theirs."""
    with _lock_of(folder):
        yield


def _lock_of(folder: Path) -> Any:
    from filelock import FileLock

    if (folder / LOCK).is_symlink():  # earlier versions of filelock empty the file that it leads to
        (folder / LOCK).unlink()
    return FileLock(folder / LOCK)


def is_locked(folder: Path) -> bool:
    """Whether a process, this one or another, has the folder's lock. Looking disturbs neither holders nor takers."""
    try:
        import fcntl
    except ImportError:  # no such lock that can be shared: look by taking it
        from filelock import FileLock, Timeout

        if not (folder / LOCK).exists():
            return False
        try:
            with FileLock(folder / LOCK).acquire(timeout=0):
                return False
        except Timeout:
            return True
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name has no end to wait for
    except OSError:  # nobody has ever locked it
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return _lives(owner(folder))
    finally:
        os.close(handle)
    return False


def at_work(folder: Path) -> bool:
    """Whether a process works in the folder: one that holds its lock, or one elsewhere that gave a sign of late."""
    return is_locked(folder) or _silent_for(folder) < STALE_SECONDS


def wait_until_silent(folder: Path) -> None:
    """Wait for the end of a process on another machine, or for STALE_SECONDS without a sign of it.

    Returns at once where a process of this machine holds the lock: that one is sure to be at work.
    """
    while not is_locked(folder) and _silent_for(folder) < STALE_SECONDS:
        time.sleep(1)


def owner(folder: Path) -> dict[str, Any]:
    """Who holds the folder, as `process` tells it; nothing where that is not known."""
    with suppress(OSError, ValueError):
        content = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("pid"), int):
            return content
    return {}


def told(folder: Path) -> str:
    """Who holds the folder, for a message: `process 4711 on studio, which gave a sign 8 s ago`."""
    who = owner(folder)
    if not who:
        return "another process"
    named = f"process {who.get('pid')} on {who.get('host')}"
    return named if is_here(who) else f"{named}, which gave a sign {_silent_for(folder):.0f} s ago"


# A process -----------------------------------------------------------------------------------------------------------


def process() -> dict[str, Any]:
    """This process, so that a later look can tell whether it lives: host, pid, start time."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> str | None:
    """The kernel's start time of a process (clock ticks since boot, after the boot's id), or None where unknown.

    A process id is used again after a while; together with its start time it is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return f"{_boot()}/{fields[19]}"
    except (OSError, IndexError):
        return None


def _lives(who: Mapping[str, Any]) -> bool:
    return bool(who) and who.get("started") is not None and process_start(who["pid"]) == who["started"]


def is_here(who: Mapping[str, Any]) -> bool:
    """Whether a process is, or was, one of this machine since it was started: by the boot's id, else by host name."""
    started = who.get("started")
    if started is None:
        return who.get("host") == socket.gethostname()
    try:
        return str(started).partition("/")[0] == _boot()
    except OSError:
        return False


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


# The sign of life ----------------------------------------------------------------------------------------------------


def _mine(folder: Path) -> bool:
    return folder in _held and _held[folder][0] == os.getpid()  # a fork has its parent's table, and no lock of its own


def _beat() -> None:
    """Touch `.owner` in every folder that this process holds, in a thread that ends with it."""
    if os.getpid() in _beating:
        return

    def beat() -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            for folder in list(_held):
                with suppress(OSError):
                    if _mine(folder):
                        os.utime(folder / OWNER)

    _beating[os.getpid()] = threading.Thread(target=beat, daemon=True, name="sign of life")
    _beating[os.getpid()].start()


def _silent_for(folder: Path) -> float:
    """Seconds since a process of another machine gave a sign; infinity where there is none, or it is one of here.

    By the clock of the file system, which is the one that all machines share.
    """
    who = owner(folder)
    if not who or is_here(who):
        return float("inf")
    try:
        last = (folder / OWNER).stat().st_mtime
    except OSError:
        return float("inf")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:
            now = os.stat(probe.name).st_mtime
    except OSError:  # a folder that only others may write
        now = time.time()
    return abs(now - last)  # no live process gives a sign in days to come: a clock was set back, or a file unpacked
