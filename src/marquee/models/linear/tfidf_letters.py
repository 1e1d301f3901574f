"""Logistic regression on TF-IDF of words and of the letters in them: short texts with words that training never saw."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.spec import TextSpec
from marquee.data.text.letters import Letters
from marquee.models.linear.tfidf_logistic import TfidfLogistic


class TfidfLetters(TfidfLogistic):
    """TfidfLogistic with runs of letters in words beside runs of words.

    Letters within words for classification: Cavnar & Trenkle 1994, "N-Gram-Based Text Categorization", SDAIR. Its
    options are those of TfidfLogistic. What it has learnt of a run cannot be read back, as runs are hashed.
    """

    adds_up = False

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: Letters,
        c: Annotated[float, Gt(0)] = 10.0,
        sublinear: bool = True,
        class_weights: Literal["none", "balanced"] = "none",
        max_iterations: Annotated[int, Ge(1)] = 200,
    ):
        super().__init__(
            spec, view=view, c=c, sublinear=sublinear, class_weights=class_weights, max_iterations=max_iterations
        )

    def term_weights(self) -> tuple[Tensor, Tensor]:
        """None: a hash does not know what was written."""
        return self.keys[:0], self.weights[:0]
