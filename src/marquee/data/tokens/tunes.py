"""The Nottingham collection: 1,034 folk tunes in ABC notation, a tune a document.

Cleaned by Seymour Shlien; licence GPL-3.
"""

import re

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_text
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.errors import DataError

FOLDER = "nottingham/ABC_cleaned"
START = re.compile(r"^X:", re.M)
# Remarks and where a tune comes from say nothing of how it goes; the tune's number says nothing at all.
SILENT = re.compile(r"^(?:%.*|S:.*|Z:.*|N:.*)\n", re.M)


class Nottingham(TokenData):
    """Tunes as they are written, without remarks, sources and numbers (each begins with `X:1`)."""

    form_name = "tunes"

    def source(self, paths: Paths) -> TokenSource:
        files = sorted((paths.data / FOLDER).glob("*.abc"))
        if not files:
            raise DataError(
                f"The data set nottingham needs {paths.data / FOLDER}/*.abc (github.com/jukedeck/nottingham-dataset). "
                "Put the folder there, or name another with paths.data=FOLDER or MARQUEE_DATA."
            )

        def read() -> Corpus:
            texts, titles = [], []
            for file in files:
                content = read_text(file, "utf-8").replace("\r\n", "\n")
                starts = [match.start() for match in START.finditer(content)]
                for begin, end in zip(starts, [*starts[1:], len(content)]):
                    tune = SILENT.sub("", content[begin:end]).strip()
                    head, _, rest = tune.partition("\n")
                    title = re.search(r"^T:\s*(.*)$", tune, re.M)
                    texts.append(f"X:1\n{rest}\n")
                    titles.append(f"{file.stem} {head.removeprefix('X:').strip()}: {title[1] if title else 'untitled'}")
            return Corpus(texts, titles)

        return TokenSource("nottingham", {file.name: file_sha256(file) for file in files}, read)
