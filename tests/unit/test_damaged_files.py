"""A damaged file is read, or it is said what is wrong with it; no reader lets an exception of its own through."""

import gzip
import io
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.images.decoding import decode_image
from marquee.data.images.mnist import Mnist, read_idx
from marquee.data.interactions.columns import read_interactions
from marquee.data.interactions.features import Features
from marquee.data.interactions.predefined import Files
from marquee.data.interactions.sequences import read_sequences
from marquee.data.interactions.splits import Ratio
from marquee.data.interactions.table import InteractionTable, read_titles
from marquee.data.records import read_labelled_lines, read_records
from marquee.errors import ConfigError, DataError, MarqueeError

PLAYS = "user,item,time\n" + "".join(f"{user},{user * 7 % 9 + step},{step}\n" for user in range(5) for step in range(5))
FRAME = pd.read_csv(io.StringIO(PLAYS))
COLUMNS = {"user": "user", "item": "item", "timestamp": "time"}
SPEC = {"channels": 1, "height": 4, "width": 4}


def parquet(frame):
    content = io.BytesIO()
    frame.to_parquet(content)
    return content.getvalue()


def labelled(path):
    (path.parent / "plays.csv").write_text(PLAYS)
    table = InteractionTable(path="plays.csv", columns=COLUMNS)
    table.setup(Files(labels=path.name), Paths(path.parent, path.parent / "cache"))


# By name of the file: its content when whole, and what reads it.
READERS = {
    "plays.csv": (PLAYS, lambda path: read_interactions(path, COLUMNS)),
    "plays.csv.gz": (gzip.compress(PLAYS.encode(), mtime=0), lambda path: read_interactions(path, COLUMNS)),
    "plays.parquet": (parquet(FRAME), lambda path: read_interactions(path, COLUMNS)),
    "ratings.dat": (PLAYS.replace(",", "::"), lambda path: read_interactions(path, {"user": 0, "item": 1}, "::",
                                                                             quoted=False)),
    "items.csv": ("item_id,title\n1,Heat\n2,Up\n", read_titles),
    "items.parquet": (parquet(pd.DataFrame({"item_id": [1], "title": ["Heat"]})), read_titles),
    "sequences.txt": ("1 2 3\n4 5 6\n", read_sequences),
    "labels.txt": ("0\n1\n2\n" + "0\n" * 22, labelled),
    "texts.csv": ("text,label\na film,good\n", lambda path: read_records(path, {"t": "text", "l": "label"})),
    "texts.csv.gz": (gzip.compress(b"text,label\na film,good\n", mtime=0),
                     lambda path: read_records(path, {"t": "text", "l": "label"})),
    "texts.jsonl": ('{"text": "a", "label": "b"}\n', lambda path: read_records(path, {"t": "text", "l": "label"})),
    "lines.txt": ("__label__good a film\n", read_labelled_lines),
    "digits-idx1-ubyte.gz": (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc", mtime=0), read_idx),
    "photo.pgm": (b"P5 4 4 255\n" + bytes(range(16)), lambda path: decode_image(path, SPEC)),
}  # fmt: skip

DAMAGE = {
    "half": lambda content: content[: len(content) // 2],
    "no UTF-8": lambda content: content[:-3] + b"caf\xe9" + content[-3:],
    "surrogate": lambda content: content[:-3] + b"\xed\xa0\x80" + content[-3:],
    "NUL bytes": lambda content: content[:20] + b"\0" * 9 + content[20:],
    "lone quote": lambda content: content[:18] + b'"' + content[18:],
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "old Mac lines": lambda content: content.replace(b"\n", b"\r"),
    "flipped bits": lambda content: content[:12] + bytes(byte ^ 0x55 for byte in content[12:]),
    "long number": lambda content: content[:-2] + b"9" * 400 + content[-2:],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_read_or_named(tmp_path, damage):
    for name, (content, read) in READERS.items():
        path = tmp_path / name
        path.write_bytes(DAMAGE[damage](content if isinstance(content, bytes) else content.encode()))
        try:
            read(path)
        except MarqueeError as error:
            assert name in str(error)


def test_the_readers_read_what_is_whole_and_old_line_ends(tmp_path):
    for name, (content, read) in READERS.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        read(tmp_path / name)
    (tmp_path / "old.csv").write_bytes(PLAYS.replace("\n", "\r").encode())
    pd.testing.assert_frame_equal(*(read_interactions(tmp_path / name, COLUMNS) for name in ("old.csv", "plays.csv")))


def test_a_byte_that_is_no_utf8_in_a_column_of_numbers_names_its_line(tmp_path):
    (tmp_path / "plays.csv").write_bytes(PLAYS.encode() + b"7,7,\xe9\n")
    with pytest.raises(DataError, match=r"line 27: byte 0xe9 is not utf-8.*data\.encoding=latin-1"):
        read_interactions(tmp_path / "plays.csv", COLUMNS)


def test_a_folder_of_that_name_is_no_file(tmp_path):
    (tmp_path / "plays.csv").mkdir()
    with pytest.raises(DataError, match=r"data\.path=plays\.csv was not found"):
        InteractionTable(path="plays.csv", columns=COLUMNS).setup(Ratio(), Paths(tmp_path, tmp_path / "cache"))


def test_a_damaged_npz_is_named_whichever_array_it_hits(tmp_path):
    (tmp_path / "mnist").mkdir()
    images, labels = np.zeros((9, 28, 28), np.uint8), np.arange(9, dtype=np.uint8) % 3
    whole = io.BytesIO()
    np.savez(whole, x_train=images, y_train=labels, x_test=images, y_test=labels)
    content = whole.getvalue()
    for place in range(30, len(content), len(content) // 12):
        (tmp_path / "mnist" / "mnist.npz").write_bytes(content[:place] + b"\xff" + content[place:])
        with suppress(MarqueeError):
            Mnist().setup(Holdout(), Paths(tmp_path, tmp_path / f"cache{place}"))


# Columns of Parquet that CSV does not have ---------------------------------------------------------------------------


def test_lists_dates_truths_and_missing_values_of_parquet_are_read_as_text(tmp_path, caplog):
    days = pd.to_datetime(["2020-01-02", None, "2021-03-04"])
    frame = pd.DataFrame({
        "item_id": [1.0, 2.0, 3.0], "title": ["Heat", None, "Up"], "genres": [["Crime", "Drama"], [], None],
        "released": days, "colour": [True, False, None], "length": [170.0, np.nan, 96.5],
        "cast": [{"lead": "x"}, None, None], "poster": [b"\xff", None, None],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "items.parquet")
    table = read_titles(tmp_path / "items.parquet")
    assert table.to_dict("list") == {
        "item_id": ["1", "2", "3"], "title": ["Heat", "", "Up"], "genres": ["Crime|Drama", "", ""],
        "released": ["2020-01-02 00:00:00", "", "2021-03-04 00:00:00"], "colour": ["True", "False", ""],
        "length": ["170", "", "96.5"],
    }  # fmt: skip
    assert "'cast' holds struct" in caplog.text and "'poster' holds binary" in caplog.text
    kinds = {"genres": "multi_hot", "colour": "categorical", "length": "dense"}
    encoded = Features.learn(table, kinds, "data.item_features").encode(table)
    assert encoded["genres"].tolist() == [[1, 1], [0, 0], [0, 0]] and encoded["colour"].tolist() == [2, 1, 0]
    # A person who asks later gives a list where the file had one.
    assert Features.learn(table, kinds, "").encode(pd.DataFrame({"genres": [["Drama"]]}))["genres"].tolist() == [[0, 1]]
    with pytest.raises(ConfigError, match=r"data\.item_features\.released: a dense feature holds numbers"):
        Features.learn(table, {"released": "dense"}, "data.item_features")
    with pytest.raises(ConfigError, match="there is no such column"):
        Features.learn(table, {"poster": "categorical"}, "data.item_features")
