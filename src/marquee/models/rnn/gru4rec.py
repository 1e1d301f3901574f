"""GRU4Rec: a GRU reads the history and predicts the next item at every step."""

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.interactions.views import Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender
from marquee.models.rnn.autocast import read


class GRU4Rec(NextItemRecommender):
    """Embedding, dropout, GRU, projection back to the items' space; scores are products with the item embeddings.

    Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks"; the full cross-entropy is that
    of Hidasi & Karatzoglou 2018, "Recurrent neural networks with top-k gains", section 3.1. Item vectors of input and
    output are shared (their "constrained embedding") or, with `tied=false`, not. One row is one user's whole history,
    so their session-parallel mini-batches are not needed.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Sequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        tied: bool = True,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        std = (2 / (spec.n_items + 1 + dim)) ** 0.5  # Glorot & Bengio 2010
        self.make_tables(spec, dim, std, features=features, tied=tied)
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.out = nn.Linear(hidden, dim)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.out(read(self.gru, self.dropout(self.embed(items))))
