"""XSimGCL: LightGCN with noise in each layer, and layers of one pass that have to agree despite it."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.graph.bipartite import GraphRecommender, pair_loss, penalty


class XSimGCL(GraphRecommender):
    """BPR on the mean of the layers 1 ... `layers`, and InfoNCE between that mean and one of these layers.

    Yu et al. 2023, "XSimGCL: towards extremely simple graph contrastive learning for recommendation", IEEE TKDE.
    While it trains, each layer adds noise of length `noise` to every vector, with the vector's signs. Both sides of
    the contrast come from the same pass, so that a step needs one propagation where SimGCL needs three.

    contrast        weight of the contrastive loss (the paper's lambda)
    contrast_layer  the layer l* that is contrasted with the mean, 1 ... layers
    noise           the length epsilon of the noise
    temperature     of the InfoNCE loss (tau)
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        l2: Annotated[float, Ge(0)] = 1e-4,
        contrast: Annotated[float, Ge(0)] = 0.01,
        contrast_layer: Annotated[int, Ge(1)] = 1,
        noise: Annotated[float, Ge(0)] = 0.1,
        temperature: Annotated[float, Interval(gt=0, le=1)] = 0.2,
        init_std: Annotated[float, Gt(0)] = 1.0,
    ):
        super().__init__(spec, view=view, dim=dim, init_std=init_std)
        if contrast_layer > layers:
            raise ValueError(f"contrast_layer={contrast_layer} is beyond layers={layers}; allowed: 1 ... {layers}")
        self.layers = layers
        self.l2 = l2
        self.contrast = contrast
        self.contrast_layer = contrast_layer
        self.noise = noise
        self.temperature = temperature

    def propagate(self) -> Tensor:
        return self._layers(noise=0.0)[0]

    def _layers(self, noise: float) -> tuple[Tensor, Tensor]:
        """The mean of the layers and the contrasted one, both [n_users + n_items, dim]."""
        vectors, total, contrasted = self.ego, 0.0, self.ego
        for layer in range(1, self.layers + 1):
            vectors = self.pass_on(vectors)
            if noise:
                vectors = vectors + noise * vectors.detach().sign() * F.normalize(torch.rand_like(vectors), dim=1)
            total = total + vectors
            if layer == self.contrast_layer:
                contrasted = vectors
        return total / self.layers, contrasted

    def loss(self, batch: PairBatch) -> Tensor:
        with torch.autocast(self.ego.device.type, enabled=False):
            nodes = self.nodes(batch)
            mean, contrasted = self._layers(self.noise)
            loss = pair_loss(*(mean.index_select(0, part) for part in nodes))
            if self.contrast:
                for part in (batch.users.unique(), nodes[1].unique()):
                    loss = loss + self.contrast * info_nce(
                        mean.index_select(0, part), contrasted.index_select(0, part), self.temperature
                    )
            return loss + self.l2 * penalty(self.ego, nodes, len(batch.users)) if self.l2 else loss


def info_nce(one: Tensor, two: Tensor, temperature: float) -> Tensor:
    """Row i of `one` [n, dim] is to be nearer to row i of `two` than to its other rows, by the cosine (scalar).

    The mean of -log softmax(cos(one_i, two) / temperature)_i.
    """
    logits = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(one), device=one.device))
