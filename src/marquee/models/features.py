"""Side features of users or items as vectors: one for each column of the table, for models that read them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marquee.data.spec import Feature

# Of a model that knows items by their features alone, and of its like without.
NOTHING_TO_READ = (
    "{} reads what data.item_features names, and it names none. Name a column, such as "
    "data.item_features={{genres: multi_hot}}, or a source, data.item_features=[NAME:RUN]; without features: model={}"
)


class FeatureVectors(nn.Module):
    """The encoded columns of a table and a vector space for each of them.

    A categorical column looks its value up; of a multi-hot one the mean of the values' vectors is taken (zero where
    there is none); a dense one weighs learnt directions by its numbers. The table itself is part of the state, so that
    a finished run needs no data.

    columns  what the spec says of them, `spec.item_features` or `spec.user_features`
    n        rows of the table
    dim      length of the vectors
    """

    def __init__(self, columns: Sequence[Feature], n: int, dim: int, std: float = 0.01):
        super().__init__()
        self.columns = tuple(columns)
        self.spaces = nn.ParameterList(nn.init.normal_(torch.empty(column.size, dim), std=std) for column in columns)
        for place, column in enumerate(self.columns):
            categorical = column.kind == "categorical"
            shape, dtype = ((n,), torch.int64) if categorical else ((n, column.size), torch.float32)
            self.register_buffer(f"column{place}", torch.zeros(shape, dtype=dtype))

    def __len__(self) -> int:
        return len(self.columns)

    def fill(self, encoded: Mapping[str, np.ndarray]) -> None:
        """Take the table, as `Features.encode` gives it. Called in a model's `prepare`."""
        for place, values in enumerate(self._values(encoded)):
            getattr(self, f"column{place}").copy_(values)

    def _values(self, encoded: Mapping[str, np.ndarray]) -> Iterator[Tensor]:
        for column in self.columns:
            values = torch.from_numpy(encoded[column.name])
            yield values / values.sum(1, keepdim=True).clamp(min=1) if column.kind == "multi_hot" else values

    def of(self, encoded: Mapping[str, np.ndarray]) -> Tensor:
        """Vectors [n, columns, dim] of rows that are not in the table, as `Features.encode` gives them."""
        return self._spanned(list(self._values(encoded)))

    def columns_as_numbers(self, encoded: Mapping[str, np.ndarray] | None = None) -> list[Tensor]:
        """Each column as float32 [n, numbers], of the table or of other rows; a category has one place of its own."""
        columns = self._all() if encoded is None else list(self._values(encoded))
        return [
            F.one_hot(values, column.size)[:, 1:].float() if column.kind == "categorical" else values
            for column, values in zip(self.columns, columns, strict=True)
        ]

    def _all(self) -> list[Tensor]:
        return [getattr(self, f"column{place}") for place in range(len(self))]

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [*rows.shape, columns, dim] of the rows (int64, any shape)."""
        return self._spanned([values[rows] for values in self._all()])

    def _spanned(self, values: Sequence[Tensor]) -> Tensor:
        found = [
            space[value] if column.kind == "categorical" else value @ space
            for column, space, value in zip(self.columns, self.spaces, values, strict=True)
        ]
        return torch.stack(found, dim=-2)

    def all(self) -> Tensor:
        """Vectors [n, columns, dim] of the whole table."""
        return self._spanned(self._all())
