"""What a run knows: the data that it was trained on, what its updates brought, and without whom it has forgotten."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from marquee.config.build import build, paths
from marquee.data.dataset import DataSet
from marquee.data.images.dataset import ImageData
from marquee.data.images.growing import with_images
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.growing import joined, positions_of, without
from marquee.data.spec import ImageSpec, TextSpec
from marquee.data.text.dataset import TextData
from marquee.data.text.growing import with_texts
from marquee.errors import ConfigError, DataError
from marquee.runs.content import with_content
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest

EVENTS, PIXELS = "events.parquet", "events.safetensors"


@dataclass
class Lineage:
    """A run, the data that its first ancestor was trained on, and what has changed since.

    root       the first ancestor's data, as its split cut it
    events     all events since, or None: user, item, ...; or label, and text unless they are images
    pixels     of image events, uint8 [events, channels, height, width]
    files      sha256 of each file of events since
    forgotten  hashes of the ids of those who are to be left out of `root`
    """

    folder: Path
    manifest: dict[str, Any]
    root: DataSet
    events: pd.DataFrame | None = None
    pixels: np.ndarray | None = None
    forgotten: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        return deepcopy(self.manifest["config"])

    @property
    def salt(self) -> str:
        return self.manifest["data"]["fingerprint"]

    def judged(self) -> tuple[DataSet, np.ndarray | None]:
        """The data of the first ancestor's test, without who is forgotten, and the numbers of its users there."""
        if not isinstance(self.root, InteractionData):
            return self.root, None
        numbers = np.arange(self.root.store.n_users)
        if not self.forgotten:
            return self.root, numbers
        gone = positions_of(self.root, self.forgotten, self.salt)
        return without(self.root, gone), np.delete(numbers, gone)

    def now(self) -> DataSet:
        """All that the run knows, as data to train on."""
        data, _ = self.judged()
        if self.events is None or not len(self.events):
            return data
        if isinstance(data, InteractionData):
            return joined(data, self.events)[0]
        labels = labels_of(self.events["label"].tolist(), data)
        if isinstance(data, TextData):
            return with_texts(data, self.events["text"].tolist(), labels)
        return with_images(data, self.pixels, labels)

    def save(self, folder: Path) -> None:
        """Write the events into a child's folder, where the next update finds them."""
        if self.events is not None and len(self.events):
            self.events.to_parquet(folder / EVENTS, index=False)
        if self.pixels is not None:
            save_file({"pixels": np.ascontiguousarray(self.pixels)}, folder / PIXELS)


def lineage_of(folder: Path) -> Lineage:
    """Read a finished run and prepare its first ancestor's data again.

    Raises ConfigError where the run is not finished or is of a kind that takes no events, DataError where the data is
    no longer what it was.
    """
    manifest = read_manifest(folder)
    if (status := status_of(folder, manifest)) != "finished":
        raise ConfigError(f"{folder.name} is {status}, and only finished runs are updated.")
    config = manifest["config"]
    data: DataSet = build(with_content(config)["data"])
    named = type(data).__name__
    if not isinstance(data, (InteractionData, TextData, ImageData)) or "ensemble" in config["model"]["_target_"]:
        what = "an ensemble: update its members" if "ensemble" in config["model"]["_target_"] else f"of {named}"
        raise ConfigError(f"{folder.name} is {what}. Updated are runs on interactions, labelled texts and images.")
    data.setup(build(config["split"]), paths(config["paths"]))
    if not isinstance(data, InteractionData) and type(data.spec) not in (TextSpec, ImageSpec):
        raise ConfigError(f"{folder.name} answers with more than a label, and events have no more. Train it anew.")
    if config["task"]["_target_"].endswith(".Stream"):
        raise ConfigError(f"{folder.name} is a stream, which learns window after window by itself (task=stream).")
    for what, found in (("data", data.fingerprint), ("split", data.split_fingerprint)):
        if found != manifest[what]["fingerprint"]:
            raise DataError(
                f"{folder.name}: the {what} that it was trained on is no longer the same ({found[:8]}, not "
                f"{manifest[what]['fingerprint'][:8]}), so nothing can be added to it. Put the former files back, or "
                "train anew on all of it."
            )
    known = manifest.get("update") or {}
    events, pixels = _kept(folder, known.get("events") or 0)
    return Lineage(
        folder, manifest, data, events, pixels, *(tuple(known.get(name) or ()) for name in ("forgotten", "files"))
    )


def _kept(folder: Path, rows: int) -> tuple[pd.DataFrame | None, np.ndarray | None]:
    """The events of a child and its images, which are as many as the manifest says. Raises DataError otherwise."""
    again = f"{folder.name} has learnt {rows:,} events, which stand there. Copy the run again."
    try:
        events = pd.read_parquet(folder / EVENTS) if rows else None
        pixels = load_file(folder / PIXELS)["pixels"] if (folder / PIXELS).is_file() else None
    except FileNotFoundError:
        raise DataError(f"{folder / EVENTS} is missing. {again}") from None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"The events of {folder} cannot be read ({error}). {again}") from error
    if rows and (len(events) != rows or (pixels is not None and len(pixels) != rows)):
        raise DataError(f"{folder / EVENTS} has {len(events):,} rows. {again}")
    return events, pixels


def labels_of(labels: list[Any], data: TextData | ImageData) -> np.ndarray:
    """Labels as the data has them; multi-label: several in one field with | between. Raises DataError for an unknown
    one."""
    from marquee.data.labels import encode_labels

    names = list(data.spec.labels)
    given = [
        [part.strip() for part in str(label).split("|")] if data.spec.multilabel else str(label) for label in labels
    ]
    flat = [name for row in given for name in (row if data.spec.multilabel else [row])]
    if unknown := sorted(set(flat) - set(names)):
        raise DataError(
            f"The label {unknown[0]!r} is none of this run's: {', '.join(names[:20])}. A new class is a new model: "
            "train anew."
        )
    return encode_labels(given, names, data.spec.multilabel)
