"""Splits that somebody published: membership as the files have it, held-out users, and what is refused."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from marquee.config.folders import conf_folder
from marquee.config.targets import resolve
from marquee.data.dataset import Paths
from marquee.data.interactions.predefined import Files
from marquee.data.interactions.store import Interactions
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Matrix, Pairs
from marquee.errors import ConfigError, DataError
from marquee.models.base import READ_HISTORIES, Recommender
from marquee.models.linear.ease import EASE
from marquee.models.mf.bpr import BPR
from marquee.tasks.recommendation import Recommendation

# Published files -----------------------------------------------------------------------------------------------------

TRAIN_ROWS = [(user, item) for user in range(1, 5) for item in range(10, 20)]
TEST_ROWS = [(user, item) for user in range(1, 5) for item in range(20, 22)]


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    for name, rows in (("train.csv", TRAIN_ROWS), ("test.csv", TEST_ROWS)):
        lines = "".join(f"{user},{item}\n" for user, item in rows)
        (tmp_path / "data" / name).write_text("user,item\n" + lines)
    return Paths(tmp_path / "data", tmp_path / "cache")


def published(paths, path="train.csv", **options):
    data = InteractionTable(path=path, columns={"user": "user", "item": "item"})
    data.setup(Files(**options), paths)
    return data


def pairs(part):
    return set(zip(part.user_ids[part.users].tolist(), part.item_ids[part.items].tolist(), strict=True))


def test_files_define_membership_and_validation_is_cut_from_train(paths):
    data = published(paths, test="test.csv", validation_share=0.2)
    assert pairs(data.parts["test"]) == set(TEST_ROWS)
    assert pairs(data.parts["train"]) | pairs(data.parts["validation"]) == set(TRAIN_ROWS)
    assert np.diff(data.parts["validation"].offsets).tolist() == [2, 2, 2, 2]
    assert data.report["read"] == 48 and data.report["test_interactions"] == 8
    again = published(paths, train="train.csv", test="test.csv", validation_share=0.2)
    assert again.split_fingerprint == data.split_fingerprint
    assert published(paths, test="test.csv", seed=1).split_fingerprint != data.split_fingerprint


def test_files_may_name_validation_too(paths):
    (paths.data / "validation.csv").write_text("user,item\n1,x\n")
    data = published(paths, test="test.csv", validation="validation.csv")
    assert pairs(data.parts["validation"]) == {(1, "x")}
    assert len(data.parts["train"]) == 40


@pytest.mark.parametrize("form", ["npz", "npy", "txt", "txt.gz"])
def test_labels_give_a_part_to_each_line(paths, form):
    labels = np.array([0, 0, 1, 2, 0, 0, 0, 0, 0, 2] * 4, dtype=np.int8)
    file = paths.data / f"labels.{form}"
    if form == "npz":
        np.savez_compressed(file, data=labels)
    elif form == "npy":
        np.save(file, labels)
    else:
        text = "\n".join(map(str, labels)).encode()
        file.write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    data = published(paths, labels=file.name)
    assert pairs(data.parts["validation"]) == {(user, 12) for user in range(1, 5)}
    assert pairs(data.parts["test"]) == {(user, item) for user in range(1, 5) for item in (13, 19)}


def test_published_files_that_overlap_are_refused(paths):
    (paths.data / "test.csv").write_text("user,item\n1,20\n3,15\n")
    with pytest.raises(DataError, match=r"leaks: 1 pairs.*train\.csv.*test\.csv.*user 3, item 15"):
        published(paths, test="test.csv")


def test_files_do_not_fit_generated_data(paths):
    with pytest.raises(ConfigError, match="this is generated"):
        Files(test="test.csv").sources({}, paths)
    with pytest.raises(ConfigError, match="this is generated"):
        Files(labels="labels.npy").cut(Interactions.from_frame(pd.DataFrame({"user": [1], "item": [1]}))[0], "data")


def test_files_say_what_is_missing_or_wrong(paths):
    with pytest.raises(ConfigError, match=r"split=files needs split\.test=FILE"):
        published(paths)
    with pytest.raises(ConfigError, match=r"split\.labels stands for the whole split"):
        published(paths, labels="x", test="test.csv")
    with pytest.raises(DataError, match=r"split\.test=none\.csv was not found"):
        published(paths, test="none.csv")
    np.save(paths.data / "short.npy", np.zeros(3))
    with pytest.raises(DataError, match="has 3 labels, and there are 40 interactions"):
        published(paths, labels="short.npy")
    np.save(paths.data / "odd.npy", np.full(40, 7))
    with pytest.raises(DataError, match="has the label 7; labels are 0 train.*3 history, -1 left out"):
        published(paths, labels="odd.npy")


@pytest.mark.parametrize(("name", "content"), [
    ("words.txt", b"train\ntest\n"), ("cut.npy", b"\x93NUMPY\x01"), ("no.npz", b"PK"), ("no.txt.gz", b"\x1f\x8b\x08"),
    ("bytes.txt", b"\xff\xfe\n"), ("ragged.txt", b"1 2\n3\n"),
])  # fmt: skip
def test_labels_that_cannot_be_read_are_named(paths, name, content):
    (paths.data / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        published(paths, labels=name)


def test_labels_are_held_to_what_files_are_held_to(paths):
    rows = [(1, 10), (1, 11), (1, 10), (2, 10), (2, 11), (2, 12)]
    (paths.data / "train.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows))
    np.savetxt(paths.data / "labels.txt", [0, 0, 2, 0, 1, 2], fmt="%d")
    with pytest.raises(DataError, match=r"leaks: 1 pairs .*part 0 of .*labels\.txt .*part 2.*user 1, item 10"):
        published(paths, labels="labels.txt")
    np.savetxt(paths.data / "labels.txt", [0, -1, 0, 0, 1, 2], fmt="%d")
    data = published(paths, labels="labels.txt")
    assert data.report["left_out"] == 1 and pairs(data.parts["train"]) == {(1, 10), (2, 10)}


# Users whom training never saw ---------------------------------------------------------------------------------------


def held_out_users(paths):
    """Users 5 and 6 are not trained on: items 10 and 11 are known of 5, nothing of 6; both are tested on item 12."""
    (paths.data / "test.csv").write_text("user,item\n1,20\n5,12\n6,12\n")
    (paths.data / "known.csv").write_text("user,item\n5,10\n5,11\n")
    return {"test": "test.csv", "validation_share": 0.1}


def test_what_is_known_of_held_out_users_is_their_history_and_no_training_row(paths):
    options = held_out_users(paths)
    data = published(paths, **options, history="known.csv")
    history, user = data.history("test"), data.store.user_ids.tolist().index(5)
    known = history.items[history.offsets[user] : history.offsets[user + 1]]
    assert data.store.item_ids[known].tolist() == [10, 11]
    assert not np.isin(data.parts["train"].users, [user]).any()
    assert data.report["history_only"] == 2 and data.report["targets_of_unseen_users"] == 2
    known = data.history("validation")
    assert known.offsets[user + 1] - known.offsets[user] == 2  # as when validating
    # The same as labels, one for each line.
    lines = [
        *((user, item, 0) for user, item in TRAIN_ROWS),
        (1, 20, 2),
        (5, 12, 2),
        (6, 12, 2),
        (5, 10, 3),
        (5, 11, 3),
    ]
    (paths.data / "all.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item, _ in lines))
    np.savetxt(paths.data / "labels.txt", [label for *_, label in lines], fmt="%d")
    labelled = published(paths, path="all.csv", labels="labels.txt")
    assert labelled.history("test").items.tolist() == history.items.tolist()
    (paths.data / "known.csv").write_text("user,item\n5,12\n")
    with pytest.raises(DataError, match=r"leaks: 1 pairs.*test\.csv as well as in .*known\.csv"):
        published(paths, **options, history="known.csv")


def asked(data, model):
    return Recommendation(model, data, ks=[5], monitor="ndcg@5")


def test_a_model_of_ids_is_refused_where_users_are_held_out_and_told_where_a_few_are_unknown(paths, caplog):
    options = held_out_users(paths)
    data = published(paths, **options, history="known.csv")
    with pytest.raises(ConfigError, match=r"(?s)BPR knows users by id only, and 2 of 3 .*linear/ease"):
        asked(data, BPR(data.spec, view=Pairs(), dim=2))
    # One that reads histories serves user 5; of user 6 nobody knows anything.
    asked(data, EASE(data.spec, view=Matrix()))
    assert "1 of 3 users of the test part have no history: EASE" in caplog.text
    caplog.clear()
    data = published(paths, **options)
    task = asked(data, BPR(data.spec, view=Pairs(), dim=2))
    assert "2 of 3 users of the test part have no training interactions: BPR" in caplog.text
    assert task.protocol().endswith("2 targets of users without training interactions")
    (paths.data / "test.csv").write_text("user,item\n5,12\n6,12\n")
    data = published(paths, **options)
    with pytest.raises(ConfigError, match="2 of 2 users of the test part"):
        asked(data, BPR(data.spec, view=Pairs(), dim=2))


def test_the_models_named_as_readers_of_histories_are_some():
    for name in READ_HISTORIES.removesuffix(", ...").split(", "):
        file = conf_folder() / "model" / f"{name}.yaml"
        kind = resolve(re.search(r"^_target_: (.*)$", file.read_text(), re.M)[1])
        assert issubclass(kind, Recommender) and kind.scores_unseen_users, name


@pytest.mark.parametrize("widths", [("int32", "int64"), ("uint64", "uint32"), ("uint8", "int16")])
def test_one_id_is_one_id_however_wide_each_files_numbers_are(paths, widths):
    for name, kind, rows in zip(("train", "test"), widths, (TRAIN_ROWS, TEST_ROWS), strict=True):
        pd.DataFrame(rows, columns=["user", "item"]).astype(kind).to_parquet(paths.data / f"{name}.parquet")
    data = published(paths, path="train.parquet", test="test.parquet", validation_share=0)
    assert (data.spec.n_users, data.spec.n_items) == (4, 12)
    assert (pairs(data.parts["train"]), pairs(data.parts["test"])) == (set(TRAIN_ROWS), set(TEST_ROWS))


@pytest.mark.parametrize("late", ["2020-02-01 00:00:00", "1580515200"])
def test_times_of_several_files_have_one_unit_though_only_one_has_parts_of_seconds(paths, late):
    header = "user,item,time\n"
    (paths.data / "early.csv").write_text(header + "1,a,2020-01-01 00:00:00.5\n1,b,2020-01-02 00:00:00\n")
    (paths.data / "late.csv").write_text(f"{header}1,c,{late}\n")
    (paths.data / "last.csv").write_text(header + "1,d,2020-03-01 00:00:00\n")
    data = InteractionTable(path="early.csv", columns={"user": "user", "item": "item", "timestamp": "time"})
    data.setup(Files(validation="late.csv", test="last.csv"), paths)
    history = data.history("test")
    assert history.item_ids[history.items].tolist() == ["a", "b", "c"], "oldest first"
    assert history.timestamps[-1] == 1_580_515_200_000_000
