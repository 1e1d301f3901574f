"""How a classification decides: what its keys ask for, checked against the data, and chosen on validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from marquee.data.spec import ImageSpec, TextSpec
from marquee.errors import ConfigError
from marquee.metrics.decisions import Criterion, Decision, best_threshold, confidence_for
from marquee.metrics.groups import Groups, values_or_quartiles


class Decisions:
    """The keys `threshold`, `costs`, `positive` and `abstain` of a classification, and the decisions that follow.

    Raises ConfigError for classes that the data does not have, and for keys that do not go together.
    """

    def __init__(
        self,
        spec: TextSpec | ImageSpec,
        threshold: Criterion | float | None,
        costs: Mapping[str, float] | None,
        positive: Sequence[str | int] | None,
        abstain: float,
    ):
        self.labels = list(spec.labels) or [str(number) for number in range(spec.n_classes)]
        self.multilabel, self.threshold, self.abstain = spec.multilabel, threshold, abstain
        two = len(self.labels) == 2 and not self.multilabel
        if positive and self.multilabel:
            raise ConfigError(
                "task.positive tells classes apart, and here an example has several labels. Leave it out."
            )
        flagged = list(dict.fromkeys(self._numbers(positive or [], "positive")))
        if len(flagged) == len(self.labels):
            raise ConfigError("task.positive names every class, so nothing could be a false alarm. Name fewer.")
        self.positive = tuple(flagged) or ((1,) if two else ())
        self.costs: tuple[float, ...] = ()
        if costs is not None:
            if self.multilabel:
                raise ConfigError("task.costs is for one class an example; for labels type task.threshold=f1.")
            if threshold is not None:
                raise ConfigError("task.costs and task.threshold both decide. Keep one of them.")
            values = np.ones(len(self.labels))
            values[self._numbers(costs, "costs")] = list(costs.values())
            self.costs = tuple(values.tolist())
        if threshold is not None and not (two or self.multilabel):
            raise ConfigError(
                f"task.threshold={threshold} needs two classes or several labels an example; these are "
                f"{len(self.labels)} classes. To weigh them type for example task.costs={{{self.labels[0]}: 5}}"
            )
        if abstain and self.multilabel:
            raise ConfigError("task.abstain goes by the most probable class; an example with several labels has none.")
        # What is decided before validation has been seen.
        fixed = threshold if isinstance(threshold, (int, float)) else None
        self.plain = self._of([fixed] * (len(self.labels) if self.multilabel else 1) if fixed is not None else None)
        self.chooses = isinstance(threshold, str) or abstain > 0

    def choose(self, targets: np.ndarray, probabilities: np.ndarray) -> Decision:
        """The decision that validation speaks for; shapes as in `classification_metrics`."""
        decision = self.plain
        if isinstance(self.threshold, str):
            if self.multilabel:
                columns = [(targets[:, number] > 0, probabilities[:, number]) for number in range(len(self.labels))]
            else:
                number = self.positive[0]
                columns = [(targets == number, probabilities[:, number])]
            # A label that validation does not have says nothing about its threshold.
            decision = self._of(
                [best_threshold(*column, self.threshold) if column[0].any() else 0.5 for column in columns]
            )
        if self.abstain:
            least = confidence_for(probabilities, self.abstain)
            decision = Decision(decision.values, decision.multilabel, least)
        return decision

    def _of(self, thresholds: Sequence[float] | None) -> Decision:
        if self.multilabel:
            return Decision(tuple(thresholds or [0.5] * len(self.labels)), True)
        if thresholds:
            weights = [thresholds[0]] * 2
            weights[self.positive[0]] = 1 - thresholds[0]
            return Decision(tuple(weights))
        return Decision(self.costs or (1.0,) * len(self.labels))

    def told(self) -> list[str]:
        """In words, for below the tables."""
        words = []
        # Of two classes the second, which the metrics are of, too, unless the other is the one to be flagged.
        first = not self.multilabel and self.positive[:1] == (0,)
        of = f" of {self.labels[0]}" if first else ""
        if isinstance(self.threshold, str):
            words.append(f"thresholds chosen on validation by {self.threshold}{of}")
        elif self.threshold is not None:
            words.append(f"threshold {self.threshold:g}{of}")
        if self.costs:
            costs = zip(self.labels, self.costs, strict=True)
            dear = ", ".join(f"{name}: {cost:g}" for name, cost in costs if cost != 1) or "nothing more than 1"
            words.append(f"least expected cost, where missing a class costs 1, but {dear}")
        if self.abstain:
            words.append(f"the least certain {self.abstain:.0%} (by validation) are for a person")
        return words

    def _numbers(self, names: Sequence[str | int] | Mapping[str, Any], key: str) -> list[int]:
        if unknown := [name for name in names if str(name) not in self.labels]:
            raise ConfigError(
                f"task.{key}: there is no class {unknown[0]!r} in this data.\n  allowed: {', '.join(self.labels)}"
            )
        return [self.labels.index(str(name)) for name in names]


def groups_of(data: Any, wanted: Sequence[str]) -> dict[str, Groups]:
    """Groups of examples, by row number, for each attribute: its values, or the quarters of many numbers.

    Raises ConfigError for what is none of `data.attributes`.
    """
    import pandas as pd

    known: Mapping[str, np.ndarray] = getattr(data, "attributes", {})
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(
            f"task.groups: this data does not know {unknown[0]} of its examples.\n  allowed: "
            f"{', '.join(known) or 'nothing; a table of your own has data.attributes=[COLUMN]'}"
        )
    return {name: Groups(*values_or_quartiles(pd.Series(known[name]), f"task.groups: {name}")) for name in wanted}
