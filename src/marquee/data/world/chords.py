"""Music with a known law: a hidden chain of chords, each of which strikes its keys with probabilities of its own."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.rolls.dataset import RollData, Rolls, RollSource
from marquee.data.spec import RollSpec
from marquee.seeding import numpy_generator

VERSION = 1  # raised when the same seed gives other pieces
LOWEST, KEYS = 21, 88
SHORTEST, LONGEST = 24, 72  # frames of a piece
DEGREES = ((0, 4, 7), (2, 5, 9), (4, 7, 11), (5, 9, 0), (7, 11, 2), (9, 0, 4), (11, 2, 5))  # the triads of C major
STAYS, HOME = 0.35, 0.25  # probability that a chord stays, and that it goes to C otherwise
STRUCK, STRAY = 0.55, 0.004  # of a key of the chord within the choir's range, and of any other key
RANGE = (43, 79)  # MIDI notes between which chords are struck


class WorldChords(RollData):
    """Pieces of seven chords in C major, a chord a frame. The law is known, so is the best that a model can reach.

    seed    of the pieces
    pieces  how many
    """

    licence = "made by Marquee, Apache-2.0"

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 1, pieces: Annotated[int, Ge(10)] = 200):
        self.seed, self.pieces = seed, pieces

    def source(self, paths: Paths) -> RollSource:
        key = {"seed": self.seed, "pieces": self.pieces, "world": VERSION}
        return RollSource("world_chords", key, self._write, RollSpec())

    def _write(self) -> Rolls:
        rng = numpy_generator(self.seed, "world/chords")
        begin, chain, keys = law()
        found = []
        for length in rng.integers(SHORTEST, LONGEST + 1, size=self.pieces):
            chord, frames = rng.choice(len(begin), p=begin), []
            for _ in range(length):
                frames.append(rng.random(KEYS) < keys[chord])
                chord = rng.choice(len(begin), p=chain[chord])
            found.append(np.array(frames, dtype=np.uint8))
        return Rolls(found, [f"piece {number}" for number in range(1, len(found) + 1)])

    def oracle(self) -> "ChordLaw":
        return ChordLaw()


def law() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of the first chord [chords], of the next one [chords, chords], and of each key [chords, keys]."""
    n = len(DEGREES)
    others = (1 - np.eye(n)) / (n - 1)
    chain = STAYS * np.eye(n) + (1 - STAYS) * (1 - HOME) * others
    chain[:, 0] += (1 - STAYS) * HOME
    begin = np.full(n, 0.5 / (n - 1))
    begin[0] = 0.5
    midi = np.arange(KEYS) + LOWEST
    inside = (midi >= RANGE[0]) & (midi <= RANGE[1])
    keys = np.array([np.where(inside & np.isin(midi % 12, degree), STRUCK, STRAY) for degree in DEGREES])
    return begin, chain, keys


class ChordLaw:
    """The exact likelihood of frames by the forward algorithm (Rabiner 1989, equations 19 and 20).

    No model can do better on average.
    """

    def __init__(self, each: bool = False):
        self.begin, self.chain, self.keys = (torch.from_numpy(part) for part in law())
        self.each = each

    def of_keys(self) -> "ChordLaw":
        """The best prediction of each key for itself, which forgoes what notes say of each other."""
        return ChordLaw(each=True)

    def log_likelihood(self, frames: Tensor) -> Tensor:
        """As `RollModel.log_likelihood`, in float64."""
        struck = frames.double().cpu()
        of_chord = struck @ self.keys.log().T + (1 - struck) @ (1 - self.keys).log().T  # [batch, T, chords]
        belief, found = self.begin.expand(len(struck), -1), []
        for frame in range(struck.shape[1]):
            if frame:
                if self.each:
                    likely = belief @ self.keys
                    now = struck[:, frame]
                    found.append((now * likely.log() + (1 - now) * (1 - likely).log()).sum(dim=1))
                else:
                    found.append((of_chord[:, frame] + belief.log()).logsumexp(dim=1))
            belief = (of_chord[:, frame] + belief.log()).softmax(dim=1) @ self.chain
        return torch.stack(found, dim=1)
