"""Music with what it sounds like: artists that listeners of Last.fm played, with vectors of their tags and sounds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import read_interactions, read_table
from marquee.data.interactions.content import Content, FeatureSources, Side
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.joined import KnockOut
from marquee.data.sources import RawFile, find
from marquee.errors import DataError

ORIGIN = "github.com/swapUniba/multimodal_ml1m_dbbook_lfm2k (lfm2k)"
VECTORS = {
    "text": ("all-MiniLM-L6-v2.npy", "b21e98a91fc4ec11e879615f3c47b6f15bdb6e3b7c0d2a9cf0b8008ec83c46b0"),
    "audio": ("vggish.npy", "50dfedcc27f88929006bc4f425c94c55aa4bce177749b2f93e55fb3d8ac4018c"),
    "speech": ("whisper.npy", "2a2690ff74430711e5a9e22889b5b40cc1b931f6250f25501192d7d63cf98995"),
}
SHA256 = "a555d4b0bfabe0a11d1758c667eb9a29e574a60bd563848a73f5a6fccda1b0f9"
LISTED = 5  # tags of an artist that stand in its title


def _file(name: str, *sha256: str) -> RawFile:
    return RawFile((f"lfm2k-multimodal/{name}", name), sha256, origin=ORIGIN)


class LFM2KMultimodal(InteractionData):
    """56,345 pairs of 1,858 listeners and 1,425 artists in published parts, with three vectors of each artist.

    A cut of HetRec 2011 (Cantador et al.), with the vectors that its publishers (swapUniba, RecSys 2025) computed:
    `text`, 384 numbers of all-MiniLM-L6-v2 that read the artist's tags; `audio`, 128 of VGGish, and `speech`, 512 of
    Whisper, which heard the music. Artists have no names there, but tags: the first few are their titles.
    """

    name = "lfm2k_multimodal"

    def __init__(
        self,
        *,
        duplicates: Duplicates = "keep_last",
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(duplicates=duplicates, k_core=k_core, item_features=item_features, knock_out=knock_out)

    def sources(self, paths: Paths) -> dict[str, Path]:
        interactions = find(_file("lfm2k.inter", SHA256), paths, self.name)
        beside = {"original": "lfm2k_og_ids.inter.gz", "items": "lfm2k_text.tsv.gz"}
        found = {role: interactions.with_name(name) for role, name in beside.items()}
        return {"interactions": interactions} | ({} if any(not f.is_file() for f in found.values()) else found)

    def read_interactions(self, path: Path) -> pd.DataFrame:
        frame = read_interactions(path, {"user": "userID", "item": "itemID", "value": "x_label"}, "\t", quoted=False)
        return frame.rename(columns={"value": "label"}).astype({"label": np.int8})

    def read(self, sources: Mapping[str, Path]) -> Tables:
        frame = self.read_interactions(sources["interactions"])
        if "items" not in sources:
            return Tables(frame)
        original = self.read_interactions(sources["original"])
        if len(original) != len(frame):
            raise DataError(f"{sources['original']} has {len(original):,} lines, and lfm2k.inter {len(frame):,}.")
        # The same lines, so that line by line an id of the one is an id of the other.
        ids = pd.DataFrame({"item_id": frame["item"].astype(str), "artist": original["item"].astype(str)})
        tags = read_table(sources["items"], None, "\t", quoted=False)
        tags = tags.rename(columns={"artistID": "artist", "text": "tags"})
        items = ids.drop_duplicates().merge(tags[["artist", "tags"]], on="artist", how="left")
        return Tables(frame, items.assign(title=items["tags"].fillna("").map(_title)))

    def published(self, side: Side, paths: Paths) -> Mapping[str, Content]:
        """Row i of each file is the artist with itemID i, as its README says."""
        return _Vectors(paths) if side == "item" else {}


class _Vectors(Mapping[str, Content]):
    """Read where they are asked for."""

    def __init__(self, paths: Paths):
        self._paths = paths

    def __getitem__(self, name: str) -> Content:
        file = find(_file(*VECTORS[name]), self._paths, LFM2KMultimodal.name)
        try:
            vectors = np.load(file, allow_pickle=False).astype(np.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} is not the published array: {error}") from error
        return Content(np.arange(len(vectors)).astype(str).astype(object), {name: vectors}, {name: "vector"})

    def __iter__(self):
        return iter(VECTORS)

    def __len__(self) -> int:
        return len(VECTORS)


def _title(tags: str) -> str:
    return ", ".join(part.strip() for part in tags.split(",")[:LISTED])
