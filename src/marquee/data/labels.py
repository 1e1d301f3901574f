"""Class names to numbers: one class an example (int64 [n]) or several labels (float32 [n, classes])."""

from collections.abc import Sequence

import numpy as np

from marquee.data.dataset import Part
from marquee.errors import DataError


def label_names(labels: Sequence[str] | Sequence[Sequence[str]], multilabel: bool) -> list[str]:
    """All names, sorted; whole numbers sort as numbers, so that "10" follows "9"."""
    names = {name for row in labels for name in row} if multilabel else set(labels)
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def encode_labels(
    labels: Sequence[str] | Sequence[Sequence[str]], names: Sequence[str], multilabel: bool
) -> np.ndarray:
    """Class numbers int64 [n], or a 0/1 matrix float32 [n, len(names)] where names that are not listed are left out."""
    number = {name: position for position, name in enumerate(names)}
    if not multilabel:
        return np.fromiter(map(number.__getitem__, labels), dtype=np.int64, count=len(labels))
    matrix = np.zeros((len(labels), len(names)), dtype=np.float32)
    pairs = [(row, number[name]) for row, given in enumerate(labels) for name in given if name in number]
    if pairs:
        rows, columns = np.array(pairs).T
        matrix[rows, columns] = 1
    return matrix


def label_counts(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Examples of each class, int64 [n_classes]."""
    if labels.ndim == 1:
        return np.bincount(labels, minlength=n_classes)
    return labels.sum(axis=0).astype(np.int64)


def strata(labels: np.ndarray) -> np.ndarray:
    """What stratification keeps in proportion: the class; of several labels the rarest; without any, one class more."""
    if labels.ndim == 1:
        return labels
    counts = labels.sum(axis=0)
    rarity = np.where(labels > 0, counts, np.inf)
    return np.where(labels.any(axis=1), rarity.argmin(axis=1), labels.shape[1])


def check_labels(labels: np.ndarray, parts: dict[Part, np.ndarray], names: Sequence[str], where: str) -> None:
    """Raise DataError unless training has two classes or more and knows every class of the other parts."""
    known = label_counts(labels[parts["train"]], len(names)) > 0
    for part in ("validation", "test"):
        found = label_counts(labels[parts[part]], len(names))
        if unknown := [(names[i], int(found[i])) for i in np.flatnonzero((found > 0) & ~known)]:
            listed = ", ".join(f"{name!r} ({count} examples)" for name, count in unknown[:5])
            seen = ", ".join(repr(names[i]) for i in np.flatnonzero(known)[:20])
            raise DataError(
                f"{where}: the {part} part holds labels that training never sees: {listed}. Labels in train: {seen}. "
                f"Correct the labels, or take these examples out of the {part} part."
            )
    needed = 2 if labels.ndim == 1 else 1
    if known.sum() < needed:
        raise DataError(
            f"{where}: training holds {int(known.sum())} label(s) ({', '.join(names[:5])}); a classification needs at "
            f"least {needed}. Check the label column."
        )
