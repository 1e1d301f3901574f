"""What comes next in a text, or in a tune?"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.dataset import Part
from marquee.data.spec import TokenSpec
from marquee.data.tokens.coding import UNKNOWN
from marquee.data.tokens.dataset import TokenData
from marquee.data.tokens.views import ScoredWindows, WholeCorpus, Windows, scored_windows
from marquee.errors import ConfigError
from marquee.metrics.likelihood import METRICS, LikelihoodEvaluator
from marquee.models.baseline.ngram import NGram
from marquee.models.language import LanguageModel
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule


class LanguageModeling(Task):
    """Cross-entropy of each next token; evaluation scores every token of a part once, with context kept before it.

    stride                 by how much of the model's window (`view.length`) evaluation moves on: 0.5 leaves each token
                           at least half a window before it
    evaluation_batch_size  windows a step of validation and test
    ngram                  order of the n-gram model that every run is printed beside
    """

    spec_types = (TokenSpec,)
    measured = ("stride",)
    monitor, mode = "bits_per_character", "min"
    directions = {"bits_per_character": "min", "nats": "min", "perplexity": "min"}

    def __init__(
        self,
        model: LanguageModel,
        data: TokenData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        stride: Annotated[float, Interval(gt=0, le=1)] = 0.5,
        evaluation_batch_size: Annotated[int, Ge(1)] = 64,
        ngram: Annotated[int, Interval(ge=2, le=6)] = 5,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.stride, self.evaluation_batch_size, self.ngram = stride, evaluation_batch_size, ngram
        self.unit = data.unit

    def loss(self, batch: Windows) -> Tensor:
        return F.cross_entropy(self.model(batch.inputs).flatten(0, 1).float(), batch.targets.flatten())

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[ScoredWindows]:
        length = self.model.view.length
        stride = max(round(length * self.stride), 1)
        yield from scored_windows(self.data, part, length, stride, self.evaluation_batch_size, rank, world)

    def scores(self, scorer: Any, batch: ScoredWindows) -> Tensor:
        """Log-likelihoods [batch, length] of the targets."""
        return scorer.log_likelihood(batch)

    def evaluator(self) -> LikelihoodEvaluator:
        stream = self.data.streams[self.evaluated]
        return LikelihoodEvaluator(stream.units, stream.characters, stream.tokens == UNKNOWN, self.unit)

    def baselines(self) -> dict[str, Any]:
        view = WholeCorpus()
        (batch,) = view.train_batches(self.data, self.seed, 0)
        found = {}
        for name, order in (("unigram", 1), (f"{self.ngram}-gram", self.ngram)):
            found[name] = NGram(self.data.spec, view=view, order=order)
            found[name].fit(batch)
        return found

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return list(METRICS)

    def shown(self) -> list[str]:
        return list(METRICS)
