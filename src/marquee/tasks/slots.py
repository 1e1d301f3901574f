"""What does somebody want, and which words of the sentence say its particulars?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn import functional as F

from marquee.data.dataset import Part
from marquee.data.spec import SlotSpec
from marquee.data.text.slots import SlotData
from marquee.data.text.views import TextBatch
from marquee.inference.tagger import SlotPredictor
from marquee.metrics.classification import ClassificationEvaluator
from marquee.metrics.evaluator import Evaluator
from marquee.metrics.spans import matched, span_scores, spans
from marquee.models.base import Tagged, Tagger
from marquee.seeding import numpy_generator
from marquee.tasks.classification import Classification
from marquee.tasks.loop import MakeOptimizer, Schedule


class Slots(Classification):
    """Cross-entropy of intents plus cross-entropy of the tags of all words, which are judged by whole slots.

    A slot is right where both of its ends and its name are (conlleval); `sentence_accuracy` is the share of sentences
    in which intent and all slots are.

    intent_weight  of the loss of intents beside that of tags; 0 learns the slots alone
    monitor        what early stopping and the best checkpoint go by

    The others are those of Classification.
    """

    spec_types = (SlotSpec,)
    unit = "example"
    measured = ()
    measures_more = ()
    directions = {
        "slot_f1": "max", "slot_precision": "max", "slot_recall": "max", "sentence_accuracy": "max",
    }  # fmt: skip

    def __init__(
        self,
        model: Tagger,
        data: SlotData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        intent_weight: Annotated[float, Ge(0)] = 1.0,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        monitor: Literal["slot_f1", "sentence_accuracy", "accuracy"] = "slot_f1",
        evaluation_batch_size: Annotated[int, Ge(1)] = 256,
    ):
        super().__init__(
            model,
            data,
            optimizer,
            scheduler,
            seed,
            label_smoothing=label_smoothing,
            evaluation_batch_size=evaluation_batch_size,
        )
        self.intent_weight = intent_weight
        self.monitor, self.mode = monitor, "max"

    def loss(self, batch: TextBatch) -> Tensor:
        tagged = self.model.tag(batch.tokens, batch.lengths)
        tags, _ = self.data.tags.rows(batch.index.cpu().numpy(), batch.tokens.shape[1], self.model.view.truncate)
        real = batch.tokens != 0
        wanted = tags.to(batch.tokens.device)[real]
        of_tags = F.cross_entropy(tagged.tags.float()[real], wanted, label_smoothing=self.label_smoothing)
        return of_tags + self.intent_weight * F.cross_entropy(tagged.intents.float(), batch.labels)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[TextBatch]:
        """Whole sentences, those of like length together."""
        index = self.data.parts[part]
        index = index[np.argsort(self.data.store.lengths(index), kind="stable")][rank::world]
        for start in range(0, len(index), self.evaluation_batch_size):
            rows = index[start : start + self.evaluation_batch_size]
            tokens, lengths = self.data.store.rows(rows, int(self.data.store.lengths(rows).max()), "head")
            yield TextBatch(tokens, lengths, torch.from_numpy(self.data.labels[rows]), torch.from_numpy(rows))

    def scores(self, scorer: Any, batch: TextBatch) -> Tagged:
        """Probabilities of intents [batch, n_classes], and logits of tags."""
        tagged = scorer.tag(batch.tokens, batch.lengths) if isinstance(scorer, Tagger) else scorer(batch)
        return Tagged(tagged.intents.float().softmax(dim=1), tagged.tags.float())

    def evaluator(self) -> "SlotEvaluator":
        return SlotEvaluator(self.data, self.decisions.labels)

    def baselines(self) -> dict[str, Any]:
        return {"most frequent": MostFrequent(self.data)}

    def found(self) -> dict[str, Any]:
        """A 95 % interval of the F1 of slots, by drawing sentences with replacement (Efron & Tibshirani 1993)."""
        _, units = self.results["test"]
        counts = units[["slots_right", "slots_wanted", "slots_found"]].to_numpy()
        rng = numpy_generator(self.seed, "intervals")
        drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=1000) @ counts
        f1 = 2 * drawn[:, 0] / np.maximum(drawn[:, 1] + drawn[:, 2], 1)
        return {"intervals": {"test/slot_f1": np.quantile(f1, [0.025, 0.975]).tolist()}}

    def draw(self, folder: Any, best_epoch: int | None) -> None:
        """The curves; a sentence with its slots is a table, not a picture."""
        super(Classification, self).draw(folder, best_epoch)

    def protocol(self) -> str:
        return "slots right in both ends and name (conlleval)"

    def _end_evaluation(self, part: Part) -> None:
        super(Classification, self)._end_evaluation(part)

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return [*super().metrics_of(settings), *cls.directions]

    def shown(self) -> list[str]:
        return ["slot_f1", "slot_precision", "slot_recall", "accuracy", "sentence_accuracy"]

    def predictor(self) -> type[SlotPredictor]:
        return SlotPredictor

    def suggestions(self) -> tuple[str, str]:
        return f"predict {{run}} {SlotPredictor.example}", "model=rnn/tagger model.hidden=64,128,256"


class MostFrequent:
    """The most frequent intent, and of each word the tag that it has most often in training; O for unknown words."""

    def __init__(self, data: SlotData):
        rows = data.parts["train"]
        longest = np.iinfo(np.int32).max
        tokens, _ = data.store.flat(rows, longest, "head")
        tags, _ = data.tags.flat(rows, longest, "head")
        counts = torch.zeros(data.spec.vocab_size, len(data.spec.slots))
        counts.index_put_((tokens, tags), torch.ones(len(tokens)), accumulate=True)
        counts[:, 0] += 0.5  # a tie is O, and so is a word that training does not have
        counts[:2] = 0
        self.tags = counts
        self.intents = torch.from_numpy(np.bincount(data.labels[rows], minlength=data.spec.n_classes)).float()

    def __call__(self, batch: TextBatch) -> Tagged:
        shares = (self.intents + 1e-9).log().expand(len(batch.tokens), -1)
        return Tagged(shares, self.tags[batch.tokens])


class SlotEvaluator(Evaluator):
    """Collects intents as ClassificationEvaluator does, and of each sentence its slots: wanted, found and right."""

    def __init__(self, data: SlotData, labels: Sequence[str]):
        self.data = data
        self.intents = ClassificationEvaluator(labels)
        self._counts: list[np.ndarray] = []

    def update(self, scores: Tagged, batch: TextBatch) -> None:
        self.intents.update(scores.intents, batch)
        rows = batch.index.cpu().numpy()
        real = (batch.tokens != 0).cpu()
        sentence = real.nonzero()[:, 0].numpy()
        wanted, _ = self.data.tags.rows(rows, batch.tokens.shape[1], "head")
        pairs = [(tags[real].numpy(), sentence) for tags in (wanted, scores.tags.argmax(dim=-1).cpu())]
        wanted_spans, found_spans = (spans(*pair, self.data.spec.slots) for pair in pairs)
        right = found_spans[matched(wanted_spans, found_spans)]
        counts = [np.bincount(sentence[part[:, 0]], minlength=len(rows)) for part in (wanted_spans, found_spans, right)]
        self._counts.append(np.stack([rows, *counts], axis=1))

    def state(self) -> dict[str, np.ndarray]:
        counts = np.concatenate(self._counts) if self._counts else np.zeros((0, 4), dtype=np.int64)
        return {**self.intents.state(), "slots": counts}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        metrics, units = self.intents.compute([{k: v for k, v in state.items() if k != "slots"} for state in states])
        counts = np.concatenate([state["slots"] for state in states])
        _, wanted, found, right = counts[np.argsort(counts[:, 0], kind="stable")].T
        whole = (wanted == right) & (found == right) & (units["correct"].to_numpy() == 1)
        metrics |= span_scores(int(right.sum()), int(wanted.sum()), int(found.sum()))
        metrics["sentence_accuracy"] = float(whole.mean())
        columns = {"slots_wanted": wanted, "slots_found": found, "slots_right": right, "whole": whole.astype(float)}
        for place, (name, values) in enumerate(columns.items()):
            units.insert(4 + place, name, values)
        return metrics, units
