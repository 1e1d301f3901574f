"""What all tasks share: one training step, one evaluation loop, metrics from the best checkpoint to the tracker."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from marquee.data.module import DataModule, Part
from marquee.data.spec import Spec
from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator
from marquee.models.base import Model
from marquee.seeding import derive


class Task(pl.LightningModule):
    """A question asked of data: loss, evaluator, monitored metric and baselines.

    `optimizer` takes parameters and returns a torch optimiser; `scheduler` takes that optimiser or is None.
    After an evaluation, `results[part]` holds (metrics, per-unit table).
    """

    spec_types: ClassVar[tuple[type[Spec], ...]]
    monitor: str
    mode: Literal["min", "max"]

    def __init__(
        self,
        model: Model,
        data: DataModule,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.model = model
        self.data = data
        self.seed = seed
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.results: dict[str, tuple[dict[str, float], Any]] = {}
        self.automatic_optimization = not model.closed_form
        self._collector: Evaluator | None = None
        self._losses: list[Tensor] = []
        self._validated: float | None = None
        self._schedule: Any = None
        self._saved_schedule: dict[str, Any] | None = None

    # What a task defines -------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The scalar training loss of a batch."""

    @abstractmethod
    def scores(self, scorer: Any, batch: Any) -> Tensor:
        """The scores of `scorer` (the model, a baseline or the oracle) for one evaluation batch."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """A fresh evaluator."""

    @abstractmethod
    def baselines(self) -> dict[str, Any]:
        """The scorers that every run is printed beside, by name, already fitted."""

    # Training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        if self.model.closed_form:
            return None
        optimizer = self.make_optimizer(self.model.parameters())
        if self.trainer.gradient_clip_val:
            # A fused optimiser says that it unscales mixed-precision gradients itself, so Lightning refuses to clip
            # them. Without that claim they are unscaled first (bf16: there is no scale), then clipped, then applied.
            optimizer._step_supports_amp_scaling = False
        if self.make_scheduler is not None:
            self._schedule = self.make_scheduler(optimizer)
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        # Here and not at the start of the epoch: that hook is left out in the first epoch after a resume.
        if batch_index == 0:
            # Dropout draws from the global generator. Re-seeding it by epoch makes a resumed run repeat the draws.
            torch.manual_seed(derive(self.seed, "train", self.current_epoch, self.global_rank))
            self._losses = []

    def training_step(self, batch: Any, batch_index: int) -> Tensor | None:
        loss = self.loss(batch)
        # Kept on the device and looked at once an epoch: `self.log` each step costs several times a small step.
        self._losses.append(loss.detach())
        return None if self.model.closed_form else loss

    def _epoch_loss(self) -> float:
        """The mean loss of the epoch so far. Raises JobError at the first step that was not finite."""
        losses = torch.stack(self._losses).float()
        finite = losses.isfinite()
        if not bool(finite.all()):
            step = int((~finite).nonzero()[0, 0])
            raise JobError(
                f"The training loss became {float(losses[step])} in epoch {self.current_epoch + 1}, step {step + 1} of "
                f"{len(self.trainer.train_dataloader)}. Lower the learning rate (optimizer.lr=...), clip gradients "
                "(trainer.gradient_clip_val=1) or use trainer.precision=32."
            )
        return float(losses.mean())

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self._epoch_loss(), prog_bar=True, sync_dist=True)
        if self._schedule is not None:
            # Lightning steps schedulers that watch a metric after the checkpoint was written; a resume would differ.
            if isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
                # Only where this epoch was validated: an old value again would count as a stall.
                if self._validated is not None:
                    self._schedule.step(self._validated)
            else:
                self._schedule.step()
        self._validated = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._schedule is not None:
            checkpoint["schedule"] = self._schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._saved_schedule = checkpoint.get("schedule")

    def on_train_start(self) -> None:
        if self._schedule is not None and self._saved_schedule is not None:
            self._schedule.load_state_dict(self._saved_schedule)

    # Evaluation ------------------------------------------------------------------------------------------------------

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        """Metrics and per-unit table of any scorer, outside the Trainer: used for baselines and the oracle."""
        evaluator = self.evaluator()
        with torch.no_grad():
            for batch in self.model.view.evaluation_batches(self.data, part):
                evaluator.update(self.scores(scorer, batch), batch)
        return evaluator.compute([evaluator.state()])

    def _start_evaluation(self) -> None:
        self._collector = self.evaluator()

    def _evaluation_step(self, batch: Any, batch_index: int) -> None:
        self._collector.update(self.scores(self.model, batch), batch)

    def _end_evaluation(self, part: Part) -> None:
        states = [self._collector.state()]
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, states[0])
            states = gathered
        metrics, units = self._collector.compute(states)
        self.results[part] = (metrics, units)
        self.log_dict({f"{part}/{name}": value for name, value in metrics.items()}, rank_zero_only=False)

    def on_validation_epoch_start(self) -> None:
        if self._losses:
            self._epoch_loss()  # a diverged model is reported by its loss, not by what it then scores
        self._start_evaluation()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self._evaluation_step(batch, batch_index)

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("validation")
        self._validated = self.results["validation"][0][self.monitor]

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def test_step(self, batch: Any, batch_index: int) -> None:
        self._evaluation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")
