"""How well a text is predicted: nats a token, bits a character, perplexity."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator

METRICS = ("bits_per_character", "nats", "perplexity")
# A character that training has not is charged as one of all code points, 1,114,112: no model gets credit for what it
# says of a token that stands for anything.
UNKNOWN_NATS = math.log(0x110000)


class LikelihoodEvaluator(Evaluator):
    """Log-likelihoods of all targets of a part, summed by unit.

    nats                mean of -log P(token), over tokens
    bits_per_character  sum of -log2 P(token) over characters: the same measure whatever the tokens are
    perplexity          exp(nats)

    In the per-unit table `nats` and `bits_per_character` are the unit's sum over the mean number of tokens or of
    characters of a unit: so their mean is the metric, and long units count for more.

    units       int64 [targets + 1], the unit of each token of the stream
    characters  int64 [units]
    unknown     bool [targets + 1], which tokens stand for characters that training has not
    name        of the unit
    """

    def __init__(self, units: np.ndarray, characters: np.ndarray, unknown: np.ndarray, name: str):
        self.units, self.characters, self.unknown, self.name = units, characters, unknown, name
        self.sums = np.zeros(len(characters))
        self.counts = np.zeros(len(characters), dtype=np.int64)

    def update(self, scores: Tensor, batch: Any) -> None:
        """`scores` are log-likelihoods [batch, length] of the targets of ScoredWindows."""
        counted = batch.counted.cpu()
        places = batch.places.cpu()[counted].numpy()
        nats = -scores.detach().cpu().double()[counted].numpy()
        nats = np.where(self.unknown[places], UNKNOWN_NATS, nats)
        if not np.isfinite(nats).all():
            bad = int((~np.isfinite(nats)).sum())
            raise JobError(
                f"The model gives {bad} of {len(nats)} tokens a likelihood that is no number or nought. Lower the "
                "learning rate (optimizer.lr=...) or clip gradients (trainer.gradient_clip_val=1)."
            )
        units = self.units[places]
        self.sums += np.bincount(units, nats, minlength=len(self.sums))
        self.counts += np.bincount(units, minlength=len(self.counts))

    def state(self) -> dict[str, np.ndarray]:
        return {"sums": self.sums, "counts": self.counts}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        sums, counts = (np.sum([state[name] for state in states], axis=0) for name in ("sums", "counts"))
        tokens, characters, n = int(counts.sum()), int(self.characters.sum()), len(sums)
        nats, bits = sums.sum() / tokens, sums.sum() / math.log(2) / characters
        table = pd.DataFrame({
            self.name: np.arange(n), "bits_per_character": sums / math.log(2) * n / characters,
            "nats": sums * n / tokens, "tokens": counts, "characters": self.characters,
        })  # fmt: skip
        return {"bits_per_character": float(bits), "nats": float(nats), "perplexity": math.exp(min(nats, 700))}, table
