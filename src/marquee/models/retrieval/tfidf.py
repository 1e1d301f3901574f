"""The cosine of TF-IDF vectors: what was said and the reply share rare words."""

from torch import Tensor
from torch.nn import functional as F

from marquee.data.dialogue.views import AllPairs
from marquee.data.spec import PairSpec
from marquee.models.retrieval.words import ByWords


class Tfidf(ByWords):
    """Words weigh (1 + log k) * (1 + log((1 + N) / (1 + d))), where d of the N replies of training have them.

    Salton & Buckley 1988, "Term-Weighting Approaches in Automatic Text Retrieval"; a baseline of response selection
    since Lowe et al. 2015, "The Ubuntu Dialogue Corpus", SIGDIAL.

    sublinear  1 + log k where a text has a word k times; false: k
    """

    def __init__(self, spec: PairSpec, *, view: AllPairs, sublinear: bool = True):
        super().__init__(spec, view)
        self.sublinear = sublinear

    def match(self, contexts: Tensor, replies: Tensor) -> Tensor:
        return self._vectors(contexts) @ self._vectors(replies).T

    def _vectors(self, tokens: Tensor) -> Tensor:
        counts = self.counts(tokens)
        often = 1 + counts.clamp(min=1).log() if self.sublinear else counts
        rarity = 1 + ((1 + self.replies) / (1 + self.held)).log()
        return F.normalize((counts > 0) * often * rarity, dim=1)
