"""Which tensors of a model have a row for each user or item, and how such tables go over into a model of more."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from marquee.data.spec import InteractionSpec
from marquee.models.base import Model

MORE = 7  # how many more users, or items, a probe has


class Tables:
    """The dimensions of a model's tensors that grow with the users or with the items.

    Found by building the model for more of either, without memory, and looking at what became longer. So it holds for
    every model, also one of a plug-in, whatever its tables are called and whichever other lengths happen to be equal.

    make        builds the model of a spec
    spec        of the data that the model is for
    dimensions  by tensor: (dimension, "users", "items" or "both") of each that grows
    """

    def __init__(self, make: Callable[[InteractionSpec], Model], spec: InteractionSpec):
        self.spec = spec
        own = _shapes(make, spec)
        users = _shapes(make, replace(spec, n_users=spec.n_users + MORE))
        items = _shapes(make, replace(spec, n_items=spec.n_items + MORE))
        self.dimensions: dict[str, list[tuple[int, str]]] = {}
        for name, shape in own.items():
            grows = [
                (dimension, {(True, False): "users", (False, True): "items", (True, True): "both"}[kind])
                for dimension, size in enumerate(shape)
                if any(kind := (users[name][dimension] > size, items[name][dimension] > size))
            ]
            if grows:
                self.dimensions[name] = grows

    def rows(self, kind: str, size: int, users: Tensor, items: Tensor, former: InteractionSpec) -> Tensor:
        """Where each place of a dimension stands in the former table, int64 [size]; -1 where it has none.

        users, items  int64 [n_users] and [n_items]: where those stand in the former spec, or -1. What stands behind
                      them in a table (padding, a mask) keeps its place behind them; `both` has the items behind the
                      users, as the nodes of a graph.
        """
        parts, end = [], 0
        if kind in ("users", "both"):
            parts.append(users)
            end = former.n_users
        if kind in ("items", "both"):
            parts.append(torch.where(items >= 0, items + end, -1))
            end += former.n_items
        behind = size - sum(map(len, parts))
        return torch.cat([*parts, torch.arange(end, end + behind)])


def take_over(
    model: Model,
    former: Mapping[str, Tensor],
    tables: Tables,
    users: Tensor,
    items: Tensor,
    spec: InteractionSpec,
) -> None:
    """Give a model the weights of a former one, whose spec was `spec`; rows of who is new stay as they were drawn."""
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if name not in former:
                continue
            given = former[name].to(tensor)
            if name not in tables.dimensions:
                tensor.copy_(given)
                continue
            index = [torch.arange(size) for size in tensor.shape]
            for dimension, kind in tables.dimensions[name]:
                index[dimension] = tables.rows(kind, tensor.shape[dimension], users, items, spec)
            there = [(place >= 0).nonzero()[:, 0] for place in index]
            source = [place[known] for place, known in zip(index, there, strict=True)]
            tensor[_grid(there)] = given[_grid(source)]


def _grid(index: list[Tensor]) -> tuple[Tensor, ...]:
    """Positions of each dimension as the indices of their whole product."""
    n = len(index)
    return tuple(place.view([-1 if own == axis else 1 for own in range(n)]) for axis, place in enumerate(index))


def _shapes(make: Callable[[InteractionSpec], Model], spec: InteractionSpec) -> dict[str, tuple[int, ...]]:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                state = make(spec).state_dict()
        except (NotImplementedError, RuntimeError):  # a constructor that reads what it has just made
            state = make(spec).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
