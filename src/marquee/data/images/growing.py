"""Labelled images that have come later: a data set with more training rows."""

import hashlib
from copy import copy
from typing import Any

import numpy as np

from marquee.data.images.dataset import ImageData


class Joined:
    """Two arrays of images one behind the other, of which only the rows that are asked for are read.

    first, more  uint8 [images, channels, height, width]
    """

    def __init__(self, first: np.ndarray, more: np.ndarray):
        self.first, self.more = first, more
        self.shape = (len(first) + len(more), *first.shape[1:])
        self.dtype, self.ndim = first.dtype, first.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, index: Any, axis: int = 0, **_: Any) -> np.ndarray:
        """As `np.take(images, index, axis=0)`."""
        return self[np.asarray(index)]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self))[index]
        if rows.ndim == 0:
            return self.first[rows] if rows < len(self.first) else self.more[rows - len(self.first)]
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        old = rows < len(self.first)
        found[old], found[~old] = self.first[rows[old]], self.more[rows[~old] - len(self.first)]
        return found


def with_images(data: ImageData, images: np.ndarray, labels: np.ndarray) -> ImageData:
    """The data with images (and labels as `data.labels` has them) behind its own, for training."""
    grown = copy(data)
    grown.images = Joined(data.images, images)
    grown.names = [*data.names, *(f"event {number + 1}" for number in range(len(images)))]
    grown.labels = np.concatenate([data.labels, labels])
    new = np.arange(len(data.labels), len(grown.labels))
    grown.parts = {**data.parts, "train": np.concatenate([data.parts["train"], new])}
    grown.attributes = {
        name: np.concatenate([own, np.zeros(len(new), own.dtype)]) for name, own in data.attributes.items()
    }
    return grown


def copies(data: ImageData, images: np.ndarray) -> np.ndarray:
    """Which images stand, pixel by pixel, in the validation or test part, bool [images]."""
    rows = np.concatenate([data.parts["validation"], data.parts["test"]])
    held = {hashlib.sha256(data.images[row].tobytes()).digest() for row in rows}
    return np.array([hashlib.sha256(image.tobytes()).digest() in held for image in images], dtype=bool)
