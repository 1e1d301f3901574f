"""Whatever ends a run, its manifest, its log and its trackers say so."""

import errno
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from marquee.config.build import build
from marquee.errors import JobError, MarqueeError
from marquee.runs.record import Run
from marquee.runs.signals import sigterm_raises, taken_off, was_sigterm
from marquee.tracking.tracker import Tracker

log = logging.getLogger("marquee")


class Pruned(Exception):
    """A search has seen enough of this run: it ends here, is not tested, and has not failed.

    `fields` of the manifest say how far it came.
    """

    def __init__(self, message: str, fields: dict[str, Any]):
        super().__init__(message)
        self.fields = fields


class Undrawn(KeyboardInterrupt):
    """Ctrl-C or SIGTERM while the plots of a run are drawn, of which everything else stands in its folder."""


class LogFile(logging.FileHandler):
    """The run's log. What it has no room for is lost without a word: the run itself says that the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def recording(run: Run, config: dict[str, Any]) -> Iterator[list[Any]]:
    """Around training: yields the trackers' loggers; on the way out writes the status and closes everything.

    Ctrl-C and SIGTERM give `interrupted`, or `finished` where only plots are missing, Pruned gives `pruned` and goes no
    further, any other exception `failed` with its message, otherwise `finished`. A full disk or an unexpected exception
    becomes a JobError, so that the command exits with 4.
    """
    if int(os.environ.get("LOCAL_RANK", 0)):
        with suppress(Pruned):
            yield []  # the first process of a distributed run keeps the record
        return
    started = time.monotonic()
    file = run.folder / "log.txt"
    if file.is_symlink():  # in a run of somebody else's it may lead to any file, and this one is written to as it is
        file.unlink()
    handler = LogFile(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("marquee").setLevel(logging.INFO)
    trackers: list[Tracker] = [build(node) for node in (config["tracker"] or {}).values()]
    opened: list[Tracker] = []
    try:
        with sigterm_raises():
            loggers = []
            for tracker in trackers:
                loggers.append(tracker.open(run))
                opened.append(tracker)
            yield loggers
        _finish(run, "finished", started, None)
    except Pruned as pruned:
        log.info("%s", pruned)
        run.manifest.update(pruned.fields)
        _finish(run, "pruned", started, None)
        print(f"{pruned}\nrun: {run.folder}")
    except Undrawn:
        log.warning("the plots are not complete: stopped while they were drawn")
        _finish(run, "finished", started, None)
        raise KeyboardInterrupt(
            f"Stopped while its plots were drawn. The run itself is finished: {run.folder}"
        ) from None
    except (KeyboardInterrupt, SystemExit) as exception:
        # Lightning turns Ctrl-C into SystemExit after tidying up.
        cause = f"stopped by {'SIGTERM' if was_sigterm(exception) else 'Ctrl-C'}"
        _finish(run, "interrupted", started, "taken off the cluster, to be continued" if taken_off.is_set() else cause)
        raise KeyboardInterrupt(
            f"Interrupted. What is trained so far is kept; to continue: marquee train resume={run.folder}"
        ) from None
    except MarqueeError as error:
        message = f"{error}{_last_good(run)}"
        _finish(run, "failed", started, message)
        raise type(error)(message) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise _crashed(run, started, error) from error
        message = (
            f"Cannot write to {error.filename or run.folder}: {error.strerror}. Free some space or set paths.output."
        )
        with suppress(OSError):
            _finish(run, "failed", started, message)
        raise JobError(message) from error
    except Exception as error:
        raise _crashed(run, started, error) from error
    finally:
        for tracker in opened:
            try:
                tracker.finish(run.manifest)
            except Exception as error:  # a tracker must never cost a finished run
                log.warning("%s could not be closed: %s", type(tracker).__name__, error)
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()


def _finish(run: Run, status: str, started: float, error: str | None) -> None:
    durations = {**(run.manifest.get("durations") or {}), "total": round(time.monotonic() - started, 3)}
    run.finish(status, error=error, durations=durations)


def _crashed(run: Run, started: float, error: Exception) -> JobError:
    log.error("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    message = f"{type(error).__name__}: {error}"
    _finish(run, "failed", started, message)
    return JobError(f"{message}\nThe traceback is in {run.folder / 'log.txt'}.{_last_good(run)}")


def _last_good(run: Run) -> str:
    last = run.folder / "checkpoints" / "last.ckpt"
    return f" The last good checkpoint is {last}." if last.exists() else ""
