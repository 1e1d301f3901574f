"""What a tracker is: a view of a run somewhere else. Nothing is ever read back from one."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning.loggers.logger import Logger


class TrackedRun(Protocol):
    """What a tracker may know of a run: where it lies and what is recorded of it."""

    folder: Path
    manifest: dict[str, Any]


class Tracker(ABC):
    """Opened before training, given the summary at the end, closed whatever happens."""

    @abstractmethod
    def open(self, run: TrackedRun) -> Logger:
        """Start tracking; the Lightning logger that receives the curves."""

    @abstractmethod
    def finish(self, manifest: dict[str, Any]) -> None:
        """Record the final summary and close. Called once, also after a failure or an interrupt."""
