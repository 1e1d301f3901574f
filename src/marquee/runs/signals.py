"""Everything about stopping a run or a sweep: what Ctrl-C and SIGTERM mean to the process that gets them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# One run -------------------------------------------------------------------------------------------------------------

# The wish that a run should stop when its epoch is over and saved: the gentle form of Ctrl-C. Set by whoever runs the
# job; read by the checkpoint callback, which knows when an epoch is safe.
stop_after_epoch = threading.Event()

# A cluster has asked for this process's place and will continue the run; set by whoever heard it, for the manifest.
taken_off = threading.Event()


def stop_gently(signum: int, frame: Any) -> None:
    """The first Ctrl-C lets the epoch end, so that nothing of it is lost; the second does not wait."""
    if stop_after_epoch.is_set():
        raise KeyboardInterrupt
    stop_after_epoch.set()


class Interrupted(KeyboardInterrupt):
    """SIGTERM, told apart from Ctrl-C in the manifest."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM raises Interrupted in the main thread; afterwards both handlers are as they were."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: Any) -> None:
        raise Interrupted

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def was_sigterm(exception: BaseException) -> bool:
    """Whether SIGTERM is behind an exception: Lightning raises SystemExit in its place after tidying up."""
    context: BaseException | None = exception
    while context is not None:
        if isinstance(context, Interrupted):
            return True
        context = context.__context__
    return False


# A sweep -------------------------------------------------------------------------------------------------------------


@dataclass
class Presses:
    """How often Ctrl-C was pressed (or SIGTERM sent), and whether the launcher knows."""

    count: int = 0
    known: int = 0
    jobs_run: bool = False  # before that, Ctrl-C ends the command at once

    def heard(self) -> bool:
        """Whether there were presses since the last call."""
        new, self.known = self.count > self.known, self.count
        return new


@contextmanager
def counted_interrupts() -> Iterator[Presses]:
    """Count Ctrl-C instead of raising; SIGTERM counts as two: whoever sends it does not wait for an epoch."""
    presses = Presses()
    if threading.current_thread() is not threading.main_thread():
        yield presses
        return

    def pressed(signum: int, frame: Any) -> None:
        presses.count = max(presses.count + 1, 2 if signum == signal.SIGTERM else 1)
        if not presses.jobs_run:
            raise KeyboardInterrupt("Interrupted before a job was started.")

    before = {number: signal.signal(number, pressed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield presses
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
