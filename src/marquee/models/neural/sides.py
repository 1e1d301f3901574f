"""Users and items as fields: an id and the columns of side features, each of which has a vector."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.spec import InteractionSpec
from marquee.models.features import FeatureVectors


class Side(nn.Module):
    """The vectors of one side, users or items: that of the id, where `ids`, and one for each column of its features.

    The id of a row that training never met has learnt nothing, so its vector is left out (`known`): such a row speaks
    by its features alone.

    name  user or item
    """

    def __init__(self, spec: InteractionSpec, name: str, dim: int, std: float, ids: bool = True):
        super().__init__()
        n = spec.n_users if name == "user" else spec.n_items
        columns = spec.user_features if name == "user" else spec.item_features
        self.name, self.n = name, n
        self.fields = int(ids) + len(columns)
        self.ids = nn.Parameter(nn.init.normal_(torch.empty(n, dim), std=std)) if ids else None
        self.columns = FeatureVectors(columns, n, dim, std) if columns else None
        self.register_buffer("known", torch.ones(n, dtype=torch.bool))
        self._guests: Mapping[str, np.ndarray] | None = None

    def prepare(self, data: InteractionData) -> None:
        train = data.parts["train"]
        met = train.users if self.name == "user" else train.items
        self.known.copy_(torch.from_numpy(np.bincount(met, minlength=self.n) > 0))
        if self.columns is not None:
            self.columns.fill(data.encoded(self.name))

    @contextmanager
    def guests(self, encoded: Mapping[str, np.ndarray]) -> Iterator[None]:
        """While inside, the rows asked for are those encoded by `Features.encode`, whose ids nobody knows."""
        self._guests = encoded
        try:
            yield
        finally:
            self._guests = None

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """The vectors [n, fields, dim] of rows (int64 [n]), or of all of them."""
        if self._guests is not None:
            return self.of(self._guests)
        parts = []
        if self.ids is not None:
            # Not `ids[rows]`: what index_select's gradient adds takes a quarter of the time.
            ids, known = (self.ids, self.known) if rows is None else (self.ids.index_select(0, rows), self.known[rows])
            parts.append((ids * known[:, None])[:, None])
        if self.columns is not None:
            parts.append(self.columns.all() if rows is None else self.columns(rows))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def of(self, encoded: Mapping[str, np.ndarray]) -> Tensor:
        """The vectors [n, fields, dim] of rows that nobody has met, by their features; 0 in the place of the id."""
        columns = self.columns.of(encoded)
        return columns if self.ids is None else torch.cat([torch.zeros_like(columns[:, :1]), columns], 1)


def refuse_without_fields(side: Side) -> None:
    if not side.fields:
        raise ValueError(
            f"ids=false leaves {side.name}s with nothing to be known by: name features (data.{side.name}_features=...)"
        )
