"""Slots in sentences: which stretches of tokens are named, and how many of them rightly."""

from collections.abc import Sequence

import numpy as np


def spans(tags: np.ndarray, sentence: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The stretches that tags name: int64 [n, 3], the first token, the last one, and the slot's number.

    tags      tag numbers int [tokens], of all sentences behind each other
    sentence  the sentence of each token, int [tokens]
    names     of the tags: O, B-city, I-city, ...

    A stretch begins with B-, and with an I- that goes on from nothing or from another slot, as conlleval has it (Tjong
    Kim Sang & Buchholz 2000, "Introduction to the CoNLL-2000 Shared Task: Chunking").
    """
    slots = sorted({name[2:] for name in names if name != "O"})
    kind = np.array([0 if name == "O" else 1 + slots.index(name[2:]) for name in names])[tags]
    opens = np.array([name.startswith("B-") for name in names])[tags]
    same = np.zeros(len(tags), dtype=bool)  # whether a token goes on with the slot of the one before it
    same[1:] = (kind[1:] == kind[:-1]) & (sentence[1:] == sentence[:-1]) & ~opens[1:]
    first = np.flatnonzero((kind > 0) & ~same)
    last = np.flatnonzero((kind > 0) & ~np.r_[same[1:], False])
    return np.stack([first, last, kind[first]], axis=1)


def matched(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which of the stretches `found` are also among those `wanted`, in both ends and in the slot: bool [len(found)]."""
    if not len(wanted):
        return np.zeros(len(found), dtype=bool)
    place = np.searchsorted(wanted[:, 0], found[:, 0]).clip(max=len(wanted) - 1)  # in each, no two begin at one token
    return (wanted[place] == found).all(axis=1)


def span_scores(right: int, wanted: int, found: int) -> dict[str, float]:
    """`slot_precision`, `slot_recall` and `slot_f1` from numbers of stretches, 0 where nothing is found or wanted."""
    return {
        "slot_precision": right / max(found, 1),
        "slot_recall": right / max(wanted, 1),
        "slot_f1": 2 * right / max(found + wanted, 1),
    }
