"""The class frequencies of training, whatever the example: what a classifier must beat."""

from typing import Any

import torch
from torch import Tensor

from marquee.data.label_view import AllLabels, LabelBatch
from marquee.data.spec import ImageSpec, TextSpec
from marquee.models.base import Classifier


class Majority(Classifier):
    """Predicts the share of each class in training (Laplace-smoothed by one example, so that no log is infinite)."""

    max_epochs = 1

    def __init__(self, spec: TextSpec | ImageSpec, *, view: AllLabels):
        super().__init__()
        self.view = view
        self.multilabel = spec.multilabel
        self.register_buffer("logits", torch.zeros(spec.n_classes))

    def fit(self, batch: LabelBatch) -> Tensor:
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
