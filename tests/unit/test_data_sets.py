"""The data sets of music, places and shops: read as published from small files made up here, and counted where real."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from marquee.data.dataset import Paths
from marquee.data.interactions import store as store_module
from marquee.data.interactions.features import Features
from marquee.data.interactions.gowalla import Gowalla
from marquee.data.interactions.lastfm import LastFmHetrec
from marquee.data.interactions.magazine import AmazonMagazine
from marquee.data.interactions.movielens import MovieLens10M, MovieLens20M, MovieLens25M, MovieLens32M
from marquee.data.interactions.predefined import Published
from marquee.data.interactions.s3rec import S3Rec
from marquee.data.interactions.splits import LeaveOneOut, Ratio
from marquee.data.interactions.store import Interactions
from marquee.errors import ConfigError, DataError


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def prepared(data, split, folder):
    data.setup(split, Paths(folder, folder / "cache"))
    return data


def test_plays_are_values_and_artists_have_names_where_their_file_lies_beside(tmp_path):
    rows = [(2, 51, 13883), (2, 52, 11690), (3, 51, 7), (3, 52, 9), (3, 60, 1)]
    write(tmp_path, "lastfm-hetrec/user_artists.dat",
          "userID\tartistID\tweight\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))  # fmt: skip
    data = prepared(LastFmHetrec(), Ratio(), tmp_path)
    assert data.store.values.tolist() == [row[2] for row in rows] and data.items["title"].tolist() == ["51", "52", "60"]
    write(
        tmp_path, "lastfm-hetrec/artists.dat", 'id\tname\turl\tpictureURL\n51\tDuran Duran\tu\tp\n60\tAir "x"\tu\tp\n'
    )
    assert prepared(LastFmHetrec(), Ratio(), tmp_path).items["title"].tolist() == ["Duran Duran", "52", 'Air "x"']


def test_check_ins_have_the_split_that_was_published(tmp_path):
    write(tmp_path, "gowalla/train.txt.gz", "0 0 1 2\n1 1 3\n")
    write(tmp_path, "gowalla/test.txt", "0 3\n1 0 2\n")
    data = prepared(Gowalla(), Published(validation_share=0), tmp_path)
    assert len(data.parts["train"]) == 5 and len(data.parts["test"]) == 3 and not len(data.parts["validation"])
    assert len(prepared(Gowalla(), Published(), tmp_path).parts["validation"]) == 2  # one of each user
    whole = prepared(Gowalla(), Ratio(test=0.5, validation=0), tmp_path)
    assert len(whole.parts["test"]) == 4  # another protocol cuts the union


def test_magazines_keep_the_rows_that_the_split_leaves_out_apart(tmp_path):
    (tmp_path / "amazon-magazine").mkdir()
    columns = {
        "user": [0, 0, 0, 1],
        "item": [1, 2, 3, 1],
        "rating": [5, 4, 3, 2],
        "time": [10, 20, 30, 5],
        "split": [0, 1, 2, -1],
    }
    np.savez(tmp_path / "amazon-magazine" / "magazine.npz", **columns)
    data = prepared(AmazonMagazine(duplicates="keep_all"), Published(), tmp_path)
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [1, 1, 1]
    assert data.report["left_out"] == 1
    np.savez(tmp_path / "amazon-magazine" / "magazine.npz", user=[1])
    with pytest.raises(
        DataError, match="is not the published file.*It needs the arrays user, item, rating, time, split"
    ):
        prepared(AmazonMagazine(), Published(), tmp_path)


def test_a_file_that_nobody_offers_is_asked_for_with_where_it_comes_from(tmp_path):
    with pytest.raises(DataError, match=r"magazine needs amazon-magazine/magazine.npz(.|\n)*Published as the arrays"):
        prepared(AmazonMagazine(), Published(), tmp_path)


def test_a_data_set_without_a_split_of_its_own_says_so(tmp_path):
    from marquee.data.world.datasets import WorldRatings

    with pytest.raises(ConfigError, match="split=published: this data set was published without a split"):
        prepared(WorldRatings(), Published(), tmp_path)


def test_sequences_of_s3rec_have_the_attributes_of_their_items(tmp_path):
    write(tmp_path, "s3rec/Beauty.txt.gz", "1 1 2 3\n2 2 3 1\n")
    write(tmp_path, "s3rec/Beauty_item2attributes.json", json.dumps({"1": [7, 8], "2": [8], "3": []}))
    data = prepared(S3Rec(subset="beauty", item_features={"attributes": "multi_hot"}), LeaveOneOut(), tmp_path)
    assert data.name == "s3rec_beauty" and data.items["attributes"].tolist() == ["7|8", "8", ""]
    assert data.features["item"].encode(data.items)["attributes"].tolist() == [[1, 1], [0, 1], [0, 0]]
    write(tmp_path, "s3rec/Beauty_item2attributes.json", "[1]")
    with pytest.raises(DataError, match="is not a JSON object of lists"):
        prepared(S3Rec(subset="beauty"), LeaveOneOut(), tmp_path)


@pytest.mark.parametrize(
    "kind, folder, size",
    [(MovieLens10M, "ml-10M100K", "dat"), (MovieLens20M, "ml-20m", "csv"), (MovieLens25M, "ml-25m", "csv"),
     (MovieLens32M, "ml-32m", "csv")],
)  # fmt: skip
def test_the_large_movielens_sets_are_read_as_published(tmp_path, kind, folder, size):
    rows = [(1, 10, 4.5, 100), (1, 20, 3.0, 90), (1, 30, 0.5, 200)]
    if size == "dat":
        write(tmp_path, f"{folder}/ratings.dat", "".join("::".join(map(str, row)) + "\n" for row in rows))
        write(tmp_path, f"{folder}/movies.dat", "10::Amélie (2001)::Comedy|Romance\n20::B::Drama\n30::C::War\n")
    else:
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        write(tmp_path, f"{folder}/ratings.csv", "userId,movieId,rating,timestamp\n" + text)
        write(
            tmp_path,
            f"{folder}/movies.csv",
            'movieId,title,genres\n10,"Amélie (2001)",Comedy|Romance\n20,B,Drama\n30,C,War\n',
        )
    data = prepared(kind(), LeaveOneOut(), tmp_path)
    assert data.store.values.tolist() == [3.0, 4.5, 0.5]  # by time
    assert data.items["title"].tolist()[0] == "Amélie (2001)"
    with pytest.raises(DataError, match=r"ml-\d+m.zip(.|\n)*checksum: md5"):
        prepared(kind(), LeaveOneOut(), tmp_path / "empty")


def test_more_ids_than_fit_are_refused(monkeypatch):
    monkeypatch.setattr(store_module, "MOST_IDS", 2)
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [1, 1, 1]})
    with pytest.raises(DataError, match=r"There are 3 different users, and 2\^31 - 1"):
        Interactions.from_frame(frame)


# Columns of words and of vectors -------------------------------------------------------------------------------------


def test_words_of_titles_are_those_that_two_rows_have():
    table = pd.DataFrame({"title": ["The Red Fox (1999)", "Red river, red sky", "A fox", None]})
    learnt = Features.learn(table, {"title": "words"}, "data.item_features")
    assert learnt.encoding["title"] == ["fox", "red"] and learnt.columns[0].kind == "multi_hot"
    assert learnt.encode(table)["title"].tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    again = Features.from_json(json.loads(json.dumps(learnt.to_json())))
    assert again.columns == learnt.columns
    assert again.encode(pd.DataFrame({"title": ["RED!"]}))["title"].tolist() == [[0, 1]]


def test_vectors_are_standardised_number_by_number_and_may_be_missing():
    table = pd.DataFrame({"poster": ["0.0|1.0", "2.0|1.0", ""]})
    learnt = Features.learn(table, {"poster": "dense"}, "data.item_features")
    assert learnt.columns[0].size == 2 and learnt.encoding["poster"] == [[1.0, 1.0], [1.0, 1.0]]
    assert learnt.encode(table)["poster"].tolist() == [[-1, 0], [1, 0], [0, 0]]
    again = Features.from_json(json.loads(json.dumps(learnt.to_json())))
    np.testing.assert_array_equal(again.encode(table)["poster"], learnt.encode(table)["poster"])
    assert again.encode(pd.DataFrame({"other": [1]}))["poster"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "values, message",
    [
        (["1|2", "1|2|3"], r"equally many numbers, or none; found \[2, 3\]"),
        (["1|x", "1|2"], "holds numbers; could not"),
    ],
)
def test_vectors_that_are_none_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Features.learn(pd.DataFrame({"poster": values}), {"poster": "dense"}, "data.item_features")


# As published --------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(
    "data, split, users, items, parts",
    [
        (LastFmHetrec(), Ratio(), 1_892, 17_632, None),
        (Gowalla(), Published(validation_share=0), 29_858, 40_981, (810_128, 0, 217_242)),
        (AmazonMagazine(duplicates="keep_all"), Published(), 72_098, 2_428, (5_984, 436, 6_269)),
        (S3Rec(subset="lastfm"), LeaveOneOut(), 1_090, 3_646, (52_551 - 2 * 1_090, 1_090, 1_090)),
        (S3Rec(subset="beauty", item_features={"attributes": "multi_hot"}), LeaveOneOut(), 22_363, 12_101, None),
    ],
)
def test_real_sets_have_the_published_counts(real_data, tmp_path, data, split, users, items, parts):
    data.setup(split, Paths(real_data, tmp_path))
    assert (data.store.n_users, data.store.n_items) == (users, items)
    if parts:
        assert tuple(len(data.parts[part]) for part in ("train", "validation", "test")) == parts
