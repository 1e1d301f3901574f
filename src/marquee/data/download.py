"""Downloads that resume where they stopped, show their progress and are verified before they count."""

import errno
import http.client
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from marquee.errors import DataError
from marquee.files import put

log = logging.getLogger(__name__)

ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 18


def download(url: str, target: Path, damage: Callable[[Path], str | None]) -> None:
    """Fetch `url` into `target`, which appears only when whole and when `damage(file)` finds nothing wrong (None).

    An interrupted download leaves `<target>.part`; the next call asks the server for the rest (a Range request) and
    starts over where the server cannot do that. A second process waits for the first one's result.

    Raises DataError where the file cannot be had.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():
                return
            log.info("downloading %s to %s", url, target)
            for _ in range(ATTEMPTS):
                resumed = part.is_file() and part.stat().st_size > 0
                if not _fetch(url, part):
                    continue
                found = damage(part)
                if found is None:
                    put(part, target)
                    return
                part.unlink()  # the next attempt must not resume what is wrong
                if not resumed:
                    raise DataError(f"{url} {found}.")
                log.warning("the resumed download of %s %s; starting over", url, found)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if getattr(error, "errno", None) in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST):
            raise DataError(
                f"{url} cannot be kept in {target.parent} ({error.strerror}). "
                "Name a folder with room that can be written with paths.cache=FOLDER."
            ) from error
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url}: {reason}. What has arrived so far is kept; run the command again to resume."
        ) from error
    raise DataError(f"{url} broke off {ATTEMPTS} times. What has arrived is kept; run the command again to resume.")


def _fetch(url: str, part: Path) -> bool:
    """Append what is missing to `part`; True where the server has sent everything it announced."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "marquee", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: the part is whole, or it belongs to another edition
            return True
        raise
    with response:
        if response.status != 206:
            have = 0  # a server without ranges sends the whole file again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, _progress(part.name, have, total) as advance:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                advance(len(chunk))
    return total is None or have == total


@contextmanager
def _progress(name: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with size, speed and remaining time on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name.removesuffix(".part"), total=total, completed=have)
        yield lambda count: bar.advance(task, count)
