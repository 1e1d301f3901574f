"""Find titles by a part of them, or by a spelling that is not quite theirs, without going through all of them."""

from bisect import bisect_left
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cached_property

import numpy as np

LEAST = 0.4  # of difflib's ratio: what is less alike is no suggestion
NEAR = 120  # titles with the most trigrams of an unknown name, which are compared with it letter by letter
LOOKED = 500  # titles that hold a text at most, among which those that begin with it come first
_KINDS = 64


class TitleIndex:
    """The trigrams of titles, each with the titles that have it (an inverted index in arrays).

    titles  [n], case-folded
    """

    def __init__(self, titles: Sequence[str]):
        self.titles = titles
        keys, owners = _trigrams(titles)
        self._keys, places = np.unique(keys, return_inverse=True)
        pairs = np.sort(places * max(len(titles), 1) + owners)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique hashes, which takes a hundred times as long here
        self._starts = np.searchsorted(pairs, np.arange(len(self._keys) + 1) * max(len(titles), 1))
        self._owners = (pairs % max(len(titles), 1)).astype(np.int32)
        self._sizes = np.bincount(self._owners, minlength=len(titles))

    def close(self, text: str, n: int) -> list[int]:
        """Positions of up to `n` titles that hold a text, else of those that are spelt most like it."""
        return self._holding(text, n) or self._alike(text, n)

    def search(self, text: str, n: int) -> list[int]:
        """Positions of up to `n` titles: those that begin with a text, those that hold it, then those spelt like it."""
        if not text:
            return []
        found = self._beginning(text, n)
        if len(found) < n:
            found += self._holding(text, min(LOOKED, n + len(found)))
        found = list(dict.fromkeys(found))[:n]
        return found or self._alike(text, n)

    def _beginning(self, text: str, n: int) -> list[int]:
        order, ordered = self._ordered
        first = bisect_left(ordered, text)
        last = bisect_left(ordered, text + chr(0x10FFFF), first)
        return sorted(order[first : min(last, first + LOOKED)])[:n]

    def _holding(self, text: str, n: int) -> list[int]:
        """The first `n` titles that hold a text, among those that have its rarest trigram."""
        if not text:
            return []
        if len(text) < 3:
            return self._holding_short(text, n)
        postings = [self._titles_with(key) for key in _keys_of(_points(text)).tolist()]
        found: list[int] = []
        for row in min(postings, key=len).tolist():
            if text in self.titles[row]:
                found.append(row)
                if len(found) == n:
                    break
        return found

    def _holding_short(self, text: str, n: int) -> list[int]:
        whole, starts = self._joined
        found: list[int] = []
        place = whole.find(text)
        while place >= 0 and len(found) < n:
            row = int(np.searchsorted(starts, place, side="right")) - 1
            if text in self.titles[row]:  # not across the end of it
                found.append(row)
            place = whole.find(text, int(starts[row + 1])) if row + 1 < len(starts) else -1
        return found

    def _alike(self, text: str, n: int) -> list[int]:
        """By difflib's ratio, the best first; of equal ones the first title.

        Compared are the NEAR titles that share most trigrams (by Dice's coefficient), in the order of the bound that
        difflib calls quick_ratio, until that is below the n-th best.
        """
        keys = np.unique(_keys_of(_points(f" {text} ")))
        postings = [self._titles_with(key) for key in keys.tolist()]
        shared = np.bincount(np.concatenate([*postings, np.zeros(0, np.int32)]), minlength=len(self.titles))
        dice = shared / (self._sizes + len(keys))
        rows = np.arange(len(dice)) if len(dice) <= NEAR else np.sort(np.argpartition(dice, -NEAR)[-NEAR:])
        rows = rows[shared[rows] > 0]
        near = [self.titles[row] for row in rows.tolist()]
        counts, wanted = _letters(near), _letters([text])[0]
        bound = 2 * np.minimum(counts, wanted).sum(1) / np.maximum(counts.sum(1) + wanted.sum(), 1)
        matcher = SequenceMatcher(None)
        matcher.set_seq2(text)  # which is the one that difflib prepares
        best: list[tuple[float, int]] = []
        for place in np.argsort(-bound, kind="stable").tolist():
            if bound[place] < (best[n - 1][0] if len(best) >= n else LEAST):
                break
            matcher.set_seq1(near[place])
            if (ratio := matcher.ratio()) >= LEAST:
                best = sorted([*best, (ratio, -int(rows[place]))], reverse=True)[:n]
        return [-row for _, row in best]

    def _titles_with(self, key: int) -> np.ndarray:
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return np.zeros(0, np.int32)
        return self._owners[self._starts[place] : self._starts[place + 1]]

    @cached_property
    def _ordered(self) -> tuple[list[int], list[str]]:
        order = sorted(range(len(self.titles)), key=self.titles.__getitem__)
        return order, [self.titles[row] for row in order]

    @cached_property
    def _joined(self) -> tuple[str, np.ndarray]:
        lengths = np.array([0, *(len(title) + 1 for title in self.titles)])
        return "\0".join(self.titles), lengths.cumsum()[:-1]


def _points(text: str) -> np.ndarray:
    """The code points of a text, int64."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def _keys_of(points: np.ndarray) -> np.ndarray:
    """Each three code points in a row as one number."""
    return (points[:-2] << 42) | (points[1:-1] << 21) | points[2:]


def _trigrams(titles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All trigrams of all titles, with a blank at both ends of each, and whose they are: int64 [trigrams] both."""
    if not titles:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    points = _points("".join(f" {title} " for title in titles))
    owners = np.repeat(np.arange(len(titles)), [len(title) + 2 for title in titles])
    inside = owners[:-2] == owners[2:]
    return _keys_of(points)[inside], owners[:-2][inside]


def _letters(texts: Sequence[str]) -> np.ndarray:
    """How often each text has each letter (bytes of UTF-8 modulo 64): int64 [texts, 64]."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in encoded])
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8) % _KINDS
    return np.bincount(rows * _KINDS + letters, minlength=_KINDS * len(texts)).reshape(-1, _KINDS)
