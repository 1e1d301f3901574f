"""What customers chose, explained by what they would have answered."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.dataset import DataSet
from marquee.data.spec import GuideSpec
from marquee.data.world.customers import CustomerBatch, Customers
from marquee.models.base import Questioner


class Choices(Questioner):
    """A multinomial logit: the utility of an item is a bias plus the product of vectors of the item and the answers.

    McFadden 1974, "Conditional Logit Analysis of Qualitative Choice Behavior". Trained with answers hidden at random,
    so that it values items whatever has been asked. Utilities are those of the choice rule, up to what all items share.

    dim    width of the vectors
    asked  share of the questions whose answers a training step sees, at most: it is drawn for each customer below that
    """

    def __init__(
        self,
        spec: GuideSpec,
        *,
        view: Customers,
        dim: Annotated[int, Ge(1)] = 16,
        asked: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ):
        super().__init__()
        self.view = view
        self.asked = asked
        self.bias = nn.Parameter(torch.zeros(spec.n_items))
        self.said = nn.Linear(2 * len(spec.questions), dim, bias=False)
        self.items = nn.Linear(dim, spec.n_items, bias=False)
        self.register_buffer("yes", torch.full((len(spec.questions),), 0.5))

    def prepare(self, data: DataSet) -> None:
        self.yes.copy_(torch.from_numpy((data.answers[data.parts["train"]] > 0).mean(axis=0)))

    def loss(self, batch: CustomerBatch) -> Tensor:
        share = torch.rand(len(batch.answers), 1, device=batch.answers.device) * self.asked
        seen = torch.rand_like(batch.answers) < share
        return F.cross_entropy(self.values(batch.answers * seen), batch.choices)

    def values(self, answers: Tensor) -> Tensor:
        both = torch.cat([(answers > 0).float(), (answers < 0).float()], dim=1)
        return self.items(self.said(both)) + self.bias

    @property
    def likely(self) -> Tensor:
        return self.yes
