"""The two checkpoints of a run: `last` to resume from, `best` to test and use.

Lightning's own ModelCheckpoint does not save while the step counter is at zero, where a closed form stays for its
whole life; and it does not remember that early stopping had decided, which a resumed run must know.
"""

import math
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Ge

from marquee.errors import JobError
from marquee.files import replacing
from marquee.runs.signals import stop_after_epoch


class Checkpoint(pl.callbacks.Checkpoint):
    """Writes `last.ckpt` after every `every_n_epochs`-th epoch and `best.ckpt` when the monitored metric improves.

    Each is replaced in one step, so a kill or a full disk leaves the previous one whole. The base class makes Lightning
    call this after the task's own end of epoch, when the learning rate of the next one is set.
    """

    def __init__(
        self, folder: Path, monitor: str, mode: Literal["min", "max"], *, every_n_epochs: Annotated[int, Ge(1)] = 1
    ):
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.every_n_epochs = every_n_epochs
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped = False
        self.interrupts = False

    @property
    def last_path(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        return self.folder / "best.ckpt"

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        value = trainer.callback_metrics.get(self.monitor)
        improved = False
        if value is not None:
            sign = 1 if self.mode == "max" else -1
            value = float(value)
            improved = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
        if improved:
            self.best, self.best_epoch = value, epoch
        self.stopped = bool(trainer.should_stop)
        if improved or (value is None and self.best is None):
            # Without validation the newest epoch is the best that is known.
            _save(trainer, self.best_path)
        # All processes of a distributed run stop after the same epoch, whichever of them was told first.
        stopping = trainer.strategy.reduce_boolean_decision(stop_after_epoch.is_set(), all=False)
        if stopping or self.stopped or epoch == trainer.max_epochs or epoch % self.every_n_epochs == 0:
            _save(trainer, self.last_path)
        self.interrupts = stopping and not self.stopped and epoch != trainer.max_epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        # Not earlier: Lightning logs the mean loss of an epoch after the end of it.
        if self.interrupts:
            raise KeyboardInterrupt

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.stopped = state["best"], state["best_epoch"], state["stopped"]

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for left in self.folder.glob(".*.ckpt"):  # by a kill in the middle of writing
                left.unlink()
        # The resumed run had already decided to stop: one more epoch would not be what an uninterrupted run does.
        if self.stopped:
            trainer.should_stop = True


def _save(trainer: pl.Trainer, path: Path) -> None:
    if not trainer.is_global_zero:  # takes part and writes nothing
        trainer.save_checkpoint(path)
        return
    path.parent.mkdir(exist_ok=True)
    # Lightning writes to the system's temporary folder and moves the file, which is a copy where that is another disk.
    with replacing(path) as temporary:
        trainer.save_checkpoint(temporary)


def load_weights(task: torch.nn.Module, path: Path) -> None:
    """Put a checkpoint's weights into a task; nothing but tensors and plain values is unpickled."""
    task.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])


def refuse_unfit(task: torch.nn.Module, path: Path) -> None:
    """Raise JobError where a checkpoint cannot be read or holds other weights than the task's; no file is no fault."""
    if not path.exists():
        return
    again = "To run it again from the start: marquee rerun " + path.parent.parent.name
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except (RuntimeError, EOFError, KeyError, OSError, ValueError, pickle.UnpicklingError) as error:
        told = str(error).partition(". ")[0]
        raise JobError(f"{path} cannot be resumed from: it is truncated or no checkpoint ({told}). {again}") from error
    own = {name: tuple(value.shape) for name, value in task.state_dict().items()}
    held = {name: tuple(value.shape) for name, value in found.items()}
    if own != held:
        name = sorted(set(own.items()) ^ set(held.items()))[0][0]
        raise JobError(
            f"{path} is of another model: it holds {name} {_shape(held.get(name))}, the configuration asks for "
            f"{_shape(own.get(name))}. {again}"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "without it" if shape is None else f"of shape {list(shape)}"
