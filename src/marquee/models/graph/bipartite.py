"""What the graph recommenders share: who met what as a graph, and vectors that are the same without it."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.sparse import Rows, product


class GraphRecommender(Recommender):
    """score(u, i) = <z_u, z_i> with vectors z that were passed along the edges between users and items.

    Users are the nodes 0 ... n_users - 1 of the graph, items those behind them. What was passed is kept in `vectors`
    whenever the model is about to score or to be saved, so that a finished run needs no graph.
    """

    def __init__(self, spec: InteractionSpec, *, view: Pairs, dim: int, init_std: float):
        super().__init__()
        self.view = view
        self.n_users = spec.n_users
        self.ego = nn.Parameter(torch.empty(spec.n_users + spec.n_items, dim))
        nn.init.normal_(self.ego, std=init_std)
        self.register_buffer("vectors", self.ego.detach().clone())
        self._connected = False
        self.register_state_dict_pre_hook(lambda *_: self._refresh())

    def prepare(self, data: InteractionData) -> None:
        """Form A^ = D^-1/2 A D^-1/2, where A links the users and the items of training, both ways."""
        train = data.parts["train"]
        users = torch.from_numpy(train.users.astype("int64"))
        items = torch.from_numpy(train.items.astype("int64"))
        edges = torch.stack([users, items + self.n_users], 1).unique(dim=0)  # one that is repeated counts once
        rows, columns = torch.cat([edges, edges.flip(1)]).T.contiguous()
        degree = torch.bincount(rows, minlength=len(self.ego)).float()
        graph = Rows.of(rows, columns, (degree[rows] * degree[columns]).rsqrt(), len(self.ego))
        for name, part in graph._asdict().items():
            self.register_buffer(f"graph_{name}", part.to(self.ego.device), persistent=False)
        self._connected = True

    @abstractmethod
    def propagate(self) -> Tensor:
        """The vectors [n_users + n_items, dim] that scores are made of."""

    def pass_on(self, vectors: Tensor) -> Tensor:
        """One layer: A^ @ vectors. A^ is symmetric, so its gradient is the same product."""
        graph = Rows(self.graph_columns, self.graph_offsets, self.graph_weights)
        return product(graph, vectors, graph)

    def nodes(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The nodes of the batch's users [n], items [n] and negatives [n * k]."""
        return batch.users, batch.items + self.n_users, batch.negatives.reshape(-1) + self.n_users

    def train(self, mode: bool = True) -> "GraphRecommender":
        if not mode:
            self._refresh()
        return super().train(mode)

    @torch.no_grad()
    def _refresh(self) -> None:
        if self._connected:
            self.vectors.copy_(self.propagate())

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        vectors = self.propagate() if self.training and self._connected else self.vectors
        return vectors[users] @ vectors[self.n_users :].T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.vectors[users]

    def item_vectors(self) -> Tensor:
        return self.vectors[self.n_users :]


def pair_loss(user: Tensor, item: Tensor, negative: Tensor) -> Tensor:
    """BPR: the mean of -log sigmoid(<u, i> - <u, j>) over n pairs with k negatives each, given as [n * k, dim]."""
    k = len(negative) // max(len(user), 1)
    margin = (user * item).sum(1, keepdim=True) - (user[:, None] * negative.view(len(user), k, -1)).sum(-1)
    return -nn.functional.logsigmoid(margin).mean()


def penalty(vectors: Tensor, nodes: tuple[Tensor, ...], n: int) -> Tensor:
    """1/2n times the squared length of the vectors that a batch of n pairs uses, one as often as it is used."""
    # Rows times counts: no copy of the rows, and no scattered gradient.
    uses = torch.bincount(torch.cat(nodes), minlength=len(vectors)).to(vectors.dtype)
    return (vectors.square().sum(1) @ uses) / (2 * n)
