"""FREEDOM: vectors passed along a frozen graph of alike items, beside a thinned graph of who met what."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.features import NOTHING_TO_READ, FeatureVectors
from marquee.models.graph.bipartite import GraphRecommender, pair_loss, penalty
from marquee.models.sparse import Rows, product

PANEL = 4_000_000  # similarities that are held at a time: 16 MB


class FREEDOM(GraphRecommender):
    """LightGCN on a pruned graph, plus items' vectors passed along a graph of their nearest neighbours by features.

    Zhou & Shen 2023, "A tale of two graphs: freezing and denoising graph structures for multimodal recommendation",
    ACM Multimedia, section 3. The item graph has an edge to the `neighbours` most alike (cosine) in each column of
    `data.item_features`, and counts a column equally often where the paper weighs two; it is never learnt. In each
    epoch `pruned` of the edges between users and items are left out, those of frequent nodes more often. Items without
    features in a column have no neighbours there. An item that training never met has no vector of its own to pass.

    layers, item_layers  steps along the two graphs
    content              weight of the loss by which mapped features alone order the pairs (the paper's lambda)
    l2                   weighs half the squared length of the learnt vectors that a pair uses
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(0)] = 2,
        item_layers: Annotated[int, Ge(1)] = 1,
        neighbours: Annotated[int, Ge(1)] = 10,
        pruned: Annotated[float, Interval(ge=0, lt=1)] = 0.8,
        content: Annotated[float, Ge(0)] = 1e-3,
        l2: Annotated[float, Ge(0)] = 1e-4,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(spec, view=view, dim=dim, init_std=init_std)
        if not spec.item_features:
            raise ValueError(NOTHING_TO_READ.format("graph/freedom", "graph/lightgcn"))
        self.layers, self.item_layers, self.neighbours = layers, item_layers, neighbours
        self.pruned, self.content, self.l2 = pruned, content, l2
        self.features = FeatureVectors(spec.item_features, spec.n_items, dim, init_std)
        self.register_buffer("met", torch.ones(len(self.ego), 1), persistent=False)
        self._sparse: Rows | None = None
        self.register_state_dict_pre_hook(lambda *_: self._redraw())

    def prepare(self, data: InteractionData) -> None:
        super().prepare(data)
        self.features.fill(data.encoded("item"))
        met = np.bincount(data.parts["train"].items, minlength=data.spec.n_items) > 0
        self.met[self.n_users :, 0] = torch.from_numpy(met)
        rows, columns, weights = [], [], []
        for numbers in self.features.columns_as_numbers():
            near, similar = nearest(numbers, numbers, self.neighbours)
            here = torch.arange(len(numbers))[:, None].expand_as(near)[similar]
            degree = similar.sum(1).clamp(min=1).float()
            rows.append(here)
            columns.append(near[similar])
            weights.append((degree[here] * degree[near[similar]]).rsqrt() / len(self.features))
        place = torch.cat(rows), torch.cat(columns), torch.cat(weights)
        for name, graph in (
            ("alike", Rows.of(*place, data.spec.n_items)),
            ("alike_turned", Rows.of(place[1], place[0], place[2], data.spec.n_items)),
        ):
            for part, tensor in graph._asdict().items():
                self.register_buffer(f"{name}_{part}", tensor.to(self.ego.device), persistent=False)

    def train(self, mode: bool = True) -> "FREEDOM":
        if not mode:
            self._redraw()
        return super().train(mode)

    @torch.no_grad()
    def _refresh(self) -> None:
        """An item that training never met speaks by those that are alike: its vector is their mean."""
        super()._refresh()
        if self._connected:
            alike, met = self._graph("alike"), self.met[self.n_users :]
            items, new = self.vectors[self.n_users :], met[:, 0] == 0
            items[new] = (alike.times(items * met) / alike.times(met).clamp(min=1e-12))[new]

    def _graph(self, name: str) -> Rows:
        return Rows(*(getattr(self, f"{name}_{part}") for part in Rows._fields))

    def _redraw(self) -> None:
        """The next step draws which edges stay: once an epoch, by the generator that is seeded anew with each."""
        self._sparse = None

    def _stay(self) -> Rows:
        """The graph with `1 - pruned` of its edges, drawn without replacement by (d_u d_i)^-1/2 and normalised anew."""
        graph = self._graph("graph")
        rows = torch.repeat_interleave(graph.offsets.diff())
        first = rows < self.n_users  # each edge stands twice
        users, items, chance = rows[first], graph.columns[first], graph.weights[first]
        kept = drawn(chance / chance.max(), max(1, round((1 - self.pruned) * len(chance))))
        users, items = users[kept], items[kept]
        ends = torch.cat([users, items]), torch.cat([items, users])
        degree = torch.bincount(ends[0], minlength=len(self.ego)).float()
        return Rows.of(*ends, (degree[ends[0]] * degree[ends[1]]).rsqrt(), len(self.ego))

    def propagate(self, graph: Rows | None = None) -> Tensor:
        graph = graph or self._graph("graph")
        own = vectors = total = self.ego * self.met
        for _ in range(self.layers):
            vectors = product(graph, vectors, graph)
            total = total + vectors
        alike, turned = self._graph("alike"), self._graph("alike_turned")
        items = own[self.n_users :]
        for _ in range(self.item_layers):
            items = product(alike, items, turned)
        return total / (self.layers + 1) + F.pad(items, (0, 0, self.n_users, 0))

    def loss(self, batch: PairBatch) -> Tensor:
        with torch.autocast(self.ego.device.type, enabled=False):
            nodes = self.nodes(batch)
            if self.pruned:
                self._sparse = self._sparse or self._stay()
            vectors = self.propagate(self._sparse)
            user, item, negative = (vectors.index_select(0, part) for part in nodes)
            loss = pair_loss(user, item, negative)
            if self.content:
                for good, bad in zip(
                    self.features(batch.items).unbind(1), self.features(batch.negatives.view(-1)).unbind(1), strict=True
                ):
                    loss = loss + self.content * pair_loss(user, good, bad)
            return loss + self.l2 * penalty(self.ego, nodes, len(batch.users)) if self.l2 else loss

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor:
        """The mean of the items that are most alike in each column."""
        items, found = self.item_vectors(), []
        for new, known in zip(
            self.features.columns_as_numbers(encoded), self.features.columns_as_numbers(), strict=True
        ):
            near, similar = nearest(new, known, self.neighbours)
            weights = similar.float() / similar.sum(1, keepdim=True).clamp(min=1)
            found.append((items[near] * weights[:, :, None]).sum(1))
        return torch.stack(found).mean(0)


def drawn(chance: Tensor, n: int) -> Tensor:
    """`n` places without replacement, in proportion to `chance`: as torch.multinomial, which takes 2^24 at most."""
    return (chance / torch.empty_like(chance).exponential_()).topk(n).indices


def nearest(rows: Tensor, among: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` rows of `among` that are most alike by cosine, int64 [n, k], and whether they are alike at all.

    Compared with itself a table leaves each row out of its own neighbours. A row of zeros is like no other.
    """
    itself = rows is among
    rows, among = F.normalize(rows, dim=1), F.normalize(among, dim=1)
    k = min(k, len(among) - itself)
    near, alike = [], []
    size = max(1, PANEL // max(len(among), 1))
    for start in range(0, len(rows), size):
        cosine = rows[start : start + size] @ among.T
        if itself:
            cosine.diagonal(start).fill_(-1)
        values, places = cosine.topk(k, dim=1)
        near.append(places)
        alike.append(values > 0)
    return torch.cat(near), torch.cat(alike)
