"""Events of a file for a run: interactions for recommenders, labelled texts or images for classifiers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marquee.apply.updating.lineage import Lineage, labels_of
from marquee.data.cache import file_sha256
from marquee.data.images import growing as images
from marquee.data.images.decoding import decode_image
from marquee.data.interactions.columns import read_table
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.events import read_events
from marquee.data.interactions.growing import joined
from marquee.data.text import growing as texts
from marquee.data.text.dataset import TextData
from marquee.errors import DataError

SHOWN = 3
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass
class Arrived:
    """A run's lineage with the events of a file, and what became of them."""

    lineage: Lineage
    report: dict[str, Any]

    def lines(self) -> list[str]:
        """The report in words."""
        counts = ", ".join(
            f"{value:,} {name.replace('_', ' ')}" for name, value in self.report.items() if value or name == "rows"
        )
        return [f"events: {counts}"]


def arrived(path: Path, former: Lineage) -> Arrived:
    """Read, check and add the events. Raises DataError for what cannot be added."""
    root, now = former.root, former.now()
    if file_sha256(path) in former.files:
        raise DataError(f"{path}: {former.folder.name} has learnt just these events already, or a run before it has.")
    if isinstance(root, InteractionData):
        events = read_events(path, now)
        _, found = joined(now, events.rows)
        rows = events.rows if former.events is None else pd.concat([former.events, events.rows], ignore_index=True)
        new = len(events.rows) - found["known_before"] - found.get("withdrawn", 0)
        if not new and not found["replaced"]:
            raise DataError(
                f"{path}: the run knows all {len(events.rows):,} events already, so there is nothing to learn."
            )
        return Arrived(replace(former, events=rows), {"rows": len(events.rows), **events.report, **found})
    kind = "text" if isinstance(root, TextData) else "image"
    frame = _labelled(path, kind)
    labels_of(frame["label"].tolist(), root)
    report: dict[str, Any] = {"rows": len(frame)}
    pixels = None
    if kind == "text":
        twice = frame.duplicated(["text"])
        leak = texts.copies(root, frame["text"].tolist())
    else:
        content = {"channels": root.channels, "height": root.height, "width": root.width}
        places = [Path(name) if Path(name).is_absolute() else path.parent / name for name in frame["image"]]
        pixels = np.stack([decode_image(place, content) for place in places])
        twice = frame.duplicated(["image"])
        leak = images.copies(root, pixels)
    if leak.any():
        named = "; ".join(repr(value[:60]) for value in frame.loc[leak, kind].head(SHOWN))
        raise DataError(
            f"{path}: {int(leak.sum()):,} of {len(frame):,} {kind}s stand in the run's validation or test part "
            f"({named}). To train on them would leak what the run is judged by. Take them out of the file."
        )
    report["duplicates"] = int(twice.sum())
    frame = frame[~twice.to_numpy()].reset_index(drop=True)
    if pixels is not None:
        pixels = pixels[~twice.to_numpy()]
        pixels = pixels if former.pixels is None else np.concatenate([former.pixels, pixels])
        frame = frame[["label"]]
    rows = frame if former.events is None else pd.concat([former.events, frame], ignore_index=True)
    return Arrived(replace(former, events=rows, pixels=pixels), report)


def _labelled(path: Path, kind: str) -> pd.DataFrame:
    """A table of inputs with labels, as text."""
    if path.suffix not in ENDINGS:
        raise DataError(f"--events {path}: unknown ending {path.suffix!r}; read are {', '.join(ENDINGS)}.")
    try:
        frame = pd.read_json(path, lines=True, dtype=str) if path.suffix == ".jsonl" else read_table(path, None, None)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if missing := [name for name in (kind, "label") if name not in frame]:
        raise DataError(
            f"{path} has no column {missing[0]}: this run classifies {kind}s. Columns seen: "
            f"{', '.join(map(str, frame.columns))}; wanted: {kind}, label."
        )
    if frame.empty:
        raise DataError(f"{path} holds no events.")
    wanted = frame[[kind, "label"]]
    if (
        blank := (wanted.isna() | (wanted.astype(str).apply(lambda column: column.str.strip()) == "")).any(axis=1)
    ).any():
        raise DataError(f"{path}, event {int(blank.to_numpy().argmax()) + 1}: the {kind} or its label is missing.")
    return wanted.astype(str)
