"""The class frequencies of training, whatever the example: what a classifier must beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.image_views import ImageBatches
from marquee.data.module import Part, View
from marquee.data.spec import ImageSpec, TextSpec
from marquee.data.text_views import TextBatches
from marquee.models.base import Classifier


class LabelBatch(NamedTuple):
    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label


@dataclass(frozen=True, kw_only=True)
class AllLabels(View):
    """One batch an epoch: the labels of the whole training part. Evaluation batches are those of the data's kind.

    evaluation_batch_size  examples a step of validation and test
    """

    evaluation_batch_size: Annotated[int, Ge(1)] = 1024

    def steps(self, data: Any) -> int:
        return 1

    def train_batches(self, data: Any, seed: int, epoch: int) -> Iterator[LabelBatch]:
        yield LabelBatch(torch.from_numpy(data.labels[data.parts["train"]]))

    def shard(self, batch: LabelBatch, rank: int, world: int) -> LabelBatch:
        return batch  # every process counts all labels, so that all of them hold the same model

    def evaluation_batches(self, data: Any, part: Part, rank: int = 0, world: int = 1) -> Iterator[Any]:
        size = self.evaluation_batch_size
        view = (
            TextBatches(evaluation_batch_size=size, max_length=1)
            if isinstance(data.spec, TextSpec)
            else ImageBatches(evaluation_batch_size=size)
        )
        return view.evaluation_batches(data, part, rank, world)


class Majority(Classifier):
    """Predicts the share of each class in training (Laplace-smoothed by one example, so that no log is infinite)."""

    closed_form = True
    max_epochs = 1

    def __init__(self, spec: TextSpec | ImageSpec, *, view: AllLabels):
        super().__init__()
        self.view = view
        self.multilabel = spec.multilabel
        self.register_buffer("logits", torch.zeros(spec.n_classes))

    def learn(self, batch: LabelBatch) -> Tensor:
        """Count the labels; returns the mean training log loss (scalar)."""
        n_classes = len(self.logits)
        if self.multilabel:
            shares = (batch.labels.double().sum(dim=0) + 1) / (len(batch.labels) + 2)
            self.logits.copy_(torch.logit(shares))
            return -(shares * shares.log() + (1 - shares) * (1 - shares).log()).mean().float()
        shares = (torch.bincount(batch.labels, minlength=n_classes).double() + 1) / (len(batch.labels) + n_classes)
        self.logits.copy_(shares.log())
        return -(shares * shares.log()).sum().float()

    def forward(self, batch: Any) -> Tensor:
        """Logits [batch, n_classes], the same in every row."""
        return self.logits.expand(len(batch.labels), -1)
