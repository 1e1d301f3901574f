"""What a tracker is: a view of a run somewhere else. Nothing is ever read back from one."""

from abc import ABC, abstractmethod
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from marquee.runs.manifest import Run


class Tracker(ABC):
    """Opened before training, given the summary at the end, closed whatever happens."""

    @abstractmethod
    def open(self, run: Run) -> Logger:
        """Start tracking; the Lightning logger that receives the curves."""

    @abstractmethod
    def finish(self, manifest: dict[str, Any]) -> None:
        """Record the final summary and close. Called once, also after a failure or an interrupt."""
