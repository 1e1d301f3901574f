"""The figures of a finished classification: how it was judged, what it got wrong, and what it looked at."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marquee.data.images.dataset import ImageData
from marquee.data.images.views import ImageBatch
from marquee.data.text.dataset import TextData
from marquee.data.text.views import TextBatch, TextBatches
from marquee.metrics.classification import losses
from marquee.models.base import Classifier
from marquee.plots import attribution
from marquee.plots.sheets import Cell, heat_entry, text_entry, unveiled, write_page, write_sheet

log = logging.getLogger(__name__)

MISTAKES = 12  # on a sheet
EXPLAINED = 8  # examples: half of them mistakes
Head = tuple[str, ...]  # what was thought of an example, part by part
KEY = "Marked words speak <mark class=for>for</mark> or <mark class=against>against</mark> the class that is named."


def write_examples(
    folder: Path,
    data: TextData | ImageData,
    model: Classifier,
    rows: np.ndarray,
    targets: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
) -> None:
    """`mistakes`, `uncertain` and `contributions`: pages for texts, sheets for images.

    `rows` int64 [n] are the examples in the data set; the others as in `judged`. Where an example has several labels,
    mistakes are those of the largest loss, and what is explained is the label of the largest probability.
    """
    if targets.ndim == 1:
        said = probabilities[np.arange(len(rows)), predicted]
        wrong, certain = predicted != targets, probabilities.max(axis=1)
        order = np.argsort(-said, kind="stable")
        heads = [
            (f"true {labels[t]}", f"said {labels[p]} {s:.2f}") for t, p, s in zip(targets, predicted, said, strict=True)
        ]
        named = predicted
    else:
        loss = losses(targets, probabilities)
        wrong, certain = (predicted != targets).any(axis=1), np.abs(probabilities - 0.5).min(axis=1)
        order = np.argsort(-loss, kind="stable")
        names = np.asarray(labels, dtype=object)
        named = probabilities.argmax(axis=1)
        true, given = (["|".join(names[row > 0]) or "nothing" for row in matrix] for matrix in (targets, predicted))
        heads = [(f"true {t}", f"said {p}", f"most {n}") for t, p, n in zip(true, given, names[named], strict=True)]
    mistakes = order[wrong[order]][:MISTAKES]
    uncertain = np.argsort(certain, kind="stable")[:MISTAKES]
    show = _show_texts if isinstance(data, TextData) else _show_images
    if len(mistakes):
        show(folder, "mistakes", "The most confident mistakes", data, rows[mistakes], [heads[i] for i in mistakes])
    show(folder, "uncertain", "The least certain, for a person to look at", data, rows[uncertain],
         [heads[i] for i in uncertain])  # fmt: skip
    right = order[~wrong[order]] if targets.ndim == 1 else order[~wrong[order]][::-1]
    several = mistakes[: EXPLAINED // 2]
    chosen = np.r_[several, right[: EXPLAINED - len(several)]]
    explain = _explain_texts if isinstance(data, TextData) else _explain_images
    explain(folder, data, model, rows[chosen], named[chosen], [heads[i] for i in chosen])


def _show_texts(folder: Path, name: str, title: str, data: TextData, rows: np.ndarray, heads: Sequence[Head]) -> None:
    entries = [text_entry(", ".join(head), data.text(row)) for head, row in zip(heads, rows.tolist(), strict=True)]
    write_page(folder / f"{name}.html", title, entries)


def _show_images(folder: Path, name: str, title: str, data: ImageData, rows: np.ndarray, heads: Sequence[Head]) -> None:
    shown = zip(heads, rows.tolist(), strict=True)
    cells = [Cell((_picture(data, row),), (*head, data.names[row])) for head, row in shown]
    write_sheet(folder / f"{name}.png", title, cells)


def _explain_texts(
    folder: Path, data: TextData, model: Classifier, rows: np.ndarray, classes: np.ndarray, heads: Sequence[Head]
) -> None:
    batch = model.view.batch(data, rows)
    view = model.view
    if model.adds_up and not isinstance(batch, TextBatch):  # its own batches count words and forget their order
        view = TextBatches(max_length=view.max_length, truncate=view.truncate)
        batch = view.batch(data, rows)
    if not isinstance(batch, TextBatch) or (shares := attribution.of_tokens(model, batch, classes.tolist())) is None:
        return _without(folder)
    entries = [f"<p class=key>{KEY}</p>"]
    for place, (head, values) in enumerate(zip(heads, shares.values, strict=True)):
        words = data.words(int(rows[place]), view.max_length, view.truncate)
        entries.append(heat_entry(", ".join(head), words, values, data.tokenizer.between))
    write_page(folder / "contributions.html", "What the model read", entries, f"Shares of the words: {shares.method}.")
    return None


def _explain_images(
    folder: Path, data: ImageData, model: Classifier, rows: np.ndarray, classes: np.ndarray, heads: Sequence[Head]
) -> None:
    batch = model.view.batch(data, rows)  # that of an ensemble holds a batch a member
    if not isinstance(batch, ImageBatch) or (shares := attribution.of_pixels(model, batch, classes.tolist())) is None:
        return _without(folder)
    cells = []
    for head, row, values in zip(heads, rows.tolist(), shares.values, strict=True):
        picture = _picture(data, row)
        cells.append(Cell((picture, unveiled(picture, np.maximum(values, 0))), (*head, data.names[row])))
    write_sheet(folder / "contributions.png", "What the model looked at", cells,
                f"{shares.method}: unveiled is what speaks for the class that was said")  # fmt: skip
    return None


def _without(folder: Path) -> None:
    if not attribution.available():
        log.info("%s is without contributions: %s", folder, attribution.MISSING)


def _picture(data: ImageData, row: int) -> np.ndarray:
    """uint8 [height, width, 3]."""
    pixels = np.moveaxis(np.asarray(data.images[row]), 0, -1)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
