"""Columns in, one sorted store out: ids, order, filters with counts, files a person brings, and what they get wrong."""

import gzip
import json
import logging

import numpy as np
import pandas as pd
import pytest

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import read_interactions
from marquee.data.interactions.filters import k_core, without_duplicates
from marquee.data.interactions.known import from_inference
from marquee.data.interactions.splits import LeaveOneOut, Ratio
from marquee.data.interactions.store import Interactions
from marquee.data.interactions.table import InteractionTable
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError

COLUMNS = {"user": "user", "item": "item", "value": "rating", "timestamp": "time"}
CSV = """user,item,rating,time
7,30,5,100
9,10,4,50
7,10,3,90
9,20,2,60
7,20,1,90
9,30,5,70
"""


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def module(paths, text=CSV, name="plays.csv", **options):
    content = text if isinstance(text, bytes) else text.encode()
    (paths.data / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return InteractionTable(**({"path": name, "columns": COLUMNS} | options))


def ready(paths, text=CSV, split=None, **options):
    data = module(paths, text, **options)
    data.setup(split or LeaveOneOut(), paths)
    return data


# The store ----------------------------------------------------------------------------------------------------------


def test_rows_are_sorted_by_user_time_and_row(paths):
    store = ready(paths).store
    # By hand: user 7 has item 10 and then 20 at time 90, in the order of the file, and 30 at 100.
    assert store.user_ids.tolist() == [7, 9] and store.item_ids.tolist() == [10, 20, 30]
    assert store.users.tolist() == [0, 0, 0, 1, 1, 1]
    assert store.items.tolist() == [0, 1, 2, 0, 1, 2]
    assert store.timestamps.tolist() == [90, 90, 100, 50, 60, 70]
    assert store.values.tolist() == [3, 1, 5, 4, 2, 5]
    assert store.offsets.tolist() == [0, 3, 6]
    dtypes = [store.users.dtype, store.items.dtype, store.timestamps.dtype, store.values.dtype, store.offsets.dtype]
    assert dtypes == [np.int32, np.int32, np.int64, np.float32, np.int64]


def test_timestamps_keep_every_second(paths):
    # float32 has a spacing of 128 s here, which would tie the two and keep the file's order.
    text = "user,item,rating,time\n1,10,1,1600000001\n1,20,1,1600000000\n1,30,1,1600000002\n"
    assert ready(paths, text).store.items.tolist() == [1, 0, 2]


def test_history_is_what_may_be_known(paths):
    data = ready(paths, CSV + "7,40,5,110\n")
    assert data.parts["train"].items.tolist() == [0, 1, 0]
    assert data.history("validation").items.tolist() == [0, 1, 0]
    assert data.history("test").items.tolist() == [0, 1, 2, 0, 1]
    assert data.history("test").offsets.tolist() == [0, 3, 5]
    assert len(data.history("train")) == 0
    assert data.spec == InteractionSpec(n_users=2, n_items=4, has_timestamps=True, has_values=True)


def test_arrays_from_the_cache_are_plain_and_writable_in_memory_only(paths):
    data = ready(paths)
    data.store.items[0] = 2
    assert type(data.store.items) is np.ndarray
    again = module(paths)
    again.setup(LeaveOneOut(), paths)
    assert again.store.items[0] == 0


def test_ids_stay_as_given(paths):
    text = "user,item,rating,time\n007,b,1,1\nann,a,1,2\nann,10,1,3\n"
    store = ready(paths, text, split=Ratio(validation=0)).store
    assert store.user_ids.tolist() == ["007", "ann"] and store.item_ids.tolist() == ["10", "a", "b"]


def test_ids_that_are_all_numbers_sort_as_numbers(paths):
    text = "user,item,rating,time\n1,100,1,1\n1,20,1,2\n1,3,1,3\n"
    assert ready(paths, text).store.item_ids.tolist() == [3, 20, 100]


def stored(values, path, kind):
    """The ids of a file with one user a row, who has met items 1 to 3."""
    frame = pd.DataFrame({"user": values, "item": [1, 2, 3] * (len(values) // 3)})
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    return Interactions.from_frame(read_interactions(path, {"user": "user", "item": "item"}))[0].user_ids.tolist()


IDS = {
    "floats": ([1.0, 2.0, 10.0], [1, 2, 10]),
    "fractions": ([1.0, 1.5, 10.0], ["1", "1.5", "10"]),
    "minus zero": ([-0.0, 0.0, 3.0], [0, 3]),
    "beyond int64": (np.array([2**64 - 1, 2**63, 5], dtype=np.uint64), [str(2**63), str(2**64 - 1), "5"]),
    "unsigned": (np.array([7, 5, 5], dtype=np.uint64), [5, 7]),
    "two ways": (["1", "1.0", "01"], ["01", "1"]),
}


@pytest.mark.parametrize(("values", "ids"), IDS.values(), ids=IDS.keys())
def test_an_id_is_the_same_in_csv_in_parquet_and_in_a_frame(tmp_path, values, ids):
    assert stored(values, tmp_path / "plays.csv", "csv") == sorted(ids)
    assert stored(values, tmp_path / "plays.parquet", "parquet") == sorted(ids)
    frame = pd.DataFrame({"user": values, "item": [1, 2, 3]})
    assert Interactions.from_frame(frame)[0].user_ids.tolist() == sorted(ids)


def test_a_table_of_items_knows_ids_that_are_written_as_floats(paths):
    (paths.data / "items.csv").write_text("item_id,title\n10.0,Heat\n20,\n30.0, \n")
    data = ready(paths, items_path="items.csv")
    assert data.items["title"].tolist() == ["Heat", "20", "30"] and data.report["items_without_title"] == 2


def test_rows_may_be_the_order_in_time(paths):
    """SASRec's own files: pairs, oldest first within a user, no header, no times; users may be mixed."""
    text = "1 30\n2 10\n1 10\n1 20\n2 30\n2 20\n"
    options = {"columns": {"user": 0, "item": 1}, "separator": " "}
    with pytest.raises(ConfigError, match=r"split=leave_one_out.*data\.ordered=true"):
        ready(paths, text, **options)
    data = ready(paths, text, **options, ordered=True)
    assert data.store.item_ids[data.parts["test"].items].tolist() == [20, 20]
    assert data.store.item_ids[data.parts["validation"].items].tolist() == [10, 30]
    unordered = ready(paths, text, split=Ratio(), **options)
    assert unordered.fingerprint != data.fingerprint and "ordered" not in unordered._parameters()
    with pytest.raises(ConfigError, match=r"data\.ordered=true: .*data\.columns\.timestamp=time"):
        module(paths, ordered=True)


# Filters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "kept"), [("keep_last", [1, 3]), ("keep_first", [2, 1]), ("keep_all", [2, 1, 3])])
def test_duplicates_are_told_by_time_not_by_row(rule, kept):
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [8, 8, 9], "timestamp": [30, 10, 20], "value": [3.0, 2.0, 1.0]})
    store, report = Interactions.from_frame(frame, duplicates=rule)
    assert store.values.tolist() == kept
    assert report["dropped_duplicates"] == 3 - len(kept)


def test_duplicates_without_time_are_told_by_row():
    users, items = np.array([0, 0, 0]), np.array([1, 1, 1])
    assert without_duplicates(users, items, None, "keep_last").tolist() == [False, False, True]
    assert without_duplicates(users, items, None, "keep_first").tolist() == [True, False, False]


def test_a_changed_rating_counts_as_the_user_left_it():
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [8, 8, 9], "timestamp": [1, 2, 3], "value": [5.0, 1.0, 4.0]})
    store, report = Interactions.from_frame(frame, min_rating=4)
    assert store.item_ids.tolist() == [9]
    assert (report["dropped_duplicates"], report["dropped_min_rating"]) == (1, 1)


def test_k_core_goes_on_until_nothing_starves():
    # By hand, k = 2: item 3 has one user, so user 2 is left with one item, so item 2 is left with one user.
    users = np.array([0, 0, 1, 1, 0, 2, 2])
    items = np.array([0, 1, 0, 1, 2, 2, 3])
    assert k_core(users, items, 2).tolist() == [True, True, True, True, False, False, False]
    assert k_core(users, items, 1).all()


def test_everything_dropped_is_counted(paths):
    text = CSV + "8,10,5,10\n7,30,5,101\n9,40,1,80\n"
    data = ready(paths, text, split=Ratio(validation=0), min_rating=2, k_core=2)
    wanted = {
        "read": 9,
        "dropped_duplicates": 1,  # 7,30
        "dropped_min_rating": 2,  # 7,20 and 9,40
        "dropped_k_core": 2,  # 8,10, and then 9,20
        "users": 2,
        "items": 2,
        "interactions": 4,
    }
    assert {name: data.report[name] for name in wanted} == wanted
    with pytest.raises(DataError, match="No interaction is left"):
        ready(paths, text, k_core=10)


def test_minimum_rating_needs_ratings(paths):
    with pytest.raises(DataError, match=r"data\.min_rating=4.*no ratings"):
        ready(paths, min_rating=4, columns={"user": "user", "item": "item"})


# Files --------------------------------------------------------------------------------------------------------------


def test_csv_tsv_gzip_parquet_and_odd_separators_give_the_same_store(paths):
    reference = ready(paths).store
    frame = pd.read_csv(paths.data / "plays.csv")
    frame.to_parquet(paths.data / "plays.parquet")
    bare = "\n".join(CSV.splitlines()[1:])
    positions = {"user": 0, "item": 1, "value": 2, "timestamp": 3}
    others = [
        ready(paths, CSV.replace(",", "\t"), name="plays.tsv"),
        ready(paths, CSV.replace(",", "\t"), name="plays.tsv.gz"),
        ready(paths, CSV.replace(",", "::"), name="plays.dat", separator="::"),
        ready(paths, bare, name="bare.csv", columns=positions),
        ready(paths, "\ufeff" + CSV.replace("\n", "\r\n")),
        ready(paths, CSV.encode("utf-16"), encoding="utf-16"),
    ]
    parquet = InteractionTable(path="plays.parquet", columns=COLUMNS)
    parquet.setup(LeaveOneOut(), paths)
    for data in [*others, parquet]:
        for name in ("users", "items", "timestamps", "values", "user_ids", "item_ids"):
            assert getattr(data.store, name).tolist() == getattr(reference, name).tolist(), name


def test_dates_become_seconds(paths):
    text = "user,item,rating,time\n1,1,1,1970-01-01 00:01:00\n1,2,1,1970-01-02\n1,3,1,1970-01-01T00:00:01\n"
    assert ready(paths, text).store.timestamps.tolist() == [1, 60, 86400]
    stamps = ["1970-01-01T00:00:01.5Z", "1970-01-01T00:00:01.25Z", "1970-01-01T00:00:02Z"]
    text = "user,item,rating,time\n" + "".join(f"1,{i},1,{stamp}\n" for i, stamp in enumerate(stamps))
    assert ready(paths, text).store.timestamps.tolist() == [1_250_000, 1_500_000, 2_000_000]


def test_the_path_is_relative_to_here_then_to_the_data_folder(paths, tmp_path, monkeypatch):
    ready(paths)
    (tmp_path / "plays.csv").write_text(CSV.replace("7,", "8,"))
    monkeypatch.chdir(tmp_path)
    data = InteractionTable(path="plays.csv", columns=COLUMNS)
    data.setup(LeaveOneOut(), paths)
    assert data.store.user_ids.tolist() == [8, 9]
    with pytest.raises(
        DataError, match=r"data\.path=none\.csv was not found: neither .*none\.csv nor .*data/none\.csv"
    ):
        InteractionTable(path="none.csv", columns=COLUMNS).setup(LeaveOneOut(), paths)


def test_titles_come_from_a_table_of_items(paths):
    (paths.data / "items.csv").write_text('id,title,genres\n10,"Heat, again",Crime\n30,Casino,Drama\n')
    data = ready(paths, items_path="items.csv")
    assert data.items["item_id"].tolist() == [10, 20, 30]
    assert data.items["title"].tolist() == ["Heat, again", "20", "Casino"]
    assert data.items["genres"].dropna().tolist() == ["Crime", "Drama"]
    assert data.report["items_without_title"] == 1
    (paths.data / "items.csv").write_text("id,name\n10,Heat\n")
    with pytest.raises(DataError, match="Columns seen: id, name"):
        ready(paths, items_path="items.csv", k_core=1)
    (paths.data / "items.csv").write_text("id,title\n10,Heat\n10,Heat 2\n")
    with pytest.raises(DataError, match="'10' more than once"):
        ready(paths, items_path="items.csv", k_core=1)


# Bad input ----------------------------------------------------------------------------------------------------------

BAD = {
    "too few fields": (CSV + "7,5,1\n", r"line 8: 3 fields, expected 4"),
    "too many fields": (CSV + "7,5,1,2,3\n7,6,1,2\n", r"line 8: 5 fields, expected 4"),
    "rating is no number": (CSV.replace("9,20,2", "9,20,two"), r"line 5: rating is 'two', not a number"),
    "rating is empty": (CSV.replace("9,20,2", "9,20,"), r"line 5: rating is '', not a number"),
    "rating is not finite": (CSV.replace("9,20,2", "9,20,nan"), r"row 4 .*value is nan"),
    "user is empty": (CSV.replace("9,20,2", ",20,2"), r"row 4 .*user is empty"),
    "timestamp is text": (CSV.replace("9,20,2,60", "9,20,2,noon"), r"row 4 .*timestamp is 'noon'"),
    "timestamp is a time of day": ("user,item,rating,time\n1,2,3,12:00:00\n", r"row 1 .*timestamp is .*12"),
    "timestamp is a fraction": (CSV.replace("9,20,2,60", "9,20,2,60.5"), r"row 4 .*timestamp is 60\.5"),
    "duplicate header": (CSV.replace("rating", "item"), r"names 'item' more than once"),
    "unknown column": (CSV.replace("rating", "ratings"), r"no column 'rating'. Columns seen: user, item, ratings"),
    "empty": ("", "is empty"),
    "header only": ("user,item,rating,time\n", "no interactions"),
    "wrong encoding": (CSV.encode() + b"8,caf\xe9,1,2\n", r"line 8: byte 0xe9 is not utf-8.*encoding=latin-1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_the_place_and_what_was_found(paths, text, message):
    with pytest.raises(DataError, match=message) as error:
        ready(paths, text)
    assert "plays.csv" in str(error.value)


def test_latin_1_can_be_named(paths):
    data = ready(paths, CSV.encode() + "9,café,1,99\n".encode("latin-1"), encoding="latin-1")
    assert "café" in data.store.item_ids.tolist()


def test_a_truncated_gzip_or_parquet_is_refused(paths):
    for name in ("plays.csv.gz", "plays.parquet"):
        if name.endswith("gz"):
            (paths.data / name).write_bytes(gzip.compress(CSV.encode() * 50)[:-30])
        else:
            pd.DataFrame({"user": [1], "item": [2], "rating": [1.0], "time": [3]}).to_parquet(paths.data / name)
            whole = (paths.data / name).read_bytes()
            (paths.data / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=f"{name} is not a (whole gzip|readable Parquet) file"):
            InteractionTable(path=name, columns=COLUMNS).setup(LeaveOneOut(), paths)


def test_the_mapping_of_columns_is_checked_at_once():
    with pytest.raises(ConfigError, match=r"data\.columns\.item is missing"):
        InteractionTable(path="x.csv", columns={"user": "user", "item": None})
    with pytest.raises(ConfigError, match="mixes names and positions"):
        InteractionTable(path="x.csv", columns={"user": "user", "item": 1})


# Cache and identity -------------------------------------------------------------------------------------------------


def test_the_fingerprint_depends_on_bytes_and_parameters_but_not_on_place(paths):
    first = ready(paths)
    assert ready(paths, name="moved.csv").fingerprint == first.fingerprint
    assert ready(paths, k_core=2).fingerprint != first.fingerprint
    assert ready(paths, CSV + "9,50,1,99\n").fingerprint != first.fingerprint
    assert ready(paths, split=Ratio()).fingerprint == first.fingerprint


def test_setup_twice_and_from_a_damaged_cache_gives_the_same(paths, caplog):
    data = ready(paths)
    before = (data.fingerprint, data.split_fingerprint, data.report, data.store.items.tolist())
    for file in (paths.cache / "prepared").glob("*/items.npy"):
        file.write_bytes(file.read_bytes()[:-4])
    with caplog.at_level(logging.WARNING):
        data.setup(LeaveOneOut(), paths)
    assert (data.fingerprint, data.split_fingerprint, data.report, data.store.items.tolist()) == before
    assert "built again" in caplog.text


def test_the_data_folder_is_only_read(paths):
    ready(paths)
    assert [path.name for path in paths.data.iterdir()] == ["plays.csv"]


# Inference ----------------------------------------------------------------------------------------------------------


def test_what_a_predictor_needs_travels_as_json_and_safetensors(paths, tmp_path):
    (paths.data / "items.csv").write_text("item,title\n10,Heat\n20,Casino\n30,Ronin\n")
    text = CSV.replace("7,", "ann,")
    data = ready(paths, text, items_path="items.csv")
    data.save_inference(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["histories.safetensors", "ids.json"]
    known = from_inference(tmp_path / "run")
    assert known.user_ids.tolist() == ["9", "ann"] and known.item_ids.tolist() == [10, 20, 30]
    assert known.titles == ["Heat", "Casino", "Ronin"]
    assert known.history(1).tolist() == [0, 1, 2]  # all of it, targets too: the next recommendation starts from now
    assert (known.offsets.dtype, known.items.dtype) == (np.int64, np.int32)
    assert json.loads((tmp_path / "run" / "ids.json").read_text())["item_ids"] == [10, 20, 30]
