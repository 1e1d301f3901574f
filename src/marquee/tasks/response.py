"""Which of many replies answers what was said?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.dialogue.conversations import ConversationData
from marquee.data.dialogue.views import AllPairs, PairBatch
from marquee.data.spec import PairSpec
from marquee.errors import ConfigError, DataError
from marquee.inference.responder import ResponsePredictor
from marquee.metrics.retrieval import RetrievalEvaluator
from marquee.models.base import Responder
from marquee.models.retrieval.tfidf import Tfidf
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule


class Block(NamedTuple):
    """As many pairs as there are candidates: the replies of all of them are the candidates of each."""

    index: Tensor  # int64 [candidates], row numbers of pairs
    right: Tensor  # int64 [candidates], the column of each one's own reply
    same: Tensor  # bool [candidates, candidates], whose words are those of the right reply
    pairs: PairBatch


class Response(Task):
    """Response selection: the right reply among those of other pairs, drawn uniformly.

    Pairs are dealt at random into blocks of `candidates`, and each is to find its reply among those of its block: the
    1-of-100 ranking accuracy of Henderson et al. 2019, "A Repository of Conversational Datasets", NLP4ConvAI. The deal
    depends on the data alone, so all runs rank the same candidates. Replies with the words of the right one are right.

    candidates  replies in a block, the right one among them
    ks          cut-offs of recall, below `candidates`; null: 1 and 10, as far as they are
    pairs       of a part that are ranked, whole blocks of them
    """

    spec_types = (PairSpec,)
    unit = "pair"
    measured = ("candidates", "ks", "pairs")

    def __init__(
        self,
        model: Responder,
        data: ConversationData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        candidates: Annotated[int, Ge(2)] = 100,
        ks: list[Annotated[int, Ge(1)]] | None = None,
        pairs: Annotated[int, Ge(1)] = 10_000,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.candidates, self.ks, self.pairs = candidates, cutoffs(ks, candidates), pairs
        if self.ks[-1] >= candidates:
            raise ConfigError(
                f"task.ks={self.ks[-1]}: of task.candidates={candidates} replies the right one is always among so "
                f"many.\n  allowed: 1 ... {candidates - 1}"
            )
        self.suffix = f"_uniform{candidates - 1}"
        self.monitor, self.mode = f"recall@{self.ks[0]}{self.suffix}", "max"
        for part in ("validation", "test"):
            if 0 < len(data.parts[part]) < candidates:
                raise DataError(
                    f"The {part} part has {len(data.parts[part])} pairs, and task.candidates={candidates} are wanted. "
                    f"Raise split.{part}, or lower task.candidates."
                )

    def loss(self, batch: PairBatch) -> Tensor:
        return self.model.loss(batch)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[Block]:
        rows = numpy_generator(0, f"candidates/{part}").permutation(self.data.parts[part])
        blocks = min(len(rows), max(self.pairs, self.candidates)) // self.candidates
        for number in range(rank, blocks, world):
            index = rows[number * self.candidates : (number + 1) * self.candidates]
            batch = self.model.view.batch(self.data, index)
            same = batch.same[:, None] == batch.same
            yield Block(batch.index, torch.arange(len(index)), same, batch)

    def scores(self, scorer: Any, batch: Block) -> Tensor:
        """[candidates, candidates]."""
        return scorer.match(batch.pairs.contexts, batch.pairs.replies).float()

    def evaluator(self) -> RetrievalEvaluator:
        return RetrievalEvaluator(self.ks, self.suffix, self.unit)

    def baselines(self) -> dict[str, Any]:
        view = AllPairs(max_length=self.model.view.max_length)
        words = Tfidf(self.data.spec, view=view)
        words.fit(view.batch(self.data, self.data.parts["train"]))
        return {"random": Alike(), "tfidf": words}

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        candidates = settings.get("candidates", 100)
        suffix = f"_uniform{candidates - 1}"
        return [*(f"recall@{k}{suffix}" for k in cutoffs(settings.get("ks"), candidates)), f"mrr{suffix}"]

    def shown(self) -> list[str]:
        return [*(f"recall@{k}{self.suffix}" for k in self.ks[1:]), f"mrr{self.suffix}"]

    def protocol(self) -> str:
        before = f"{self.data.context} turns" if self.data.context > 1 else "the turn"
        return (
            f"the reply to {before} before it among {self.candidates}, the others from random pairs of the part; "
            f"{min(self.pairs, len(self.data.parts['test'])) // self.candidates * self.candidates:,} pairs"
        )

    def predictor(self) -> type[ResponsePredictor]:
        return ResponsePredictor

    def requests(self, predictor: ResponsePredictor, n: int) -> Sequence[Callable[[], Any]]:
        return [lambda: predictor.respond(["what did you think of it?"], ["i liked it", "no", "on monday"])] * min(n, 1)

    def suggestions(self) -> tuple[str, str]:
        rivals = "model=retrieval/tfidf,retrieval/bm25,retrieval/dual_encoder"
        return f"reply {{run}} {ResponsePredictor.example}", rivals


def cutoffs(ks: Sequence[int] | None, candidates: int) -> tuple[int, ...]:
    return tuple(sorted(set(ks or (k for k in (1, 10) if k < candidates))))


class Alike:
    """Scores all replies alike, so that each stands anywhere with the same probability."""

    def match(self, contexts: Tensor, replies: Tensor) -> Tensor:
        return torch.zeros(len(contexts), len(replies))
