"""The complete Tang poems: 57,607 poems in traditional characters, a poem a document."""

import gzip
import json
import zlib
from pathlib import Path

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.sources import RawFile, find
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.errors import DataError

RAW = RawFile(
    ("tang-poems/tang.jsonl.gz",),
    origin="poet.tang.*.json of github.com/chinese-poetry/chinese-poetry, a poem a line: author, title, paragraphs",
)


class Poems(TokenData):
    """The lines of each poem, without title and author.

    A poem that stands there twice is kept once, and empty ones are left out; both are counted.
    """

    licence = "the poems are in the public domain"
    form_name = "poems"
    copied_from = 6  # a line has five or seven characters

    def source(self, paths: Paths) -> TokenSource:
        path = find(RAW, paths, "poems")
        return TokenSource("poems", {"file": file_sha256(path)}, lambda: _read(path))


def _read(path: Path) -> Corpus:
    found: dict[str, str] = {}
    n = empty = 0
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}). Put the original there.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            poem = json.loads(line)
            text, title = "\n".join(poem["paragraphs"]), f"{poem['author']}: {poem['title']}"
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} line {number}: no poem with author, title and paragraphs ({error}).") from error
        n += 1
        empty += not text.strip()
        if text.strip():
            found.setdefault(text + "\n", title)
    report = {"poems read": n, "empty poems left out": empty, "repeated poems left out": n - empty - len(found)}
    return Corpus(list(found), list(found.values()), report=report)
