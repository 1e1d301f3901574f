"""Which class, or which labels, does a text or an image have?"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.labels import label_counts
from marquee.data.module import DataModule
from marquee.data.spec import ImageSpec, TextSpec
from marquee.metrics.classification import ClassificationEvaluator
from marquee.models.base import Classifier
from marquee.models.baseline.majority import AllLabels, LabelBatch, Majority
from marquee.tasks.base import Task

Monitor = Literal["accuracy", "f1_macro", "f1_micro", "auroc", "average_precision", "log_loss"]


class Classification(Task):
    """Cross-entropy over classes, or binary cross-entropy a label when multi-label. A score is a probability.

    label_smoothing  share of each target that is spread evenly (Szegedy et al. 2016)
    class_weights    balanced: a class counts inversely to its frequency in training (multi-label: its positives do)
    monitor          what early stopping and the best checkpoint go by; null: accuracy, or average_precision when
                     multi-label, where a model that predicts nothing at all is already quite accurate
    """

    spec_types = (TextSpec, ImageSpec)

    def __init__(
        self,
        model: Classifier,
        data: DataModule,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        seed: int = 0,
        *,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        monitor: Monitor | None = None,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.multilabel = data.spec.multilabel
        self.label_smoothing = label_smoothing
        self.monitor = monitor or ("average_precision" if self.multilabel else "accuracy")
        self.mode = "min" if self.monitor == "log_loss" else "max"
        weights = _balanced(data, self.multilabel) if class_weights == "balanced" else None
        # Not persistent: it follows from the data, and a checkpoint must load whatever the weighting.
        self.register_buffer("weights", weights, persistent=False)

    def loss(self, batch: Any) -> Tensor:
        if self.model.closed_form:
            return self.model.learn(batch)
        logits = self.model(batch).float()
        if not self.multilabel:
            return F.cross_entropy(logits, batch.labels, self.weights, label_smoothing=self.label_smoothing)
        targets = batch.labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights)

    def scores(self, scorer: Any, batch: Any) -> Tensor:
        """Probabilities [batch, n_classes] from the scorer's logits."""
        logits = scorer(batch).float()
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    def evaluator(self) -> ClassificationEvaluator:
        spec = self.data.spec
        return ClassificationEvaluator(spec.labels or [str(i) for i in range(spec.n_classes)], self.multilabel)

    def baselines(self) -> dict[str, Any]:
        majority = Majority(self.data.spec, view=AllLabels())
        majority.learn(LabelBatch(torch.from_numpy(np.asarray(self.data.labels[self.data.parts["train"]]))))
        return {"majority": majority}


def _balanced(data: DataModule, multilabel: bool) -> Tensor:
    """Weights float32 [n_classes] with mean 1 over examples; multi-label: negatives per positive of each label."""
    labels = data.labels[data.parts["train"]]
    counts = np.maximum(label_counts(labels, data.spec.n_classes), 1)
    weights = (len(labels) - counts) / counts if multilabel else len(labels) / (len(counts) * counts)
    return torch.from_numpy(weights.astype(np.float32))
