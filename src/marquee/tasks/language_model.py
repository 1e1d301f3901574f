"""What comes next in a text, or in a tune?"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
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
from marquee.files import write_text
from marquee.inference.sampling import AT_ONCE
from marquee.inference.writer import Writer
from marquee.metrics import written
from marquee.metrics.likelihood import METRICS, UNKNOWN_NATS, LikelihoodEvaluator
from marquee.models.baseline.ngram import NGram
from marquee.models.language import LanguageModel
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule
from marquee.tasks.writing import TestText, Writing

LINE = 40  # tokens of a request whose time is measured


class LanguageModeling(Task):
    """Cross-entropy of each next token; evaluation scores every token of a part once, with context kept before it.

    Characters that training has not cost a fixed log2(1,114,112) bits, whatever the model says of them.

    stride                 by how much of the model's window (`view.length`) evaluation moves on: 0.5 leaves each token
                           at least half a window before it
    evaluation_batch_size  windows a step of validation and test
    ngram                  order of the n-gram model that every run is printed beside
    sample                 characters that are written in the test and measured (variety, copies, form), beside as many
                           of the n-gram models and of the test part itself; 0: none
    """

    spec_types = (TokenSpec,)
    measured = ("stride",)
    measures_more = ("ngram", "sample")
    monitor, mode = "bits_per_character", "min"
    directions = {
        "bits_per_character": "min", "nats": "min", "perplexity": "min", "known_speakers": "max",
        "closed_directions": "max", "timed_lines": "max", "increasing_times": "max", "equal_lines": "max",
        "regular_poems": "max", "headed_tunes": "max", "parsed_tunes": "max", "full_bars": "max",
        "lawful_lines": "max", "new_lawful_lines": "max",
    }  # fmt: skip

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
        sample: Annotated[int, Ge(0)] = 2000,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.stride, self.evaluation_batch_size, self.ngram = stride, evaluation_batch_size, ngram
        self.unit = data.unit
        self.writing = Writing(data, sample) if sample else None
        self.sample: list[list[str]] = []

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

    def _end_evaluation(self, part: Part) -> None:
        super()._end_evaluation(part)
        if part == "test" and self.writing is not None:
            self.sample = self.writing.of_model(self.model)
            self.results[part][0].update(self.writing.measure(self.sample))

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        """As any task's; what a scorer can write is measured, too, and of the test part only what is written."""
        if isinstance(scorer, TestText):
            return self.writing.measure(self.writing.of_test()), None
        metrics, units = super().evaluate(scorer, part)
        if part == "test" and self.writing is not None and isinstance(scorer, LanguageModel):
            metrics |= self.writing.measure(self.writing.of_model(scorer))
        return metrics, units

    def baselines(self) -> dict[str, Any]:
        view = WholeCorpus()
        (batch,) = view.train_batches(self.data, self.seed, 0)
        found: dict[str, Any] = {}
        for name, order in (("unigram", 1), (f"{self.ngram}-gram", self.ngram)):
            found[name] = NGram(self.data.spec, view=view, order=order)
            found[name].fit(batch)
        return found | ({"the test text": TestText()} if self.writing is not None else {})

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return [*METRICS, *written.METRICS] if settings.get("sample", 2000) else list(METRICS)

    def shown(self) -> list[str]:
        return ["bits_per_character", "nats", *self.data.checks[-1:], "unknown_words", "longest_copy"]

    def protocol(self) -> str:
        unknown = self.data.unknown.get("test", 0)
        charged = f", {unknown} unknown ones at {UNKNOWN_NATS / math.log(2):.1f} bits each" if unknown else ""
        share = "half" if self.stride == 0.5 else f"{1 - self.stride:.0%}"
        sampled = f"; {self.writing.length} x 4 characters written at temperature 1" if self.writing else ""
        return f"every token once, at least {share} of the model's window before it{charged}{sampled}"

    def write_tables(self, folder: Path) -> None:
        """`sample.txt`: what was written and measured in the test."""
        if self.sample:
            write_text(
                folder / "sample.txt", self.data.form.written(["\n\n".join(part) for part in self.sample], "text")
            )

    def predictor(self) -> type[Writer]:
        return Writer

    def requests(self, predictor: Writer, n: int) -> Sequence[Callable[[], Any]]:
        """As of one who asks for a line; the units of the test have no part in it."""
        return [lambda seed=seed: predictor.generate(1, seed, tokens=LINE) for seed in range(n)]

    def many(self, predictor: Writer, n: int) -> tuple[Callable[[], Any], int]:
        return lambda: predictor.generate(AT_ONCE, 1, tokens=LINE), AT_ONCE

    def suggestions(self) -> tuple[str, str]:
        return "generate {run} --tokens 400 --temperature 0.8", "model=baseline/ngram,rnn/lstm_lm,transformer/gpt"
