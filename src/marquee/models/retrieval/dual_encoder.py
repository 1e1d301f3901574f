"""Two readers that meet in one space: what was said lies near its reply and far from the other replies of the batch."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.dialogue.conversations import ConversationData
from marquee.data.dialogue.views import AllPairs, PairBatch, Pairs
from marquee.data.spec import PairSpec
from marquee.data.text.ngrams import hashed
from marquee.data.text.store import PADDING
from marquee.models.base import Responder
from marquee.models.dropout import Dropout
from marquee.models.retrieval.tfidf import Tfidf


class DualEncoder(Responder):
    """Vectors of words and hashed pairs of words, summed, then layers of its own for each side; a cosine says how near.

    Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", arXiv 1705.00652, sections
    4.2 and 4.4: n-grams shared by both sides, negatives from the batch. Replies of equal words are no negatives of each
    other. The cosine is scaled by a learnt temperature, as in Radford et al. 2021, "CLIP", ICML.

    dim           width of the vectors of words and of the common space
    hidden        width of the two layers of each side
    longest       words of the longest n-gram; 1 reads single words alone
    buckets       vectors that pairs of words share by hashing
    overlap       add the cosine of TF-IDF vectors, by a learnt weight: rare words that both sides share, which a few
                  hundred dimensions cannot tell apart (Gao et al. 2021, "COIL", NAACL, joins the two likewise)
    dropout       share of zeroed values in the summed vectors and between the layers
    word_dropout  share of the words that a training step leaves out
    temperature   that learning begins with
    """

    def __init__(
        self,
        spec: PairSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 128,
        hidden: Annotated[int, Ge(1)] = 256,
        longest: Annotated[int, Interval(ge=1, le=2)] = 2,
        buckets: Annotated[int, Ge(2)] = 1 << 16,
        overlap: bool = True,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        temperature: Annotated[float, Gt(0)] = 0.07,
    ):
        super().__init__()
        self.view = view
        self.words, self.longest, self.buckets = spec.vocab_size, longest, buckets
        rows = self.words + (buckets if longest > 1 else 0)
        self.vectors = nn.EmbeddingBag(rows, dim, mode="sum", padding_idx=PADDING)
        nn.init.normal_(self.vectors.weight, std=0.1)
        with torch.no_grad():
            self.vectors.weight[PADDING] = 0
        self.dropout, self.word_dropout = Dropout(dropout), word_dropout
        self.said, self.replied = _side(dim, hidden, dropout), _side(dim, hidden, dropout)
        self.scale = nn.Parameter(torch.tensor(1 / temperature).log())
        self.shared = Tfidf(spec, view=AllPairs()) if overlap else None
        self.weight = nn.Parameter(torch.tensor(10.0).log()) if overlap else None

    def prepare(self, data: ConversationData) -> None:
        if self.shared is not None:
            (batch,) = AllPairs(max_length=self.view.max_length).train_batches(data, 0, 0)
            self.shared.fit(batch)

    def loss(self, batch: PairBatch) -> Tensor:
        """Cross-entropy of the right reply among all replies of the batch, and of what was said likewise."""
        scores = self.match(batch.contexts, batch.replies).float()
        twins = batch.same[:, None] == batch.same
        twins.fill_diagonal_(False)
        scores = scores.masked_fill(twins, -torch.inf)
        targets = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2

    def match(self, contexts: Tensor, replies: Tensor) -> Tensor:
        said, replied = self._encode(contexts, self.said), self._encode(replies, self.replied)
        scores = self.scale.clamp(max=4.6).exp() * said @ replied.T  # at most 100, as in CLIP
        if self.shared is None:
            return scores
        with torch.no_grad():
            shared = self.shared.match(contexts, replies)
        return scores + self.weight.clamp(max=4.6).exp() * shared

    def _encode(self, tokens: Tensor, side: nn.Module) -> Tensor:
        """Unit vectors [n, dim]."""
        if self.training and self.word_dropout:
            left_out = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = torch.where(left_out, PADDING, tokens)
        rows = tokens
        if self.longest > 1:
            key = self.words + hashed(tokens[:, :-1] * self.words + tokens[:, 1:]) % self.buckets
            whole = (tokens[:, 1:] != PADDING) & (tokens[:, :-1] != PADDING)
            rows = torch.cat([tokens, torch.where(whole, key, PADDING)], dim=1)
        many = (rows != PADDING).sum(dim=1, keepdim=True).clamp(min=1)
        # By the root of their number, as the paper has it: long texts would else have the longest vectors.
        summed = self.dropout(self.vectors(rows) / many.sqrt())
        return F.normalize(summed + side(summed), dim=1)


def _side(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, hidden), nn.GELU(), Dropout(dropout),
        nn.Linear(hidden, dim),
    )  # fmt: skip
