"""Shops, restaurants and music as sequences: the five sets of the paper of S3-Rec, with what is known of the items."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import SEPARATOR, read_bytes
from marquee.data.interactions.content import FeatureSources
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.joined import KnockOut
from marquee.data.interactions.sequences import read_sequences
from marquee.data.sources import Archive, RawFile, find
from marquee.errors import DataError

ADDRESS = "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/master/data"
FILES = {
    "beauty": "Beauty", "sports": "Sports_and_Outdoors", "toys": "Toys_and_Games", "yelp": "Yelp", "lastfm": "LastFM"
}  # fmt: skip


class S3Rec(InteractionData):
    """One user a line, oldest item first, 5-core; the item table has `attributes` (brands, categories, tags; numbers).

    Zhou et al. 2020, "S3-Rec", CIKM, section 4.1. Users / items / interactions: beauty 22,363 / 12,101 / 198,502,
    sports 35,598 / 18,357 / 296,337, toys 19,412 / 11,924 / 167,597 (Amazon reviews, McAuley et al. 2015),
    yelp 30,431 / 20,033 / 316,354, lastfm 1,090 / 3,646 / 52,551.
    """

    ordered = True

    def __init__(
        self,
        *,
        subset: Literal["beauty", "sports", "toys", "yelp", "lastfm"],
        duplicates: Duplicates = "keep_all",
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(duplicates=duplicates, k_core=k_core, item_features=item_features, knock_out=knock_out)
        self.subset = subset

    @property
    def name(self) -> str:
        return f"s3rec_{self.subset}"

    def sources(self, paths: Paths) -> dict[str, Path]:
        def published(file: str) -> Path:
            raw = RawFile((f"s3rec/{file}.gz", f"s3rec/{file}"), archive=Archive(file, f"{ADDRESS}/{file}"))
            return find(raw, paths, self.name)

        stem = FILES[self.subset]
        return {"interactions": published(f"{stem}.txt"), "items": published(f"{stem}_item2attributes.json")}

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_sequences(path)

    def read_items(self, path: Path) -> pd.DataFrame:
        try:
            content: dict[str, list[int]] = json.loads(read_bytes(path))
            values = [SEPARATOR.join(map(str, attributes)) for attributes in content.values()]
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(f"{path} is not a JSON object of lists ({error}). Get it again.") from error
        return pd.DataFrame({"item_id": list(content), "attributes": values})
