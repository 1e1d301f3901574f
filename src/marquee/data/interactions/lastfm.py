"""Music: which of 17,632 artists 1,892 listeners of Last.fm played, and how often (HetRec 2011)."""

from pathlib import Path

import pandas as pd

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import read_interactions, read_table
from marquee.data.interactions.dataset import InteractionData
from marquee.data.sources import Archive, RawFile, find
from marquee.errors import DataError

HETREC = Archive("hetrec2011-lastfm-2k.zip", "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip")


class LastFmHetrec(InteractionData):
    """92,834 pairs of listener and artist; the value is the number of plays, from 1 to 352,698. There are no times.

    Cantador, Brusilovsky & Kuflik 2011, "2nd workshop on information heterogeneity and fusion in recommender systems".
    Names of artists are read where artists.dat is at hand, as it is in the published archive.
    """

    licence = "non-commercial use"
    name = "lastfm_hetrec"

    def sources(self, paths: Paths) -> dict[str, Path]:
        plays = ("lastfm-hetrec/user_artists.dat.gz", "lastfm-hetrec/user_artists.dat", "user_artists.dat")
        found = {"interactions": find(RawFile(plays, archive=HETREC, member="user_artists.dat"), paths, self.name)}
        artists = found["interactions"].with_name("artists.dat")
        return found | ({"items": artists} if artists.is_file() else {})

    def read_interactions(self, path: Path) -> pd.DataFrame:
        columns = {"user": "userID", "item": "artistID", "value": "weight"}
        return read_interactions(path, columns, "\t", quoted=False)

    def read_items(self, path: Path) -> pd.DataFrame:
        table = read_table(path, None, "\t", quoted=False)
        if not {"id", "name"} <= set(table.columns):
            raise DataError(f"{path} needs the columns id and name. Columns seen: {', '.join(table.columns)}.")
        return table[["id", "name"]].rename(columns={"id": "item_id", "name": "title"})
