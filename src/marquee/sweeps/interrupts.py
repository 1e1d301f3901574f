"""Ctrl-C as a count instead of an exception: what it means depends on how often it is pressed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


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
