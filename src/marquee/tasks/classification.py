"""Which class, or which labels, does a text or an image have?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
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
from marquee.data.text.keywords import KEYWORDS, class_keywords
from marquee.errors import ConfigError, DataError
from marquee.files import replacing
from marquee.inference.classifier import ClassPredictor, ImagePredictor, TextPredictor
from marquee.metrics.bootstrap import intervals
from marquee.metrics.classification import METRICS, ClassificationEvaluator, Judged
from marquee.metrics.decisions import Criterion, Decision
from marquee.models.base import Classifier
from marquee.models.baseline.majority import Majority
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task
from marquee.tasks.decisions import Decisions, groups_of
from marquee.tasks.loop import MakeOptimizer, Schedule

Monitor = Literal["accuracy", "f1_macro", "f1_micro", "auroc", "average_precision", "log_loss"]

PREDICTORS: dict[type, type[ClassPredictor]] = {TextSpec: TextPredictor, ImageSpec: ImagePredictor}
RIVALS = {
    TextSpec: "model=linear/nbsvm,rnn/lstm,transformer/text",
    ImageSpec: "model=cnn/poster,cnn/resnet_small,cnn/mobile",
}


class Classification(Task):
    """Cross-entropy over classes, or binary cross-entropy a label when multi-label. A score is a probability.

    label_smoothing        share of each target that is spread evenly (Szegedy et al. 2016)
    class_weights          balanced: a class counts inversely to its frequency in training (multi-label: its positives)
    monitor                what early stopping and the best checkpoint go by; null: accuracy, or average_precision when
                           multi-label, where a model that predicts nothing at all is already quite accurate
    evaluation_batch_size  examples a step of validation and test
    threshold              from which probability on the second of two classes (or `positive`), or each label, is
                           predicted: a number, or what a threshold chosen on validation makes largest, of two classes
                           f1 that of this class, balanced_accuracy the mean of both recalls. null: 0.5
    costs                  of missing a class, by name, 1 where not named: the least expected cost is predicted, and
                           the mean cost of a test example recorded as `cost`
    positive               classes that are to be flagged, such as [hate, offensive]: `false_positive_rate` is the share
                           of the others that is. null: the second of two classes
    abstain                share of the examples, the least certain, that is left to a person; from which confidence on
                           is chosen on validation. `accuracy_covered` is that of the others
    groups                 attributes of the examples (length, category, decade) whose groups are told apart, in
                           accuracy and in both error rates
    """

    spec_types = (TextSpec, ImageSpec)
    unit = "example"
    measured = ("costs", "positive")
    measures_more = ("groups",)

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
        threshold: Criterion | Annotated[float, Interval(gt=0, lt=1)] | None = None,
        costs: dict[str, Annotated[float, Interval(gt=0, le=1e12)]] | None = None,
        positive: list[str | int] | None = None,
        abstain: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        groups: list[str] | None = None,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.decisions = Decisions(data.spec, threshold, costs, positive, abstain)
        if self.decisions.chooses and not len(data.parts["validation"]):
            raise ConfigError(
                "task.threshold and task.abstain are chosen on validation, and this split has none.\n"
                "  fix: split.validation=0.1, or a number for task.threshold and task.abstain=0"
            )
        self.decision = self.decisions.plain
        self.apart: int | None = None  # the number of the class of what belongs to none of the others
        self.groups = groups_of(data, groups or ())
        self.multilabel = data.spec.multilabel
        self.label_smoothing = label_smoothing
        self.monitor = monitor or ("average_precision" if self.multilabel else "accuracy")
        self.mode = "min" if self.monitor == "log_loss" else "max"
        self.evaluation_batch_size = evaluation_batch_size
        if model.learns_in_fit and (label_smoothing or class_weights != "none"):
            self.remarks = (
                f"task.class_weights and task.label_smoothing are of a loss that gradients are taken of, and "
                f"{type(model).__name__} takes none: they change nothing. Linear models have model.class_weights.",
            )
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
        judged = Judged(self.decision, self.decisions.positive, self.decisions.costs, self.groups, self.apart)
        return ClassificationEvaluator(self.decisions.labels, self.multilabel, judged)

    def settle(self) -> None:
        self.decision = self._chosen(self.model)

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        """As any task's; in the test each scorer has the thresholds that it does best with on validation."""
        kept, self.decision = self.decision, self._chosen(scorer) if part == "test" else self.decisions.plain
        try:
            return super().evaluate(scorer, part)
        finally:
            self.decision = kept

    def _chosen(self, scorer: Any) -> Decision:
        """What a scorer decides by in the test."""
        if not self.decisions.chooses:
            return self.decisions.plain
        return self.decisions.choose(*self._validated_by(scorer))

    @torch.no_grad()
    def _validated_by(self, scorer: Any) -> tuple[np.ndarray, np.ndarray]:
        """Targets and probabilities of validation. Every process looks at all of it, so that they agree."""
        evaluator = ClassificationEvaluator(self.decisions.labels, self.multilabel)
        for batch in self.evaluation_batches("validation"):
            batch = self.transfer_batch_to_device(batch, self.device, 0)
            evaluator.update(self.scores(scorer, batch), batch)
        _, targets, probabilities = evaluator.joined([evaluator.state()])
        return targets, probabilities

    def found(self) -> dict[str, Any]:
        _, targets, probabilities = self._tested()
        rng = numpy_generator(self.seed, "intervals")
        drawn = intervals(targets, self.decision.predict(probabilities), probabilities, rng)
        chosen = {"decision": self.decision.to_json()} if self.decision != self._default() else {}
        return {"intervals": {f"test/{name}": list(ends) for name, ends in drawn.items()}, **chosen}

    def write_tables(self, folder: Path) -> None:
        """`keywords.csv`: the terms that tell the classes of texts apart."""
        if isinstance(self.data, TextData):
            with replacing(folder / KEYWORDS) as file:
                class_keywords(self.data).to_csv(file, index=False)

    def draw(self, folder: Path, best_epoch: int | None) -> None:
        from marquee.plots.looking import write_examples

        rows, targets, probabilities = self._tested()
        predicted = self.decision.predict(probabilities)
        labels, plots = self.decisions.labels, folder / "plots"
        plots.mkdir(exist_ok=True)
        try:  # pages and sheets need none of the packages that figures need, and neither costs the other
            model = self.model.to("cpu").eval()
            write_examples(plots, self.data, model, rows, targets, predicted, probabilities, labels)
        finally:
            from marquee.plots.judged import judged_figures
            from marquee.plots.paper import SCREEN, write_plots
            from marquee.plots.terms import informative_terms

            super().draw(folder, best_epoch)
            made = judged_figures(targets, predicted, probabilities, labels)
            if (terms := informative_terms(self.model, self.data)) is not None:
                made.append(terms)
            write_plots(made, plots, scale=SCREEN)

    def _tested(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers, targets and probabilities of the test, by row number."""
        _, units = self.results["test"]
        rows = units["example"].to_numpy()
        return rows, self.data.labels[rows], units[[f"p({label})" for label in self.decisions.labels]].to_numpy()

    def _default(self) -> Decision:
        return Decision.plain(len(self.decisions.labels), self.multilabel)

    def protocol(self) -> str:
        return ", ".join(self.decisions.told())

    def serves(self) -> dict[str, Any]:
        return {"decision": self.decision.to_json()} if self.decision != self._default() else {}

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
        costs, abstain = bool(self.decisions.costs), bool(self.decisions.abstain)
        asked = ["cost"] * costs + ["coverage", "accuracy_covered"] * abstain
        usual = ["f1_macro"] * (len(asked) < 3) + ["auroc"] * (not asked)  # a terminal has room for five
        return ["accuracy", *usual, *asked, "log_loss"]

    def predictor(self) -> type[ClassPredictor]:
        return self.model.predictor or PREDICTORS[self._kind()]

    def requests(self, predictor: ClassPredictor, n: int) -> Sequence[Callable[[], Any]]:
        return [lambda given=given: predictor.predict([given]) for given in self._inputs(n)]

    def many(self, predictor: ClassPredictor, n: int) -> tuple[Callable[[], Any], int]:
        inputs = self._inputs(n)
        return lambda: predictor.predict(inputs), len(inputs)

    def _kind(self) -> type[TextSpec] | type[ImageSpec]:
        return TextSpec if isinstance(self.data.spec, TextSpec) else ImageSpec

    def _inputs(self, n: int) -> list[Any]:
        return [self.data.example(row) for row in self.data.parts["test"][:n]]

    def suggestions(self) -> tuple[str, str]:
        kind = self._kind()
        return f"predict {{run}} {PREDICTORS[kind].example}", RIVALS[kind]


def _balanced(data: TextData | ImageData, multilabel: bool) -> Tensor:
    """Weights float32 [n_classes] with mean 1 over examples; multi-label: negatives per positive of each label."""
    labels = data.labels[data.parts["train"]]
    counts = np.maximum(label_counts(labels, data.spec.n_classes), 1)
    weights = (len(labels) - counts) / counts if multilabel else len(labels) / (len(counts) * counts)
    return torch.from_numpy(weights.astype(np.float32))
