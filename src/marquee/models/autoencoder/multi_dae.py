"""Multi-DAE: a denoising autoencoder of user rows with a multinomial likelihood."""

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Interval, MinLen
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import RowBatch, Rows
from marquee.data.spec import InteractionSpec
from marquee.models.autoencoder.rows import Cells, multinomial_loss
from marquee.models.base import Recommender


class MultiDAE(Recommender):
    """Scores are the logits of a multinomial over items, decoded from a row of which a part was left out.

    Liang et al. 2018, "Variational autoencoders for collaborative filtering", WWW, section 2.3 (Mult-DAE).

    layers   widths of the encoder, the last that of the code; the decoder mirrors them. tanh between layers
    dropout  share of a row's items that the encoder does not see in training
    """

    scores_unseen_users = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Rows,
        layers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [200],  # noqa: B006  (never mutated)
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
    ):
        super().__init__()
        self.view = view
        self.dropout = dropout
        self.input = Cells(spec.n_items, layers[0])
        self.rest = nn.Sequential(*tanh_layers([*layers, *layers[-2::-1], spec.n_items]))

    def logits(self, histories: Histories, dropout: float = 0.0) -> Tensor:
        return self.rest(self.input(histories, dropout).tanh())

    def loss(self, batch: RowBatch) -> Tensor:
        return multinomial_loss(self.logits(batch.histories, self.dropout), batch.histories)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.logits(histories).float()


def tanh_layers(widths: list[int]) -> list[nn.Module]:
    """Linear layers between these widths, Xavier-initialised, with tanh between them and none at the ends."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        linear = nn.Linear(width, following)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return layers[:-1]
