"""DeepFM: a factorization machine and a perceptron over the same vectors."""

from typing import Annotated

from annotated_types import Ge, Gt, Interval, MinLen
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs, RatingBatch, Ratings
from marquee.data.spec import InteractionSpec
from marquee.models.neural.factorization_machine import FactorizationMachine
from marquee.models.neural.objective import Objective
from marquee.models.neural.perceptron import PairPerceptron, squares


class DeepFM(FactorizationMachine):
    """y(u, i) = FM(u, i) + MLP(all fields' vectors), trained together.

    Guo et al. 2017, "DeepFM: a factorization-machine based neural network for CTR prediction", IJCAI, section 2.1.

    layers     widths of the perceptron
    dropout    between them
    l2_layers  weighs half the squares of its matrices, which else learn pairs by heart
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs | Ratings,
        dim: Annotated[int, Ge(1)] = 32,
        layers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [64, 32],  # noqa: B006  (never mutated)
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        l2: Annotated[float, Ge(0)] = 0.01,
        l2_layers: Annotated[float, Ge(0)] = 0.01,
        objective: Objective = "bpr",
        ids: bool = True,
        init_std: Annotated[float, Gt(0)] = 0.05,
    ):
        super().__init__(spec, view=view, dim=dim, l2=l2, objective=objective, ids=ids, init_std=init_std)
        self.l2_layers = l2_layers
        self.perceptron = PairPerceptron(self.user.fields * dim, self.item.fields * dim, layers, dropout)

    def _joined(self, fields: Tensor) -> Tensor:
        return fields[..., : self.dim].flatten(1)

    def _pairs(self, user: Tensor, item: Tensor) -> Tensor:
        n = len(user)
        deep = self.perceptron(self._joined(user)[:, None], self._joined(item).view(n, len(item) // n, -1))
        return super()._pairs(user, item) + deep.float().squeeze(1)

    def loss(self, batch: PairBatch | RatingBatch) -> Tensor:
        loss = super().loss(batch)
        return loss + self.l2_layers / 2 * squares(self.perceptron) if self.l2_layers else loss

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        deep = self.perceptron.all_pairs(self._joined(self.user(users)), self._joined(self.item()))
        return super().score(users, histories) + deep

    def user_vectors(self, users: Tensor | None, histories: Histories) -> None:
        """What the perceptron says of a pair is no product."""

    def item_vectors(self) -> None:
        """None, as for users."""
