"""TensorBoard event files in the run's folder (extra `tensorboard`)."""

from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from marquee.errors import ConfigError
from marquee.tracking.tracker import TrackedRun, Tracker


class TensorboardTracker(Tracker):
    """Curves and final metrics; `tensorboard --logdir outputs/runs` shows all runs beside each other."""

    def __init__(self):
        self._logger: TensorBoardLogger | None = None

    def open(self, run: TrackedRun) -> TensorBoardLogger:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise ConfigError(
                "tracker=tensorboard needs the package tensorboard. Type: pip install 'marquee[tensorboard]'."
            ) from None
        self._logger = TensorBoardLogger(str(run.folder), name="tensorboard", version="")
        return self._logger

    def finish(self, manifest: dict[str, Any]) -> None:
        if self._logger is None:
            return
        self._logger.log_metrics({f"final/{name}": value for name, value in (manifest.get("metrics") or {}).items()})
        self._logger.finalize(manifest["status"])
