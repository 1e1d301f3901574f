"""What retrieval by words shares: how often each word stands in each row, and in how many replies of training."""

import torch
from torch import Tensor

from marquee.data.dialogue.views import AllPairs, PairBatch
from marquee.data.spec import PairSpec
from marquee.data.text.store import UNKNOWN
from marquee.models.base import Responder


class ByWords(Responder):
    """Counts words in the replies of training, and compares by the words that two texts share. Learns in one `fit`.

    held     float32 [vocabulary], in how many replies a word stands
    replies  how many there were
    words    how many words they had together
    """

    max_epochs = 1

    def __init__(self, spec: PairSpec, view: AllPairs):
        super().__init__()
        self.view = view
        self.register_buffer("held", torch.zeros(spec.vocab_size))
        self.register_buffer("replies", torch.zeros((), dtype=torch.int64))
        self.register_buffer("words", torch.zeros((), dtype=torch.int64))

    def fit(self, batch: PairBatch) -> None:
        size = len(self.held)
        row = torch.arange(len(batch.replies))[:, None].expand_as(batch.replies)
        real = batch.replies > UNKNOWN
        pairs = torch.unique(row[real] * size + batch.replies[real])
        self.held.copy_(torch.bincount(pairs % size, minlength=size))
        self.replies.fill_(len(batch.replies))
        self.words.fill_(int(real.sum()))

    def counts(self, tokens: Tensor) -> Tensor:
        """How often each row of `tokens` has each known word: float32 [n, vocabulary]."""
        counts = torch.zeros(len(tokens), len(self.held), device=tokens.device)
        counts.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=torch.float32))
        counts[:, : UNKNOWN + 1] = 0
        return counts
