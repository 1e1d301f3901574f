"""One training step, one evaluation loop, metrics from the best checkpoint to the tracker: the same for all tasks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from marquee.data.dataset import DataSet, Part
from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator
from marquee.models.base import Model
from marquee.seeding import derive

MakeOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


class Schedule:
    """A learning-rate schedule and how often it steps."""

    def __init__(self, rates: Any, every: Literal["epoch", "step"] = "epoch"):
        self.rates = rates
        self.every = every

    @property
    def watches(self) -> bool:
        """Whether it goes by the monitored metric."""
        return isinstance(self.rates, torch.optim.lr_scheduler.ReduceLROnPlateau)


class Loop(pl.LightningModule):
    """What Lightning calls. The methods and attributes that it asks for are those of Task."""

    def __init__(
        self,
        model: Model,
        data: DataSet,
        optimizer: MakeOptimizer | Mapping[str, MakeOptimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.model = model
        self.data = data
        self.seed = seed
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.clip: dict[str, Any] = {}  # arguments of `clip_gradients`, for a task that steps by itself
        self.results: dict[str, tuple[dict[str, float], Any]] = {}
        self.automatic_optimization = not (model.learns_in_fit or self.learners)
        self.steps_at_once = 1
        # Epochs of each of `passes`, and how the model of a spec is built: whoever makes the Trainer sets them.
        self.epochs_each = 1
        self.make_model: Callable[[Any], Model] | None = None
        self.evaluated: Part = "validation"  # set before each evaluation
        self._collector: Evaluator | None = None
        self._losses: dict[str, list[Tensor]] = {}  # by learner; under no name where there is one loss for all
        self._places: dict[str, list[int]] = {}  # at which of the epoch's steps, where it is not at each
        self._validated: float | None = None
        self._schedules: dict[str, Schedule] = {}
        self._saved_schedules: dict[str, Any] = {}
        self._steps = 0
        self.trains_on = self.data  # an update puts what is new, and some of the old, in its place

    # Training --------------------------------------------------------------------------------------------------------

    def training_data(self, epoch: int) -> DataSet:
        """What an epoch trains on; called when its batches are about to be made."""
        return self.trains_on

    def total_epochs(self, each: int) -> int:
        """How many epochs the Trainer makes where `trainer.max_epochs` is `each`."""
        return each

    def learner(self, name: str) -> Iterable[Tensor]:
        """The parameters of one of `learners`: those of the model's part of that name."""
        return getattr(self.model, name).parameters()

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer] | None:
        if self.model.learns_in_fit:
            return None
        if not self.learners:
            return self._optimizer("", self.make_optimizer, self.model.parameters())
        made = []
        for name in self.learners:
            make = self.make_optimizer[name] if isinstance(self.make_optimizer, Mapping) else self.make_optimizer
            made.append(self._optimizer(name, make, self.learner(name)))
        return made

    def _optimizer(self, name: str, make: MakeOptimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        optimizer = make(parameters)
        if self.trainer.gradient_clip_val or self.clip:
            # A fused optimiser says that it unscales mixed-precision gradients itself, so Lightning refuses to clip
            # them. Without that claim they are unscaled first (bf16: there is no scale), then clipped, then applied.
            optimizer._step_supports_amp_scaling = False
        if self.make_scheduler is not None:
            made = self.make_scheduler(optimizer)
            self._schedules[name] = made if isinstance(made, Schedule) else Schedule(made)
        return optimizer

    def step(self, learner: str, loss: Tensor) -> None:
        """One update of a learner's parameters: gradients cleared, formed, clipped and applied."""
        optimizers = self.optimizers()
        optimizer = optimizers[self.learners.index(learner)] if isinstance(optimizers, list) else optimizers
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.clip:
            self.clip_gradients(optimizer, **self.clip)
        optimizer.step()
        schedule = self._schedules.get(learner)
        if schedule is not None and schedule.every == "step":
            schedule.rates.step()

    def join(self, steps: int) -> None:
        """Take so many steps on so many batches in each call of the Trainer's: the same steps, at less cost.

        For training in which nothing else happens between two steps.
        """
        self.steps_at_once, self.automatic_optimization = steps, False

    def _joined_steps(self, batches: Sequence[Any]) -> None:
        (optimizer,) = self.trainer.strategy.optimizers  # not Lightning's wrapper, which is what the time goes into
        for batch in batches:
            optimizer.step(partial(self._with_gradients, batch, optimizer))
        # Lightning counts its own calls; loggers and checkpoints are to know the steps.
        loop = self.trainer.fit_loop.epoch_loop
        loop._batches_that_stepped += len(batches) - 1
        steps = loop.manual_optimization.optim_step_progress
        for count in (steps.total, steps.current):
            count.ready += len(batches)
            count.completed += len(batches)

    def _with_gradients(self, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        """The loss, with its gradients formed; LBFGS asks for it several times a step."""
        loss = self.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        self._losses.setdefault("", []).append(loss.detach())
        return loss

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        # Here and not at the start of the epoch: that hook is left out in the first epoch after a resume.
        if batch_index == 0:
            # Dropout draws from the global generator. Re-seeding it by epoch makes a resumed run repeat the draws.
            torch.manual_seed(derive(self.seed, "train", self.current_epoch, self.global_rank))
            self._losses, self._places = {}, {}
            self._steps = self.trainer.global_step

    def training_step(self, batch: Any, batch_index: int) -> Tensor | None:
        if self.steps_at_once > 1:
            return self._joined_steps(batch)
        if self.model.learns_in_fit:
            loss = self.model.fit(batch)
        else:
            loss = self.learn(batch) if self.learners else self.loss(batch)
        for name, value in (loss if isinstance(loss, Mapping) else {"": loss}).items():
            if value is not None:
                # Kept on the device and looked at once an epoch: `self.log` each step costs several times a small step.
                self._losses.setdefault(name, []).append(value.detach())
                self._places.setdefault(name, []).append(batch_index)
        return loss if self.automatic_optimization else None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        if self.learners or self.steps_at_once > 1:
            return  # `step` has seen to it, or there is none that goes by steps
        by_step = [schedule for schedule in self._schedules.values() if schedule.every == "step"]
        if not by_step or self.trainer.global_step == self._steps:
            return  # or gradients are still being gathered (trainer.accumulate_grad_batches)
        self._steps = self.trainer.global_step
        for schedule in by_step:
            schedule.rates.step()

    def _epoch_losses(self) -> dict[str, float]:
        """The mean losses of the epoch so far, by learner. Raises JobError at the first step that was not finite."""
        losses = {name: torch.stack(values).float() for name, values in self._losses.items()}
        broken = {name: int((~values.isfinite()).nonzero()[0, 0]) for name, values in losses.items()
                  if not bool(values.isfinite().all())}  # fmt: skip
        if broken:
            raise self._diverged(broken, {name: float(losses[name][first]) for name, first in broken.items()})
        return {name: float(values.mean()) for name, values in losses.items()}

    def _diverged(self, broken: dict[str, int], values: dict[str, float]) -> JobError:
        """What to say of losses that are not finite; `broken` are the places of the first such ones, by learner."""
        turns = list(self._losses)  # learners in the order in which they take theirs
        steps = {name: self._places.get(name, range(first + 1)) for name, first in broken.items()}
        step, turn = min((steps[name][first], turns.index(name)) for name, first in broken.items())
        name, rates, after = turns[turn], ["optimizer.lr"], ""
        if name:
            # Of several losses the first says where it shows, and the last step before it is the likely cause.
            earlier = [(at, i) for i, other in enumerate(turns) for at in self._places[other] if (at, i) < (step, turn)]
            cause = turns[max(earlier)[1]] if earlier else name
            after = f", after a step of the {cause}" if earlier else ""
            if isinstance(self.make_optimizer, Mapping):
                rates = [f"optimizer.{part}.lr" for part in dict.fromkeys((cause, name)) if part in self.make_optimizer]
        told = " or ".join(f"{rate}=..." for rate in rates)
        return JobError(
            f"The training loss {f'of the {name} ' if name else ''}became {values[name]} in epoch "
            f"{self.current_epoch + 1}, step {step + 1} of {self.model.view.steps(self.data)}{after}. Lower the "
            f"learning rate ({told}), clip gradients (trainer.gradient_clip_val=1) or use trainer.precision=32."
        )

    def on_train_epoch_end(self) -> None:
        for name, loss in self._epoch_losses().items():
            self.log(f"train/loss_{name}" if name else "train/loss", loss, prog_bar=True, sync_dist=True)
        for schedule in self._schedules.values():
            # Lightning steps schedulers that watch a metric after the checkpoint was written; a resume would differ.
            if schedule.watches:
                # Only where this epoch was validated: an old value again would count as a stall.
                if self._validated is not None:
                    schedule.rates.step(self._validated)
            elif schedule.every == "epoch":
                schedule.rates.step()
        self._validated = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._schedules:
            checkpoint["schedules"] = {name: schedule.rates.state_dict() for name, schedule in self._schedules.items()}
        if kept := self.model.view.state_dict():
            checkpoint["view"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # One schedule without a name is what earlier versions wrote.
        earlier = {"": checkpoint["schedule"]} if "schedule" in checkpoint else {}
        self._saved_schedules = checkpoint.get("schedules", earlier)
        if "view" in checkpoint:
            self.model.view.load_state_dict(checkpoint["view"])

    def on_train_start(self) -> None:
        for name, state in self._saved_schedules.items():
            if name in self._schedules:
                self._schedules[name].rates.load_state_dict(state)

    # Evaluation ------------------------------------------------------------------------------------------------------

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        """Metrics and per-unit table of any scorer, outside the Trainer: used for baselines and the oracle."""
        self.evaluated = part
        evaluator = self.evaluator()
        with torch.no_grad():
            for batch in self.evaluation_batches(part):
                evaluator.update(self.scores(scorer, batch), batch)
        return evaluator.compute([evaluator.state()])

    def _start_evaluation(self, part: Part) -> None:
        self.evaluated = part
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
        self._epoch_losses()  # a diverged model is reported by its loss, not by what it then scores
        self._start_evaluation("validation")

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self._evaluation_step(batch, batch_index)

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("validation")
        self._validated = self.results["validation"][0][self.monitor]

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def test_step(self, batch: Any, batch_index: int) -> None:
        self._evaluation_step(batch, batch_index)

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")
