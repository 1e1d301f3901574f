"""The base class of data sets of piano rolls."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.spec import RollSpec
from marquee.data.text.dataset import content_hash
from marquee.errors import DataError

VERSION = 1  # raised when the code below prepares the same bytes differently
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Rolls:
    """What was read: a 0/1 matrix [frames, keys] a piece, its name, and the part that it was published in, if any."""

    pieces: Sequence[np.ndarray]
    names: Sequence[str]
    parts: Sequence[Part] | None = None


@dataclass(frozen=True)
class RollSource:
    """Where rolls come from: `key` (JSON values) identifies what `read` will return."""

    name: str
    key: Mapping[str, Any]
    read: Callable[[], Rolls]
    spec: RollSpec = RollSpec()


class RollData(DataSet):
    """Base of the data sets of piano rolls. After `setup`:

    frames   uint8 [all frames, keys], of all pieces behind each other
    offsets  int64 [pieces + 1], where each piece begins
    names    of the pieces
    parts    numbers of pieces

    A piece of one frame has nothing to be predicted, and is left out.
    """

    spec_type = RollSpec
    split_type = ExampleSplit

    frames: np.ndarray
    offsets: np.ndarray
    names: list[str]
    parts: dict[Part, np.ndarray]

    @abstractmethod
    def source(self, paths: Paths) -> RollSource:
        """Locate and verify the raw files."""

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        source = self.source(paths)
        key = {**source.key, "version": VERSION}
        folder = cached(paths, source.name, key, lambda folder: _prepare(folder, source.name, source.read()))
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        arrays = np.load(folder / "arrays.npz")
        self.offsets, given = arrays["offsets"], arrays["parts"]
        self.names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        official = (given == 2, given == 1) if (given >= 0).all() else (None, None)
        cut = split.cut(np.zeros(len(given), dtype=np.int64), arrays["content"], *official)
        self.parts = cut.parts
        self.validates = len(self.parts["validation"]) > 0
        self.spec = source.spec
        self.fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = cut.fingerprint
        counts = {f"{part} frames": int(self.lengths(rows).sum()) for part, rows in self.parts.items()}
        self.report = {"pieces": len(self.names), **cut.report, **counts}

    def lengths(self, index: np.ndarray) -> np.ndarray:
        return self.offsets[index + 1] - self.offsets[index]

    def piece(self, number: int) -> np.ndarray:
        """uint8 [frames, keys]."""
        return np.asarray(self.frames[self.offsets[number] : self.offsets[number + 1]])

    def rows(self, begin: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Frames from `begin` on, float32 [b, longest, keys], with silence behind what is shorter."""
        place = begin[:, None] + np.arange(int(lengths.max()))
        inside = np.arange(place.shape[1]) < lengths[:, None]
        found = self.frames[np.where(inside, place, 0)]
        return torch.from_numpy((found * inside[..., None]).astype(np.float32))

    def save_inference(self, folder: Path) -> None:
        """`music.json`: which keys training uses, and its longest chord, which is what a piece is judged by."""
        rows = self.parts["train"]
        played = np.concatenate([self.piece(number) for number in rows])
        used = np.flatnonzero(played.any(axis=0))
        ends = [int(used[0]), int(used[-1])] if len(used) else [0, self.spec.keys - 1]
        content = {"range": ends, "most_notes": int(played.sum(axis=1).max())}
        (folder / "music.json").write_text(json.dumps(content), encoding="utf-8")


def _prepare(folder: Path, name: str, rolls: Rolls) -> None:
    kept = [number for number, piece in enumerate(rolls.pieces) if len(piece) > 1]
    if not kept:
        raise DataError(f"data={name} holds no piece of two frames or more.")
    pieces = [np.ascontiguousarray(rolls.pieces[number], dtype=np.uint8) for number in kept]
    parts = [PARTS.index(rolls.parts[number]) if rolls.parts else -1 for number in kept]
    np.save(folder / "frames.npy", np.concatenate(pieces))
    np.savez(
        folder / "arrays.npz",
        offsets=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64),
        parts=np.array(parts, dtype=np.int64),
        content=content_hash([piece.tobytes() for piece in pieces]),
    )
    names = [rolls.names[number] for number in kept]
    (folder / "names.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
