"""One live line of training progress where the output is a terminal, silence where it is not."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress(pl.Callback):
    """Epochs done, steps a second, time left and the monitored metric, refreshed a few times a second."""

    def __init__(self, monitor: str):
        self.monitor = monitor
        self._bar: Bar | None = None
        self._refreshed = 0.0

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        console = Console(stderr=True)
        if not console.is_terminal or not trainer.is_global_zero:
            return
        # Wide columns first to go: at 80 columns bar, epochs, speed, metric and time fit.
        self._bar = Bar(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[metric]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._steps = max(int(trainer.num_training_batches), 1)
        self._task = self._bar.add_task(
            "fit", total=trainer.max_epochs, completed=trainer.current_epoch, speed="", metric=""
        )
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._epoch_started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._refreshed < 0.2:
            return
        self._refreshed = now
        speed = (batch_index + 1) * task.steps_at_once / max(now - getattr(self, "_epoch_started", now), 1e-9)
        done = trainer.current_epoch + (batch_index + 1) / self._steps
        self._bar.update(self._task, completed=round(done, 2), speed=f"{speed:.1f} it/s")

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(f"validation/{self.monitor}")
        if self._bar is not None and value is not None:
            self._bar.update(self._task, metric=f"{self.monitor} {float(value):.4f}")

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, task: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
