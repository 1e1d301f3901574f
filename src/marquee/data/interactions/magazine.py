"""Shops: Amazon's magazine subscriptions, few interactions a user, in the split of the paper of infinite-AE."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from marquee.data.dataset import Paths
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.data.sources import RawFile, find
from marquee.errors import DataError

COLUMNS = {"user": "user", "item": "item", "rating": "value", "time": "timestamp", "split": "label"}


class AmazonMagazine(InteractionData):
    """89,689 ratings (1 to 5) of 2,428 magazines by 72,098 people, with times; 12,689 of 3,092 people are in the split.

    Ni, Li & McAuley 2019; the split (0 train, 1 validation, 2 test, -1 left out) is that of Sachdeva et al. 2022,
    "Infinite recommendation networks", which leaves out people with fewer than three ratings.
    """

    licence = "Amazon's terms for reviews; research use"
    name = "magazine"

    def sources(self, paths: Paths) -> dict[str, Path]:
        names = ("amazon-magazine/magazine.npz", "magazine.npz")
        origin = "the arrays of data/magazine in github.com/noveens/infinite_ae_cf, as user, item, rating, time, split"
        return {"interactions": find(RawFile(names, origin=origin), paths, self.name)}

    def read_interactions(self, path: Path) -> pd.DataFrame:
        try:
            with np.load(path, allow_pickle=False) as content:
                return pd.DataFrame({ours: content[theirs] for theirs, ours in COLUMNS.items()})
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{path} is not the published file: {error}. It needs the arrays {', '.join(COLUMNS)}."
            ) from error

    def read(self, sources: Mapping[str, Path]) -> Tables:
        return Tables(self.read_interactions(sources["interactions"]))
