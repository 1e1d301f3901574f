"""Labelled texts in CSV, TSV, JSON lines or plain lines; whatever is wrong is named with file and line."""

import csv
import gzip
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from marquee.errors import DataError

FASTTEXT = "__label__"


def read_text(path: Path, encoding: str) -> str:
    """The whole file, unpacked where it ends in .gz or .zip (with one file inside), without a byte-order mark."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".zip":
            content = _only_member(path)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}). It may be truncated; fetch it again.") from error
    if not content.strip():
        raise DataError(f"{path} is empty.")
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{content[error.start]:02x} is not valid {encoding}. Save the file as "
            "UTF-8; data of texts also take another encoding by name, for example data.encoding=iso-8859-1."
        ) from error
    except LookupError as error:
        raise DataError(f"data.encoding={encoding} is not known to Python; try utf-8 or iso-8859-1.") from error


def _only_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path} holds {len(members)} files, expected one. Unpack it and name the file.")
        return archive.read(members[0])


def read_lines(path: Path, encoding: str) -> list[str]:
    """One text a line."""
    lines = read_text(path, encoding).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.rstrip("\r") for line in lines]


def read_labelled_lines(path: Path, encoding: str = "utf-8") -> tuple[list[str], list[list[str]]]:
    """Texts and their labels from lines that begin with a label: `2 a slow start`, or one or more `__label__name` as
    fastText writes them. Spaces or tabs stand between; empty lines are skipped, a text may be empty.

    Raises DataError for a file without lines, and for one in which only some lines begin with `__label__`.
    """
    texts, labels, plain = [], [], []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        words, given = line.strip(), []
        if not words:
            continue
        while words.startswith(FASTTEXT):
            first, *rest = words.split(maxsplit=1)
            given.append(first.removeprefix(FASTTEXT))
            words = rest[0] if rest else ""
        if not given:
            plain.append(number)
            first, *rest = words.split(maxsplit=1)
            given, words = [first], rest[0] if rest else ""
        texts.append(words)
        labels.append(given)
    if not texts:
        raise DataError(f"{path} has no lines with a label and a text.")
    if 0 < len(plain) < len(texts):
        raise DataError(f"{path} line {plain[0]} does not begin with {FASTTEXT}, as other lines do.")
    return texts, labels


def read_records(
    path: Path,
    columns: Mapping[str, str],
    delimiter: str | None = None,
    quoting: bool = True,
    encoding: str = "utf-8",
    hint: str = "",
) -> list[list[str]]:
    """The wanted columns, each as a list of strings. `columns` maps the configuration key to the column's name.

    `hint` is what else may be typed where one of them is not there.
    """
    name = path.name.removesuffix(".gz")
    text = read_text(path, encoding)
    if name.endswith((".jsonl", ".ndjson")):
        rows = _json_rows(path, text, columns)
    else:
        rows = _table_rows(path, text, columns, delimiter or ("\t" if name.endswith(".tsv") else ","), quoting, hint)
    values = [list(column) for column in zip(*rows, strict=True)]
    if not values:
        raise DataError(f"{path} has no records.")
    return values


def _table_rows(
    path: Path, text: str, columns: Mapping[str, str], delimiter: str, quoting: bool, hint: str
) -> Iterator[tuple[str, ...]]:
    csv.field_size_limit(sys.maxsize)
    mode = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=mode, strict=quoting)
    header = next(reader)
    if repeated := {name for name in header if header.count(name) > 1}:
        raise DataError(f"{path} line 1: the column {min(repeated)!r} is there twice.")
    wanted = [_column(path, header, key, name, hint=hint) for key, name in columns.items()]
    width = len(header)
    try:
        for row in reader:
            if len(row) != width:
                if not row:
                    continue
                raise DataError(
                    f"{path} line {reader.line_num}: {len(row)} fields, expected {width} ({', '.join(header)}). "
                    "Correct the line; if quotation marks in the text are plain characters, type data.quoting=false."
                )
            yield tuple(row[i] for i in wanted)
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: {error}. "
            "If quotation marks in the text are plain characters, type data.quoting=false."
        ) from error


def _json_rows(path: Path, text: str, columns: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} line {number}: not a JSON object ({error}).") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} line {number}: expected a JSON object, found {type(record).__name__}.")
        names = list(record)
        found = [names[_column(path, names, *item, line=number)] for item in columns.items()]
        for name in found:
            if isinstance(record[name], (list, dict)):
                raise DataError(
                    f"{path} line {number}: {name!r} holds {json.dumps(record[name])[:60]}, expected one value. "
                    'Several labels are one text such as "a|b", with data.label_separator="|".'
                )
        yield tuple(_as_string(record[name]) for name in found)


def _as_string(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _column(path: Path, header: list[str], key: str, name: str, line: int = 1, hint: str = "") -> int:
    if name not in header:
        raise DataError(
            f"{path} line {line}: there is no column {name!r}. Columns seen: {', '.join(header)}. "
            f"Type {key}=COLUMN.{hint}"
        )
    return header.index(name)
