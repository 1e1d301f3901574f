"""The callback of a run that belongs to a search: it tells the study of each epoch and ends the run when it may.

The study is reached by its storage, so the run may be in any process on any machine.
"""

import logging
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
from annotated_types import Ge

from marquee.runs.recording import Pruned

log = logging.getLogger("marquee")


class Pruning(pl.Callback):
    """Reports the monitored validation metric of each epoch to a trial; asks before each further epoch.

    A run that has come to its end is never pruned, and all that an epoch leaves is written before the run ends. Without
    an answer (the study is gone, the trial was closed) the run goes on as one of its own.

    storage  as in hydra.sweeper.storage
    study    the study's name in it
    trial    the trial's number
    """

    def __init__(
        self, *, storage: str, study: str, trial: Annotated[int, Ge(0)], pruner: Literal["median", "hyperband"]
    ):
        self.storage = storage
        self.study = study
        self.trial = trial
        self.pruner = pruner
        self._open: Any = None
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self._validated and trainer.is_global_zero:
            value = trainer.callback_metrics.get(f"validation/{task.monitor}")
            if value is not None:
                self._answered(self._report, trainer, float(value), trainer.current_epoch + 1)
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        # Resumed: this question may not have been put, and Lightning leaves out the next hook for this epoch.
        if trainer.current_epoch > 0 and not getattr(trainer.checkpoint_callback, "stopped", False):
            self._ask(trainer, task)

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self._ask(trainer, task)

    def _ask(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        said = self._answered(self._should_prune, trainer) if trainer.is_global_zero else False
        if not trainer.strategy.broadcast(bool(said)):
            return
        checkpoint = trainer.checkpoint_callback
        best = getattr(checkpoint, "best", None)
        fields = {
            "metrics": {f"validation/{task.monitor}": best} if best is not None else {},
            "monitor": task.monitor, "mode": task.mode, "epochs": trainer.current_epoch,
            "best_epoch": getattr(checkpoint, "best_epoch", None),
        }  # fmt: skip
        told = f", best validation/{task.monitor} {best:.4f}" if best is not None else ""
        raise Pruned(f"pruned after epoch {trainer.current_epoch}{told} (trial {self.trial} of {self.study})", fields)

    # The study -------------------------------------------------------------------------------------------------------

    def _connect(self, trainer: pl.Trainer) -> tuple[Any, int]:
        """The study and the trial's id in the storage."""
        if self._open is None:
            import optuna

            from marquee.search.study import open_storage, pruner_of

            optuna.logging.set_verbosity(optuna.logging.WARNING)
            storage = open_storage(self.storage)
            study = optuna.load_study(
                study_name=self.study, storage=storage, pruner=pruner_of(self.pruner, trainer.max_epochs)
            )
            number = storage.get_study_id_from_name(self.study)
            self._open = study, storage, storage.get_trial_id_from_study_id_trial_number(number, self.trial)
        return self._open

    def _report(self, trainer: pl.Trainer, value: float, epoch: int) -> None:
        # An epoch that was reported before an interruption is written again, with the same value.
        _, storage, trial = self._connect(trainer)
        if not storage.get_trial(trial).state.is_finished():
            storage.set_trial_intermediate_value(trial, epoch, value)

    def _should_prune(self, trainer: pl.Trainer) -> bool:
        study, storage, trial = self._connect(trainer)
        frozen = storage.get_trial(trial)
        return not frozen.state.is_finished() and bool(study.pruner.prune(study, frozen))

    def _answered(self, question: Any, *arguments: Any) -> Any:
        """What the study says; None where it cannot be asked, which is no reason for a run to fail."""
        try:
            return question(*arguments)
        except Exception as error:  # whatever a storage raises
            log.warning("The study %s cannot be asked (%s: %s); the run goes on without it.",
                        self.study, type(error).__name__, str(error).splitlines()[:1])  # fmt: skip
            return None
