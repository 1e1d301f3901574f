"""Values of a matrix batch and their means by user or item: what the simplest rating models are made of."""

from typing import TypeVar

import torch
from torch import Tensor

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.views import MatrixBatch
from marquee.errors import ConfigError

Values = TypeVar("Values")


def values_of(batch: MatrixBatch) -> Tensor:
    """The values float32 [n]. Raises ConfigError where the data has none."""
    return _present(batch.values)


def shrunk_means(keys: Tensor, values: Tensor, n: int, strength: float, towards: Tensor) -> Tensor:
    """(sum of the values of a key + strength `towards`) / (their number + strength), float32 [n].

    A key without values has `towards` (scalar).
    """
    counts = torch.bincount(keys, minlength=n)
    sums = torch.bincount(keys, values.double(), minlength=n) + strength * towards
    return torch.where(counts > 0, sums / (counts + strength).clamp(min=1e-12), towards).float()


def training_mean(data: InteractionData) -> float:
    """The mean of the values of the training part. Raises ConfigError where the data has none."""
    return float(_present(data.parts["train"].values).mean(dtype="float64"))


def _present(values: Values | None) -> Values:
    if values is None:
        raise ConfigError(
            "model: this model predicts values (ratings), and this data has none.\n  fix: name their column "
            "(data.columns.value=...), or a model that learns from what was met, such as model=mf/bpr"
        )
    return values
