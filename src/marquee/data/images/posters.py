"""Movie posters, 102 by 150 pixels, with a genre (Comedy or Drama) or all of the movie's MovieLens genres.

A part of the public "movie genre from its poster" collection; the approach is that of Chu & Guo 2017, "Movie Genre
Classification based on Poster Images with Deep Neural Networks".
"""

import re
import zipfile
from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.images.dataset import ImageData, ImageSource
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.errors import DataError

NO_GENRES = ("", "(no genres listed)")


class Posters(ImageData):
    """`posters/posters.zip` with `posters/labels.csv` (file, imdb_id, label, ml_movie_id, ml_title, ml_genres, ...).

    After `setup` the attribute `decade` is that of the film, `unknown` for those that MovieLens does not have.

    labels         binary: Comedy or Drama, for every poster; genres: all of a movie's genres, for those that have them
    min_count      genres on fewer posters are left out, and listed
    height, width  pixels that every poster is stretched to
    max_corrupt    share of posters that may be unreadable; they are left out, named and counted
    """

    licence = "the posters belong to their studios; thumbnails for research use only"

    def __init__(
        self,
        *,
        labels: Literal["binary", "genres"] = "binary",
        min_count: Annotated[int, Ge(1)] = 50,
        height: Annotated[int, Ge(1)] = 150,
        width: Annotated[int, Ge(1)] = 150,
        max_corrupt: Annotated[float, Interval(ge=0, le=1)] = 0.01,
    ):
        super().__init__(height=height, width=width, channels=3, max_corrupt=max_corrupt)
        self.label_set = labels
        self.min_count = min_count

    def source(self, paths: Paths) -> ImageSource:
        archive = find(RawFile(("posters/posters.zip", "posters.zip")), paths, "posters")
        table = find(RawFile(("posters/labels.csv", "labels.csv")), paths, "posters")
        column = "label" if self.label_set == "binary" else "ml_genres"
        columns = {"file": "file", "label": column, "title": "ml_title", "movie": "ml_movie_id"}
        files, labels, titles, movies = read_records(table, columns)
        self._movies = dict(zip(files, movies, strict=True))
        try:
            content = zipfile.ZipFile(archive)
        except zipfile.BadZipFile as error:
            raise DataError(f"{archive} is not a whole zip archive ({error}). Put the original there.") from error
        known = set(content.namelist())
        if missing := [name for name in files if name not in known]:
            raise DataError(f"{archive} lacks {len(missing)} of the posters that {table} lists; first: {missing[0]}.")
        if self.label_set == "genres":
            labels = [None if row in NO_GENRES else row.split("|") for row in labels]

        def read(row: int) -> bytes:
            try:
                return content.read(files[row])
            except zipfile.BadZipFile as error:  # a member whose checksum is wrong: one corrupt image among others
                raise OSError(str(error)) from error

        return ImageSource(
            "posters",
            {"archive": file_sha256(archive), "files": file_sha256(table)},
            files,
            labels,
            read,
            multilabel=self.label_set == "genres",
            min_count=self.min_count,
            attributes={"decade": [decade(title) for title in titles]},
        )

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        """Items are the movies of MovieLens, which 4,069 of the posters show."""
        return {"item": [self._movies[name] for name in self.names]}


def decade(title: str) -> str:
    """The decade of the year that a MovieLens title ends with: `1990s` for "Toy Story (1995)", else `unknown`."""
    years = re.findall(r"\((\d{3})\d(?:\D\d{4}|\D)?\)", title)
    return f"{years[-1]}0s" if years else "unknown"
