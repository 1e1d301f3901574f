"""How well frames of music are predicted, and what can be checked of music that somebody or something has written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator

VALIDITY = (
    "parallel_fifths", "parallel_octaves", "overlaps", "out_of_range", "empty_frames", "held_frames", "notes",
)  # fmt: skip


class FrameEvaluator(Evaluator):
    """Sums log-likelihoods of frames by piece; `nats` is their sum over all frames that are predicted.

    Frame-weighted, as Boulanger-Lewandowski et al. 2012 and Bai et al. 2018 have it: long pieces count for more. In the
    per-unit table a piece's sum stands over the mean number of frames of a piece, so that its mean is the metric.
    """

    def __init__(self) -> None:
        self._seen: list[np.ndarray] = []

    def update(self, scores: Tensor, batch: Any) -> None:
        """Scores [batch, T - 1] are log-likelihoods of the frames 2 ... T."""
        frames = batch.lengths.cpu().numpy() - 1
        found = scores.detach().double().cpu().numpy()
        inside = np.arange(found.shape[1]) < frames[:, None]
        sums = np.where(inside, found, 0).sum(axis=1)
        if not np.isfinite(sums).all():
            raise JobError(
                "The model gives frames a likelihood that is no number or nought. Lower the learning rate "
                "(optimizer.lr=...) or clip gradients (trainer.gradient_clip_val=1)."
            )
        self._seen.append(np.stack([batch.index.cpu().numpy(), frames, -sums], axis=1))

    def state(self) -> dict[str, np.ndarray]:
        return {"pieces": np.concatenate(self._seen) if self._seen else np.zeros((0, 3))}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        joined = np.concatenate([state["pieces"] for state in states])
        piece, frames, nats = joined[np.argsort(joined[:, 0], kind="stable")].T
        mean = frames.mean()
        table = pd.DataFrame({"piece": piece.astype(np.int64), "nats": nats / mean, "frames": frames.astype(np.int64)})
        return {"nats": float(nats.sum() / frames.sum())}, table


def validity(pieces: Sequence[np.ndarray], lowest: int, highest: int) -> dict[str, float]:
    """What can be counted of rolls, 0/1 matrices [frames, keys]; training uses the keys `lowest` ... `highest`.

    parallel_fifths, parallel_octaves  per 100 changes of chord between frames with equally many notes: pairs of voices
                                       that move in one direction from one fifth (octave, unison) to another
    overlaps      share of such changes in which a voice steps over where its neighbour has just been
    out_of_range  share of the notes beyond the keys of training
    empty_frames, held_frames  shares of silence, and of frames that are as the one before
    notes         mean number a frame

    Voices are the notes of a frame from the lowest to the highest: that voices have crossed cannot be seen in a roll.
    """
    changes, counted, overlaps = 0, np.zeros(2), 0
    for piece in pieces:
        many = piece.sum(axis=1)
        moved = (piece[1:] != piece[:-1]).any(axis=1)
        alike = np.flatnonzero(moved & (many[1:] == many[:-1]) & (many[1:] > 1))
        changes += len(alike)
        for size in np.unique(many[alike]):
            at = alike[many[alike] == size]
            before, after = (np.nonzero(piece[rows])[1].reshape(len(at), size) for rows in (at, at + 1))
            low, high = np.triu_indices(int(size), 1)
            step = np.sign(after - before)
            together = (step[:, low] == step[:, high]) & (step[:, low] != 0)
            gaps = [(voices[:, high] - voices[:, low]) % 12 for voices in (before, after)]
            counted += [int((together & (gaps[0] == gap) & (gaps[1] == gap)).sum()) for gap in (7, 0)]
            over = (after[:, :-1] > before[:, 1:]) | (after[:, 1:] < before[:, :-1])
            overlaps += int(over.any(axis=1).sum())
    frames = np.concatenate(list(pieces))
    notes = frames.sum()
    outside = frames[:, :lowest].sum() + frames[:, highest + 1 :].sum()
    held = sum(int((piece[1:] == piece[:-1]).all(axis=1).sum()) for piece in pieces)
    return {
        "parallel_fifths": 100 * counted[0] / max(changes, 1),
        "parallel_octaves": 100 * counted[1] / max(changes, 1),
        "overlaps": overlaps / max(changes, 1),
        "out_of_range": float(outside / max(notes, 1)),
        "empty_frames": float((frames.sum(axis=1) == 0).mean()),
        "held_frames": held / max(len(frames) - len(pieces), 1),
        "notes": float(notes / len(frames)),
    }
