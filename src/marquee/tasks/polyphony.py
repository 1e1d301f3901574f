"""Which keys sound next?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.dataset import Part
from marquee.data.rolls.dataset import RollData
from marquee.data.rolls.views import RollBatch
from marquee.data.spec import RollSpec
from marquee.inference.composer import Composer, compose
from marquee.metrics.polyphony import VALIDITY, FrameEvaluator, validity
from marquee.models.rolls import FrameModel
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule

PIECES = 8  # that are written and checked in the test


class Polyphony(Task):
    """The likelihood of each frame given those before it, each key for itself, in nats a frame.

    Frames 2 ... T of every piece are predicted, whole pieces at a time, and all frames of the part count alike
    (Boulanger-Lewandowski et al. 2012; Bai et al. 2018).

    evaluation_batch_size  pieces a step of validation and test
    sample                 frames of each of eight pieces that are written in the test and checked, beside the test part
                           itself; 0: none
    """

    spec_types = (RollSpec,)
    unit = "piece"
    measures_more = ("sample",)
    monitor, mode = "nats", "min"
    # What a piece should be like stands in the row of the test part; these alone are better when they are fewer.
    directions = {"nats": "min", "out_of_range": "min"}
    words = "each key for itself"

    def __init__(
        self,
        model: FrameModel,
        data: RollData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        evaluation_batch_size: Annotated[int, Ge(1)] = 8,
        sample: Annotated[int, Interval(ge=0, le=1024)] = 64,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.evaluation_batch_size, self.sample = evaluation_batch_size, sample
        played = np.concatenate([data.piece(number) for number in data.parts["train"]]).any(axis=0)
        used = np.flatnonzero(played) if played.any() else np.arange(data.spec.keys)
        self.range = (int(used[0]), int(used[-1]))
        self.written: list[np.ndarray] = []

    def loss(self, batch: RollBatch) -> Tensor:
        return self.model.loss(batch)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[RollBatch]:
        """Whole pieces, those of like length together."""
        index = self.data.parts[part]
        index = index[np.argsort(self.data.lengths(index), kind="stable")][rank::world]
        for start in range(0, len(index), self.evaluation_batch_size):
            rows = index[start : start + self.evaluation_batch_size]
            lengths = self.data.lengths(rows)
            frames = self.data.rows(self.data.offsets[rows], lengths)
            yield RollBatch(frames, torch.from_numpy(lengths), torch.from_numpy(rows))

    def scores(self, scorer: Any, batch: RollBatch) -> Tensor:
        return scorer.log_likelihood(batch.frames)

    def evaluator(self) -> FrameEvaluator:
        return FrameEvaluator()

    def _end_evaluation(self, part: Part) -> None:
        super()._end_evaluation(part)
        if part == "test" and self.sample:
            made = compose(self.model, self.data.spec.keys, [(self.seed, n) for n in range(PIECES)], self.sample, 1.0)
            self.written = [roll for roll, _ in made]
            self.results[part][0].update(validity(self.written, *self.range))

    def evaluate(self, scorer: Any, part: Part) -> tuple[dict[str, float], Any]:
        """As any task's; of the test part what can be checked of it."""
        if not isinstance(scorer, TestPart):
            return super().evaluate(scorer, part)
        return validity([self.data.piece(number) for number in self.data.parts["test"]], *self.range), None

    def baselines(self) -> dict[str, Any]:
        pieces = [self.data.piece(number) for number in self.data.parts["train"]]
        found: dict[str, Any] = {"unigram": Chains(pieces, before=False), "two-state chains": Chains(pieces)}
        return found | ({"the test part": TestPart()} if self.sample else {})

    def oracle(self) -> Any:
        law = self.data.oracle()
        return None if law is None else law.of_keys() if isinstance(self.model, FrameModel) else law

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return ["nats", *VALIDITY] if settings.get("sample", 64) else ["nats"]

    def shown(self) -> list[str]:
        return ["parallel_fifths", "parallel_octaves", "held_frames", "notes"] if self.sample else []

    def protocol(self) -> str:
        sampled = f"; {PIECES} pieces of {self.sample} frames written at temperature 1" if self.sample else ""
        return f"frames 2 ... T of whole pieces, {self.words}, nats over all frames{sampled}"

    def draw(self, folder: Path, best_epoch: int | None) -> None:
        """`written.png` and `written.wav`: the pieces that were checked, to be looked at and listened to."""
        from marquee.files import replacing
        from marquee.inference.scores import picture, rolls_in_turn, sound

        if self.written:
            (folder / "plots").mkdir(exist_ok=True)
            for name, made in (
                ("written.png", picture(self.written)),
                ("written.wav", sound(rolls_in_turn(self.written, self.data.spec), 90.0)),
            ):
                with replacing(folder / "plots" / name) as file:
                    file.write_bytes(made)
        super().draw(folder, best_epoch)

    def predictor(self) -> type[Composer]:
        return Composer

    def requests(self, predictor: Composer, n: int) -> Sequence[Callable[[], Any]]:
        """As of one who asks for sixteen frames; the units of the test have no part in it."""
        return [lambda seed=seed: predictor.generate(1, seed, frames=16) for seed in range(n)]

    def suggestions(self) -> tuple[str, str]:
        return "generate {run} --output tune.mid", "model=rnn/gru_frames,rnn/lstm_frames,cnn/tcn"


class Chains:
    """Each key a chain of two states of its own, by its frequencies in training (or, without `before`, none at all)."""

    def __init__(self, pieces: Sequence[np.ndarray], before: bool = True):
        pairs = np.concatenate([np.stack([piece[:-1], piece[1:]]) for piece in pieces], axis=1).astype(bool)
        old, new = torch.from_numpy(pairs)
        if not before:
            old = torch.zeros_like(old)
        # Half a count of each kind: a key that training never strikes may sound all the same.
        after = [(new & (old == state)).sum(0) + 0.5 for state in (False, True)]
        totals = [(old == state).sum(0) + 1.0 for state in (False, True)]
        self.before = before
        self.logits = torch.stack([count / total for count, total in zip(after, totals)]).logit().float()

    def log_likelihood(self, frames: Tensor) -> Tensor:
        old, new = frames[:, :-1], frames[:, 1:]
        silent, sounding = self.logits.to(frames.device)
        logits = torch.where((old > 0) & self.before, sounding, silent)
        return -F.binary_cross_entropy_with_logits(logits, new, reduction="none").sum(dim=2)


class TestPart:
    """Stands for the pieces of the test themselves: what other people's music is like when it is checked."""
