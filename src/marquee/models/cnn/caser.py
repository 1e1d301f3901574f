"""Caser: convolutions over the last few items, read as an image of positions by dimensions."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.interactions.views import Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.dropout import Dropout
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender


class Caser(NextItemRecommender):
    """Tang & Wang 2018, "Personalized top-N sequential recommendation via convolutional sequence embedding", WSDM.

    The `window` newest items are an image [window, dim]. Horizontal filters of every height up to `window` find
    sequences of items (the largest response of each filter counts), vertical ones weigh the positions in each
    dimension. A fully connected layer makes the state of both; output vectors and a bias are of its own.

    Every position of a row is trained on, with the window that ends there. Windows overlap, so filters run over the
    row once and the maxima over windows are taken of their responses: no window is ever copied. The paper's vector
    for each user is left out, so that users whom training never saw are served.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Sequences,
        loss: NextItemLoss,
        dim: Annotated[int, Ge(1)] = 64,
        window: Annotated[int, Ge(1)] = 5,
        horizontal: Annotated[int, Ge(1)] = 16,
        vertical: Annotated[int, Ge(1)] = 4,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
        tied: bool = False,
        features: bool = False,
    ):
        super().__init__(spec.n_items, view, loss)
        self.window = window
        self.make_tables(spec, dim, dim**-0.5, features=features, tied=tied, bias=True)
        self.horizontal = nn.ModuleList(nn.Conv1d(dim, horizontal, height) for height in range(1, window + 1))
        self.vertical = nn.Conv1d(1, vertical, window)
        self.dropout = Dropout(dropout)
        self.state = nn.Linear(window * horizontal + vertical * dim, dim)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        batch, length = items.shape
        x = F.pad(self.embed(items).transpose(1, 2), (self.window - 1, 0))  # [batch, dim, window - 1 + length]
        found = []
        for height, filters in enumerate(self.horizontal, start=1):
            responses = filters(x).relu()
            found.append(F.max_pool1d(responses, self.window - height + 1, stride=1))
        dim = x.shape[1]
        weighed = self.vertical(x.reshape(batch * dim, 1, x.shape[2]))  # the same filters in every dimension
        found.append(weighed.view(batch, dim * self.vertical.out_channels, length))
        return self.state(self.dropout(torch.cat(found, 1).transpose(1, 2))).relu()
