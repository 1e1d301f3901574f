"""What does somebody want, or is it nothing that this service can do?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval

from marquee.data.spec import TextSpec
from marquee.data.text.dataset import TextData
from marquee.errors import ConfigError
from marquee.metrics.decisions import Criterion, Decision, floor_for, others
from marquee.models.base import Classifier
from marquee.tasks.classification import Classification, Monitor
from marquee.tasks.loop import MakeOptimizer, Schedule

OUT_OF_SCOPE = "oos"


class Intent(Classification):
    """Classification of texts where one class stands for what belongs to none of the others: out of scope.

    An example is also out of scope where no intent has a probability above a floor, which is chosen on validation
    (Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP). What is
    right of the rest is told apart from what is turned away: accuracy alone hides the one behind the other.

    out_of_scope  the class's name; null: `oos` where the data have it, else none
    scope         how the floor is chosen on validation: the share of examples in scope that may be turned away, or what
                  is to be largest, of out of scope against all others (f1, accuracy, balanced_accuracy)

    The others are those of Classification.
    """

    spec_types = (TextSpec,)
    measured = (*Classification.measured, "out_of_scope")

    def __init__(
        self,
        model: Classifier,
        data: TextData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        out_of_scope: str | None = None,
        scope: Criterion | Annotated[float, Interval(ge=0, lt=0.5)] = 0.01,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        monitor: Monitor | None = None,
        evaluation_batch_size: Annotated[int, Ge(1)] = 256,
        costs: dict[str, Annotated[float, Interval(gt=0, le=1e12)]] | None = None,
        groups: list[str] | None = None,
    ):
        super().__init__(
            model,
            data,
            optimizer,
            scheduler,
            seed,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            monitor=monitor,
            evaluation_batch_size=evaluation_batch_size,
            costs=costs,
            groups=groups,
        )
        self.scope = scope
        wanted = out_of_scope or (OUT_OF_SCOPE if OUT_OF_SCOPE in self.decisions.labels else None)
        if wanted is None:
            return
        if self.multilabel:
            raise ConfigError("task=intent gives a text one intent, and these have several labels: task=classification")
        if wanted not in self.decisions.labels:
            raise ConfigError(
                f"task.out_of_scope={wanted}: there is no such class in this data.\n"
                f"  allowed: {', '.join(self.decisions.labels)}"
            )
        self.apart = self.decisions.labels.index(wanted)
        self.decision = self._apart(self.decisions.plain, 0.0)
        if not len(data.parts["validation"]):
            raise ConfigError(
                "task.scope is chosen on validation, and this split has none.\n  fix: split.validation=0.1"
            )
        if isinstance(scope, str) and self.apart not in data.labels[data.parts["validation"]]:
            raise ConfigError(
                f"task.scope={scope}: validation has no text of class {wanted} to choose the floor by.\n"
                "  fix: task.scope=0.01, the share of the others that may be turned away"
            )

    def _apart(self, decision: Decision, floor: float) -> Decision:
        return replace(decision, apart=self.apart, floor=floor)

    def _chosen(self, scorer: Any) -> Decision:
        decision = super()._chosen(scorer)
        if self.apart is None:
            return decision
        targets, probabilities = self._validated_by(scorer)
        predicted, confidence = decision.predict(probabilities), others(probabilities, self.apart)
        return self._apart(decision, floor_for(targets, predicted, confidence, self.apart, self.scope))

    def protocol(self) -> str:
        if self.apart is None:
            return super().protocol()
        by = f"{self.scope:.1%} of those in scope lost" if isinstance(self.scope, float) else self.scope
        name = self.decisions.labels[self.apart]
        return ", ".join([*self.decisions.told(), f"{name} below a confidence chosen on validation ({by})"])

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return [*super().metrics_of(settings), "in_scope_accuracy", "out_of_scope_recall", "out_of_scope_f1"]

    def shown(self) -> list[str]:
        if self.apart is None:
            return super().shown()
        return ["accuracy", "in_scope_accuracy", "out_of_scope_recall", "out_of_scope_f1"]
