"""BM25: rare words that a reply shares with what was said, the more often and the shorter the reply the better."""

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dialogue.views import AllPairs
from marquee.data.spec import PairSpec
from marquee.models.retrieval.words import ByWords


class Bm25(ByWords):
    """The sum over shared words of idf * k (k1 + 1) / (k + k1 (1 - b + b * length / mean length)).

    Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", equation 3.15; idf = log(1 + (N
    - d + 0.5) / (d + 0.5)), which is never negative, as Lucene has it. A word that was said twice counts twice.

    k1  how fast repetitions of a word in a reply count for less; 0: whether it is there
    b   how much long replies are held back; 0: not at all
    """

    def __init__(
        self,
        spec: PairSpec,
        *,
        view: AllPairs,
        k1: Annotated[float, Ge(0)] = 1.2,
        b: Annotated[float, Interval(ge=0, le=1)] = 0.75,
    ):
        super().__init__(spec, view)
        self.k1, self.b = k1, b

    def match(self, contexts: Tensor, replies: Tensor) -> Tensor:
        said, counts = self.counts(contexts), self.counts(replies)
        idf = (1 + (self.replies - self.held + 0.5) / (self.held + 0.5)).log()
        mean = self.words / self.replies.clamp(min=1)
        length = counts.sum(dim=1, keepdim=True) / mean.clamp(min=1e-9)
        return (said * idf) @ (counts * (self.k1 + 1) / (counts + self.k1 * (1 - self.b + self.b * length) + 1e-9)).T
