"""LightGCN: matrix factorisation whose vectors are averaged over the neighbours in the graph, layer by layer."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.graph.bipartite import GraphRecommender, pair_loss, penalty


class LightGCN(GraphRecommender):
    """E^(k+1) = A^ E^(k), z = mean of E^(0) ... E^(layers), score(u, i) = <z_u, z_i>, trained with BPR.

    He et al. 2020, "LightGCN: simplifying and powering graph convolution network for recommendation", SIGIR,
    section 3.1: A^ = D^-1/2 A D^-1/2 and equal weights 1 / (layers + 1). Only E^(0) is learnt; `l2` weighs half the
    squared length of those of its vectors that a pair uses.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 3,
        l2: Annotated[float, Ge(0)] = 1e-4,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(spec, view=view, dim=dim, init_std=init_std)
        self.layers = layers
        self.l2 = l2

    def propagate(self) -> Tensor:
        vectors = total = self.ego
        for _ in range(self.layers):
            vectors = self.pass_on(vectors)
            total = total + vectors
        return total / (self.layers + 1)

    def loss(self, batch: PairBatch) -> Tensor:
        with torch.autocast(self.ego.device.type, enabled=False):
            nodes = self.nodes(batch)
            vectors = self.propagate()
            loss = pair_loss(*(vectors.index_select(0, part) for part in nodes))
            return loss + self.l2 * penalty(self.ego, nodes, len(batch.users)) if self.l2 else loss
