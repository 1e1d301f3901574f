"""How a task measures: collect per-unit results on every process, then compute each metric once from all of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch


class Evaluator(ABC):
    """Accumulates results batch by batch; `state` travels between processes, `compute` sees all states.

    A unit is a user or an example. Metrics are computed from the joined units, never averaged over batches or
    processes, so batch size and number of processes cannot change them.
    """

    @abstractmethod
    def update(self, scores: "torch.Tensor", batch: Any) -> None:
        """Take the scores of one evaluation batch. Raises JobError where nothing can be made of them, as of NaN."""

    @abstractmethod
    def state(self) -> "dict[str, numpy.ndarray]":
        """Everything collected so far as arrays."""

    @abstractmethod
    def compute(self, states: "Sequence[dict[str, numpy.ndarray]]") -> "tuple[dict[str, float], pandas.DataFrame]":
        """The metrics over all units of all states, and the per-unit table sorted by unit."""
