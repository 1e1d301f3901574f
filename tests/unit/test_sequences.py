"""One user a line, oldest first: the format of the SASRec, S3-Rec and LightGCN repositories."""

import gzip

import pytest

from marquee.data.dataset import Paths
from marquee.data.interactions.predefined import Files
from marquee.data.interactions.sequences import SequenceFile, read_sequences
from marquee.data.interactions.splits import LeaveOneOut, Ratio
from marquee.data.interactions.timelines import GlobalTime
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError

TEXT = "2 7 9 7\n1 9 8 7 9\n"


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def ready(paths, content=TEXT, split=None, name="toy.txt", **options):
    content = content if isinstance(content, bytes) else content.encode()
    (paths.data / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    data = SequenceFile(path=name, **options)
    data.setup(split or LeaveOneOut(), paths)
    return data


def sequences(store):
    return {
        user: store.item_ids[store.items[start:end]].tolist()
        for user, start, end in zip(store.user_ids.tolist(), store.offsets[:-1], store.offsets[1:], strict=True)
    }


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        TEXT.strip(),
        "2\t7 9 7\n1\t9 8 7 9\n",
        "2 7  9 7 \r\n\r\n1 9 8 7 9\r\n",
        "2 7\n2 9\n2 7\n1 9\n1 8\n1 7\n1 9\n",  # one pair a line, as the BERT4Rec repository has it
    ],
    ids=["spaces", "no last newline", "tab and spaces", "blank lines and CRLF", "pairs"],
)
def test_the_order_in_the_line_is_the_order_of_the_history(paths, content):
    assert sequences(ready(paths, content).store) == {1: [9, 8, 7, 9], 2: [7, 9, 7]}
    assert sequences(ready(paths, content, name="toy.txt.gz").store) == {1: [9, 8, 7, 9], 2: [7, 9, 7]}


def test_the_last_item_is_tested_and_the_one_before_validates(paths):
    data = ready(paths)
    assert sequences(data.parts["test"]) == {1: [9], 2: [7]}
    assert sequences(data.parts["validation"]) == {1: [7], 2: [9]}
    assert data.spec == InteractionSpec(n_users=2, n_items=3)
    assert data.report["targets_seen_before"] == 2  # item 9 of user 1 and item 7 of user 2
    assert "targets_on_ties_share" not in data.report


def test_repetitions_may_be_dropped(paths):
    text = "1 9 8 7 9 6\n2 6 7 8\n"
    data = ready(paths, text, duplicates="keep_first")
    assert sequences(data.store)[1] == [9, 8, 7, 6] and data.report["dropped_duplicates"] == 1
    assert sequences(ready(paths, text, duplicates="keep_last").store)[1] == [8, 7, 9, 6]


def test_users_and_items_have_ids_of_their_own_kind(paths):
    data = ready(paths, "10 song-b song-a song-c\n9 song-a song-b song-c\n")
    assert data.store.user_ids.tolist() == [9, 10]
    assert data.store.item_ids.tolist() == ["song-a", "song-b", "song-c"]


def test_titles_from_a_movies_file(paths):
    (paths.data / "movies.dat").write_bytes("7::Café (1996)::Drama\n8::Heat::Crime\n9::Up::Comedy\n".encode("latin-1"))
    data = ready(paths, items_path="movies.dat")
    assert data.items["title"].tolist() == ["Café (1996)", "Heat", "Up"]


def test_a_line_without_items_is_no_interaction(paths):
    data = ready(paths, TEXT + "5\n")
    assert data.store.user_ids.tolist() == [1, 2] and data.report["read"] == 7


def test_train_and_test_files_make_a_split(paths):
    (paths.data / "test.txt").write_text("1 5\n2 8\n")
    data = ready(paths, split=Files(test="test.txt", validation_share=0))
    assert sequences(data.parts["test"]) == {1: [5], 2: [8]}
    assert sequences(data.history("test")) == {1: [9, 8, 7, 9], 2: [7, 9, 7]}


def test_time_is_refused_and_order_is_not(paths):
    assert len(ready(paths, split=Ratio()).parts["test"]) == 2
    with pytest.raises(ConfigError, match="split=global_time needs timestamps"):
        ready(paths, split=GlobalTime())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("user,item\n1,2\n", "no line has an item.*'user,item'.*data=interactions"),
        (b"1 2 3\n2 caf\xe9 4\n", "line 2: byte 0xe9 is not UTF-8"),
    ],
    ids=["empty", "blank", "commas", "encoding"],
)
def test_a_bad_file_is_refused_with_the_place(paths, content, message):
    with pytest.raises(DataError, match=message):
        ready(paths, content)


def test_a_truncated_gzip_is_refused(paths):
    (paths.data / "toy.txt.gz").write_bytes(gzip.compress(TEXT.encode() * 99)[:-20])
    with pytest.raises(DataError, match=r"toy\.txt\.gz is not a whole gzip file"):
        read_sequences(paths.data / "toy.txt.gz")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("ml-1m/sequences.txt.gz", 6_040, 3_416, 999_611),
        ("s3rec/Beauty.txt.gz", 22_363, 12_101, 198_502),
        ("s3rec/Sports_and_Outdoors.txt.gz", 35_598, 18_357, 296_337),
        ("s3rec/Toys_and_Games.txt.gz", 19_412, 11_924, 167_597),
        ("s3rec/Yelp.txt.gz", 30_431, 20_033, 316_354),
        ("s3rec/LastFM.txt.gz", 1_090, 3_646, 52_551),
    ],
)
def test_published_sequences_have_the_published_counts(real_data, tmp_path, name, users, items, interactions):
    data = SequenceFile(path=name)
    data.setup(LeaveOneOut(), Paths(real_data, tmp_path))
    assert (data.store.n_users, data.store.n_items, len(data.store)) == (users, items, interactions)
    assert len(data.parts["test"]) == users


@pytest.mark.real_data
def test_gowalla_has_the_split_of_the_lightgcn_paper(real_data, tmp_path):
    data = SequenceFile(path="gowalla/train.txt.gz")
    data.setup(Files(test="gowalla/test.txt.gz", validation_share=0), Paths(real_data, tmp_path))
    assert (data.store.n_users, data.store.n_items) == (29_858, 40_981)
    assert (len(data.parts["train"]), len(data.parts["test"])) == (810_128, 217_242)
