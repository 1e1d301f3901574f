"""EDLAE: EASE as a denoising autoencoder, whose penalty grows with what dropout does to an item."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from torch import Tensor

from marquee.data.interactions.views import Matrix
from marquee.data.spec import InteractionSpec
from marquee.models.linear.ease import EASE


class EDLAE(EASE):
    """B = I - C / diag(C) with C = (X^T X + p / (1 - p) diag(X^T X) + lambda I)^-1, scores = history @ B.

    Steck 2020, "Autoencoders that don't overfit towards the identity", NeurIPS: the linear autoencoder that, of a row
    with dropout, has to reconstruct only what was dropped ("emphasized"), in closed form. The expected effect of
    dropout is an L2 penalty in proportion to the number of an item's users. Without dropout it is EASE.

    dropout  p, the share of a row that is left out
    l2       lambda, what all items are penalised by beside it
    keep     as of EASE
    """

    named = "linear/edlae"

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
        l2: Annotated[float, Gt(0)] = 200.0,
        keep: Literal["dense"] | Annotated[int, Ge(1)] = "dense",
    ):
        super().__init__(spec, view=view, l2=l2, keep=keep)
        self.dropout = dropout

    def regularise(self, counts: Tensor) -> None:
        counts.div_(1 - self.dropout).add_(self.l2)  # 1 + p / (1 - p) = 1 / (1 - p)
