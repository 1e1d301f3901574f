"""IMDb reviews with positive or negative sentiment: 25,000 to train and 25,000 to test, by the official split.

Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis", ACL.
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_lines
from marquee.data.sources import Archive, RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.errors import DataError

ORIGINAL = Archive(
    "aclImdb_v1.tar.gz",
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    md5="7c2ac02c03563afcf9b574c7e56c153a",
)
HEADER = ["id", "split", "label", "rating", "text"]


class Imdb(TextData):
    """Long reviews of films, by the official split.

    Read from `imdb/train.tsv.gz` and `imdb/test.tsv.gz` (id, split, label, rating, text; no quoting) or the original.
    """

    licence = "none stated; the reviews belong to their authors, research use"

    def source(self, paths: Paths) -> TextSource:
        tables = [paths.data / "imdb" / f"{part}.tsv.gz" for part in ("train", "test")]
        if all(path.is_file() for path in tables):
            key = {"tables": [file_sha256(path) for path in tables]}
            return TextSource("imdb", key, lambda: _read_tables(tables))
        names = ("imdb/train.tsv.gz", "imdb/aclImdb_v1.tar.gz", "aclImdb_v1.tar.gz")
        archive = find(RawFile(names[1:], archive=ORIGINAL), paths, "imdb")
        return TextSource("imdb", {"archive": file_sha256(archive)}, lambda: _read_archive(archive))


def _read_tables(tables: list[Path]) -> Corpus:
    texts, labels, sizes = [], [], []
    for path in tables:
        header, *lines = read_lines(path, "utf-8")
        if header.split("\t") != HEADER:
            raise DataError(f"{path} line 1: the header is {header[:80]!r}, expected {' '.join(HEADER)} between tabs.")
        for number, line in enumerate(lines, start=2):
            fields = line.split("\t")
            if len(fields) != len(HEADER):
                raise DataError(f"{path} line {number}: {len(fields)} fields, expected {len(HEADER)} between tabs.")
            if fields[2] not in ("neg", "pos"):
                raise DataError(f"{path} line {number}: the label is {fields[2]!r}, expected neg or pos.")
            labels.append(fields[2])
            texts.append(fields[4])
        sizes.append(len(lines))
    return Corpus(texts, labels, np.repeat([False, True], sizes))


def _read_archive(archive: Path) -> Corpus:
    """Straight from the tar stream: unpacking its 100,000 small files would cost more than reading them."""
    rows = []
    try:
        with tarfile.open(archive, "r|gz") as content:
            for member in content:
                parts = member.name.split("/")
                if member.isfile() and len(parts) == 4 and parts[1] in ("train", "test") and parts[2] in ("neg", "pos"):
                    text = content.extractfile(member).read().decode("utf-8")
                    rows.append((parts[1] == "test", parts[2], int(parts[3].split("_")[0]), text))
    except (tarfile.TarError, zlib.error, EOFError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{archive} is damaged ({error}). Delete it and try again.") from error
    if not rows:
        raise DataError(f"{archive} holds no aclImdb/train/pos/*.txt; it is not the published aclImdb_v1.tar.gz.")
    rows.sort(key=lambda row: row[:3])
    return Corpus([row[3] for row in rows], [row[1] for row in rows], np.array([row[0] for row in rows]))
