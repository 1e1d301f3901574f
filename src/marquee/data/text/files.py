"""Bring your own texts: a table with a text and a label column, or one file a class."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_labelled_lines, read_lines, read_records
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.tokenizer import Kind
from marquee.errors import ConfigError, DataError


class Texts(TextData):
    """Texts of one's own.

    path              a .csv, .tsv or .jsonl file, also .gz, with a text and a label column; or lines, as below
    files             instead of `path`: one file a class, one text a line ({positive: pos.txt, negative: neg.txt})
    test_path         an official test part in the same format as `path`; null cuts the test part from `path`
    label_first       lines without header that begin with a label, `2 a slow start` or `__label__name a slow start`
                      (SST, fastText)
    text, label       the columns' names
    delimiter         between columns; null goes by the file's name (.tsv: tab, otherwise comma)
    quoting           whether quotation marks enclose fields that hold the delimiter or line breaks
    label_separator   e.g. "|" where a text has several labels in one field; null for one label a text
    encoding          of the files
    attributes        further columns that results may be broken down by; read as words

    The other parameters are those of every text data set.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        files: dict[str, str] | None = None,
        test_path: str | None = None,
        label_first: bool = False,
        text: str = "text",
        label: str = "label",
        delimiter: str | None = None,
        quoting: bool = True,
        label_separator: str | None = None,
        encoding: str = "utf-8",
        attributes: list[str] | None = None,
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__(
            tokenizer=tokenizer,
            lowercase=lowercase,
            punctuation=punctuation,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
        )
        self.path, self.files, self.test_path, self.label_first = path, files, test_path, label_first
        self.text_column, self.label_column = text, label
        self.delimiter, self.quoting, self.label_separator = delimiter, quoting, label_separator
        self.encoding = encoding
        self.columns = list(attributes or [])

    def source(self, paths: Paths) -> TextSource:
        if (self.path is None) == (self.files is None):
            raise ConfigError(
                "data=texts needs data.path=FILE (a .csv, .tsv or .jsonl file) or data.files={label: FILE, ...} "
                "(one file a class), and not both."
            )
        named = dict(self.files) if self.files else {"path": self.path}
        if self.test_path:
            if self.files:
                raise ConfigError("data.test_path goes with data.path; with data.files the test part is cut from them.")
            named["test_path"] = self.test_path
        if self.columns and (self.files or self.label_first):
            raise ConfigError(
                "data.attributes names columns, and data.files and data.label_first read lines, which have none. "
                "Leave it away, or bring a table."
            )
        if "length" in self.columns:
            raise ConfigError("data.attributes: length is there of itself, in tokens. Rename the column.")
        found = {name: locate_text(path, paths) for name, path in named.items()}
        options = {name: getattr(self, name) for name in ("delimiter", "quoting", "label_separator", "encoding")}
        options |= {"text": self.text_column, "label": self.label_column}
        key = {
            "files": {name: file_sha256(path) for name, path in found.items()},
            "suffix": "".join(found.get("path", Path()).suffixes),
            "by_class": bool(self.files),
            **options,
        }
        if self.label_first:
            key["label_first"] = True
        if self.columns:
            key["attributes"] = self.columns
        return TextSource("texts", key, lambda: self._read(found), multilabel=self.label_separator is not None)

    def _read(self, found: dict[str, Path]) -> Corpus:
        if self.files:
            texts, labels = [], []
            for name, path in found.items():
                lines = read_lines(path, self.encoding)
                texts += lines
                labels += [name] * len(lines)
            return Corpus(texts, [[name] for name in labels] if self.label_separator else labels)
        texts, labels, columns = self._records(found["path"])
        if "test_path" not in found:
            return Corpus(texts, labels, attributes=columns)
        test_texts, test_labels, test_columns = self._records(found["test_path"])
        test = np.arange(len(texts) + len(test_texts)) >= len(texts)
        columns = {name: values + test_columns[name] for name, values in columns.items()}
        return Corpus(texts + test_texts, labels + test_labels, test, columns)

    def _records(self, path: Path) -> tuple[list[str], list[Any], dict[str, list[str]]]:
        """Texts, labels and further columns of one file."""
        if self.label_first:
            texts, labels = read_labelled_lines(path, self.encoding)
            if self.label_separator is not None:
                return texts, labels, {}
            if several := [" ".join(row) for row in labels if len(row) > 1]:
                raise DataError(
                    f"{path}: {len(several)} texts have several labels, the first has {several[0]}. "
                    'Type data.label_separator="|" for labels that go together.'
                )
            return texts, [row[0] for row in labels], {}
        columns = {"data.text": self.text_column, "data.label": self.label_column}
        columns |= {f"data.attributes.{place}": name for place, name in enumerate(self.columns)}
        hint = " Or type data.label_first=true where each line is a label and then its text."
        texts, labels, *others = read_records(path, columns, self.delimiter, self.quoting, self.encoding, hint)
        known = dict(zip(self.columns, others, strict=True))
        labels = [label.strip() for label in labels]
        missing = [row for row, label in enumerate(labels, start=1) if not label]
        if missing and self.label_separator is None:
            raise DataError(
                f"{path}: {len(missing)} of {len(texts)} records have no {self.label_column!r}, the first is record "
                f"{missing[0]}. Give each a label or take them out."
            )
        if self.label_separator is None:
            return texts, labels, known
        several = [[part.strip() for part in row.split(self.label_separator) if part.strip()] for row in labels]
        return texts, several, known


def locate_text(path: str, paths: Paths) -> Path:
    """A file of the user's: as given, else below `paths.data`."""
    for candidate in (Path(path).expanduser(), paths.data / path):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"The text file {path} does not exist. Looked for {Path(path).expanduser().absolute()} and {paths.data / path}."
    )
