"""The MovieLens data sets of GroupLens (Harper & Konstan 2015, TiiS 5(4)): 100K to 32M, and latest-small."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import read_interactions, read_table
from marquee.data.interactions.content import FeatureSources
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.joined import KnockOut
from marquee.data.sources import Archive, RawFile, find
from marquee.errors import ConfigError, DataError

ADDRESS = "https://files.grouplens.org/datasets/movielens"
# The md5 sums are those that GroupLens publishes beside its archives. latest-small has none there, because it may be
# renewed; the sha256 is that of the edition of September 2018, as TensorFlow Datasets pins it.
ML_100K = Archive("ml-100k.zip", f"{ADDRESS}/ml-100k.zip", md5="0e33842e24a9c977be4e0107933c0723")
ML_1M = Archive("ml-1m.zip", f"{ADDRESS}/ml-1m.zip", md5="c4d9eecfca2ab87c1945afe126590906")
ML_10M = Archive("ml-10m.zip", f"{ADDRESS}/ml-10m.zip", md5="ce571fd55effeba0271552578f2648bd")
ML_20M = Archive("ml-20m.zip", f"{ADDRESS}/ml-20m.zip", md5="cd245b17a1ae2cc31bb14903e1204af3")
ML_25M = Archive("ml-25m.zip", f"{ADDRESS}/ml-25m.zip", md5="6b51fb2759a8657d3bfcbfc42b592ada")
ML_32M = Archive("ml-32m.zip", f"{ADDRESS}/ml-32m.zip", md5="d472be332d4daa821edc399621853b57")
ML_LATEST_SMALL = Archive(
    "ml-latest-small.zip",
    f"{ADDRESS}/ml-latest-small.zip",
    sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
)


def _file(archive: Archive, name: str, *sha256: str, folder: str | None = None) -> RawFile:
    """A member of an archive, looked for in the archive's own folder (by default named as the archive), or bare."""
    member = f"{folder or archive.name.removesuffix('.zip')}/{name}"
    return RawFile((member, name), sha256, archive, member)


def _with_ages(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    ages = pd.to_numeric(table["age"], errors="coerce")
    if ages.isna().any():
        row = int(ages.isna().to_numpy().argmax())
        raise DataError(f"{path}, line {row + 1}: the age {table['age'][row]!r} is no number.")
    return table.assign(age=ages.astype(int))


class MovieLens(InteractionData):
    """Base of them all. Files must be as published, byte for byte; others can be read as `data=interactions`.

    ties  the order of a user's ratings of the same second: `file`, that of the lines; `random`, another, the same in
          every run. Many ratings share a second, so that this decides which of them is the last. A sort that is not
          stable is somewhere between; the lines of u.data are in random order themselves. Needs times
    """

    files: ClassVar[dict[str, RawFile]]

    def __init__(
        self,
        *,
        ties: Literal["file", "random"] = "file",
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        user_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(
            duplicates=duplicates, min_rating=min_rating, k_core=k_core, item_features=item_features,
            user_features=user_features, knock_out=knock_out,
        )  # fmt: skip
        self.ties = ties

    def read(self, sources: Mapping[str, Path]) -> Tables:
        tables = super().read(sources)
        if self.ties == "file":
            return tables
        if "timestamp" not in tables.interactions:
            raise ConfigError(
                "data.ties=random is about ratings of the same second, and the ratings at hand have no times.\n"
                "  fix: data.ties=file"
            )
        # The sort by time is stable, so that rows in random order are what makes ties random.
        shuffled = tables.interactions.sample(frac=1, random_state=0, ignore_index=True)
        return tables._replace(interactions=shuffled)

    def _parameters(self) -> dict[str, Any]:
        found = super()._parameters()
        if self.ties == "file":  # fingerprints of earlier versions know of no other
            del found["ties"]
        return found

    def sources(self, paths: Paths) -> dict[str, Path]:
        return {role: find(raw, paths, self.name) for role, raw in self.files.items()}


class MovieLens100K(MovieLens):
    """100,000 ratings (1 to 5) of 1,682 movies by 943 users, 1997 to 1998, with times."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_100k"
    recorded_as = "marquee.data.movielens.MovieLens100K"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(ML_100K, "u.data", "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
        "items": _file(ML_100K, "u.item", "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"),
        "users": _file(ML_100K, "u.user", "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
    }
    genres = (
        "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
        "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
    )  # fmt: skip

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_interactions(path, {"user": 0, "item": 1, "value": 2, "timestamp": 3}, "\t", quoted=False)

    def read_items(self, path: Path) -> pd.DataFrame:
        names = ["item_id", "title", "released", "video", "url", *self.genres]
        table = read_table(path, names, "|", encoding="latin-1", quoted=False)
        flags = table[list(self.genres)].to_numpy() == "1"
        genres = ["|".join(np.compress(row, self.genres)) for row in flags]
        return table[["item_id", "title", "released"]].assign(genres=genres)

    def read_users(self, path: Path) -> pd.DataFrame:
        names = ["user_id", "age", "gender", "occupation", "zip"]
        return _with_ages(path, read_table(path, names, "|", encoding="latin-1", quoted=False))


class MovieLens1M(MovieLens):
    """1,000,209 ratings (1 to 5) of 3,706 movies by 6,040 users, 2000 to 2003.

    The official ratings.dat has four fields. Copies with three, without the timestamp, are read too; protocols that
    need time then refuse.
    """

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_1m"
    recorded_as = "marquee.data.movielens.MovieLens1M"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(
            ML_1M,
            "ratings.dat",
            "506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",  # official, four fields
            "2dad134c8b493373beed8d2a42e18ec2a93606fd957bd76c0bfbdef5c514b985",  # the same lines without timestamp
        ),
        "items": _file(ML_1M, "movies.dat", "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
        "users": _file(ML_1M, "users.dat", "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
    }

    def read_interactions(self, path: Path) -> pd.DataFrame:
        columns = {"user": 0, "item": 1, "value": 2}
        with open(path, "rb") as file:
            fields = file.readline().split(b"::")
        if len(fields) == 4:
            columns["timestamp"] = 3
        return read_interactions(path, columns, "::", quoted=False)

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_table(path, ["item_id", "title", "genres"], "::", encoding="latin-1", quoted=False)

    def read_users(self, path: Path) -> pd.DataFrame:
        names = ["user_id", "gender", "age", "occupation", "zip"]
        return _with_ages(path, read_table(path, names, "::", encoding="latin-1", quoted=False))


class MovieLens10M(MovieLens):
    """10,000,054 ratings (0.5 to 5) of 10,677 movies by 69,878 users, 1995 to 2009, with times."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_10m"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(ML_10M, "ratings.dat", folder="ml-10M100K"),
        "items": _file(ML_10M, "movies.dat", folder="ml-10M100K"),
    }

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_interactions(path, {"user": 0, "item": 1, "value": 2, "timestamp": 3}, "::", quoted=False)

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_table(path, ["item_id", "title", "genres"], "::", quoted=False)


class MovieLensCsv(MovieLens):
    """Base of those with ratings.csv and movies.csv."""

    def read_interactions(self, path: Path) -> pd.DataFrame:
        columns = {"user": "userId", "item": "movieId", "value": "rating", "timestamp": "timestamp"}
        return read_interactions(path, columns, ",")

    def read_items(self, path: Path) -> pd.DataFrame:
        return read_table(path, None, ",").rename(columns={"movieId": "item_id"})


class MovieLens20M(MovieLensCsv):
    """20,000,263 ratings (0.5 to 5) of 26,744 movies by 138,493 users, 1995 to 2015, with times."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_20m"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(ML_20M, "ratings.csv"), "items": _file(ML_20M, "movies.csv")
    }  # fmt: skip


class MovieLens25M(MovieLensCsv):
    """25,000,095 ratings (0.5 to 5) of 59,047 movies by 162,541 users, 1995 to 2019, with times."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_25m"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(ML_25M, "ratings.csv"), "items": _file(ML_25M, "movies.csv")
    }  # fmt: skip


class MovieLens32M(MovieLensCsv):
    """32,000,204 ratings (0.5 to 5) of 84,432 movies by 200,948 users, 1995 to 2023, with times."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_32m"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(ML_32M, "ratings.csv"), "items": _file(ML_32M, "movies.csv")
    }  # fmt: skip


class MovieLensLatestSmall(MovieLensCsv):
    """100,836 ratings (0.5 to 5) of 9,724 movies by 610 users, 1996 to 2018 (the edition of September 2018)."""

    licence = "GroupLens terms: research use, no redistribution and no commercial use without permission"
    name = "movielens_latest_small"
    recorded_as = "marquee.data.movielens.MovieLensLatestSmall"
    files: ClassVar[dict[str, RawFile]] = {
        "interactions": _file(
            ML_LATEST_SMALL, "ratings.csv", "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646"
        ),
        "items": _file(
            ML_LATEST_SMALL, "movies.csv", "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07"
        ),
    }
