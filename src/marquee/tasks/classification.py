"""Which class, or which labels, does a text or an image have?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.dataset import Part
from marquee.data.images.dataset import ImageData
from marquee.data.label_view import AllLabels
from marquee.data.labels import label_counts
from marquee.data.spec import ImageSpec, TextSpec
from marquee.data.text.dataset import TextData
from marquee.errors import DataError
from marquee.inference.classifier import ClassPredictor, ImagePredictor, TextPredictor
from marquee.metrics.classification import METRICS, ClassificationEvaluator
from marquee.models.base import Classifier
from marquee.models.baseline.majority import Majority
from marquee.tasks.base import MakeOptimizer, Schedule, Task

Monitor = Literal["accuracy", "f1_macro", "f1_micro", "auroc", "average_precision", "log_loss"]

PREDICTORS: dict[type, type[ClassPredictor]] = {TextSpec: TextPredictor, ImageSpec: ImagePredictor}
RIVALS = {TextSpec: "model=linear/bag_of_words,transformer/text", ImageSpec: "model=cnn/poster,cnn/resnet_small"}


class Classification(Task):
    """Cross-entropy over classes, or binary cross-entropy a label when multi-label. A score is a probability.

    label_smoothing        share of each target that is spread evenly (Szegedy et al. 2016)
    class_weights          balanced: a class counts inversely to its frequency in training (multi-label: its positives)
    monitor                what early stopping and the best checkpoint go by; null: accuracy, or average_precision when
                           multi-label, where a model that predicts nothing at all is already quite accurate
    evaluation_batch_size  examples a step of validation and test
    """

    spec_types = (TextSpec, ImageSpec)
    unit = "example"

    def __init__(
        self,
        model: Classifier,
        data: TextData | ImageData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        monitor: Monitor | None = None,
        evaluation_batch_size: Annotated[int, Ge(1)] = 256,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.multilabel = data.spec.multilabel
        self.label_smoothing = label_smoothing
        self.monitor = monitor or ("average_precision" if self.multilabel else "accuracy")
        self.mode = "min" if self.monitor == "log_loss" else "max"
        self.evaluation_batch_size = evaluation_batch_size
        weights = _balanced(data, self.multilabel) if class_weights == "balanced" else None
        # Not persistent: it follows from the data, and a checkpoint must load whatever the weighting.
        self.register_buffer("weights", weights, persistent=False)

    def loss(self, batch: Any) -> Tensor:
        logits = self.model(batch).float()
        if not self.multilabel:
            return F.cross_entropy(logits, batch.labels, self.weights, label_smoothing=self.label_smoothing)
        targets = batch.labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.weights)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[Any]:
        """`evaluation_batch_size` examples at once; those of like length together, which saves padding."""
        view, index = self.model.view, self.data.parts[part]
        lengths = view.lengths(self.data, index)
        if lengths is not None:
            index = index[np.argsort(lengths, kind="stable")]
        index = index[rank::world]
        for start in range(0, len(index), self.evaluation_batch_size):
            yield view.batch(self.data, index[start : start + self.evaluation_batch_size])

    def scores(self, scorer: Any, batch: Any) -> Tensor:
        """Probabilities [batch, n_classes] from the scorer's logits."""
        logits = scorer(batch).float()
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    def evaluator(self) -> ClassificationEvaluator:
        spec = self.data.spec
        return ClassificationEvaluator(spec.labels or [str(i) for i in range(spec.n_classes)], self.multilabel)

    def _end_evaluation(self, part: Part) -> None:
        super()._end_evaluation(part)
        if part == "validation" and self.monitor not in self.results[part][0]:
            raise DataError(
                f"task.monitor={self.monitor} is not defined for the {len(self.data.parts[part])} examples of the "
                "validation part: it needs examples with and without a class. Raise split.validation, or choose "
                "task.monitor=log_loss."
            )

    def baselines(self) -> dict[str, Any]:
        view = AllLabels()
        majority = Majority(self.data.spec, view=view)
        majority.fit(view.batch(self.data, self.data.parts["train"]))
        return {"majority": majority}

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return list(METRICS)

    def shown(self) -> list[str]:
        return ["accuracy", "f1_macro", "auroc", "log_loss"]

    def predictor(self) -> type[ClassPredictor]:
        return PREDICTORS[type(self.data.spec)]

    def requests(self, predictor: ClassPredictor, n: int) -> Sequence[Callable[[], Any]]:
        inputs = [self.data.example(row) for row in self.data.parts["test"][:n]]
        return [lambda given=given: predictor.predict([given]) for given in inputs]

    def suggestions(self) -> tuple[str, str]:
        kind = type(self.data.spec)
        return f"predict {{run}} {PREDICTORS[kind].example}", RIVALS[kind]


def _balanced(data: TextData | ImageData, multilabel: bool) -> Tensor:
    """Weights float32 [n_classes] with mean 1 over examples; multi-label: negatives per positive of each label."""
    labels = data.labels[data.parts["train"]]
    counts = np.maximum(label_counts(labels, data.spec.n_classes), 1)
    weights = (len(labels) - counts) / counts if multilabel else len(labels) / (len(counts) * counts)
    return torch.from_numpy(weights.astype(np.float32))
