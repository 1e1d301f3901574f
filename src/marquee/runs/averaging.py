"""The running mean of the weights, which is validated, kept, tested and used in place of the last ones.

Lightning's EMAWeightAveraging copies the whole task for it, and with it the data; and it begins with the first weights
at full weight, which a short run does not forget.
"""

from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Interval
from torch import Tensor


class ExponentialAverage(pl.Callback):
    """An exponential moving average of the weights over the steps (Polyak & Juditsky 1992).

    decay  weight of a step for each one that came after it

    After step t the average is the sum over k of decay^k w(t - k), divided by the sum of decay^k: the first steps count
    no more than their share. The statistics of batch normalisation are averaged with the weights that they belong to;
    whole numbers are copied. Training goes on with its own weights. A checkpoint holds the average as its weights, and
    beside it those of training.
    """

    def __init__(self, *, decay: Annotated[float, Interval(ge=0, lt=1)] = 0.999):
        self.decay = decay
        self.steps = 0  # averaged over so far
        self._seen = 0  # the Trainer's count of steps at the last one
        self._weights: dict[str, Tensor] = {}  # of the task, which training changes in place
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}  # of a checkpoint, until training starts

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        # Of a resumed run the average stands in the task, loaded as the checkpoint's weights.
        self._weights = {name: tensor for name, tensor in task.state_dict().items() if tensor.is_floating_point()}
        self._average = {name: tensor.clone() for name, tensor in self._weights.items()}
        task.load_state_dict(self._trained, strict=False)
        self._trained = {}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if trainer.global_step == self._seen:  # gradients are being gathered
            return
        self._seen = trainer.global_step
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), share)

    def on_validation_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._swap()

    def on_validation_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the task's weights and the average."""
        for name, average in self._average.items():
            kept = self._weights[name].clone()
            self._weights[name].copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self._seen = state["steps"], state["seen"]

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["trained"] = {name: checkpoint["state_dict"][name] for name in self._average}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._average}

    def on_load_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._trained = checkpoint["trained"]
