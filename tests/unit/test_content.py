"""Features from elsewhere: taken apart, read, joined by id, spoilt on purpose, and kept from telling the test."""

import json

import numpy as np
import pandas as pd
import pytest

from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import Paths
from marquee.data.interactions.cold import NewItems
from marquee.data.interactions.content import FACTS, ROWS, Source, prepared_key
from marquee.data.interactions.predefined import Published
from marquee.data.interactions.splits import LeaveOneOut
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Pairs
from marquee.errors import ConfigError, DataError

KEY = "data.item_features"


@pytest.fixture
def made(tmp_path):
    """Four users and five items, one of them met by nobody but in the test, and a function that sets them up."""
    rows = [(user, item) for user, row in enumerate(["abc", "bca", "cad", "abe"]) for item in row]
    table = pd.DataFrame([(f"u{user}", item, time) for time, (user, item) in enumerate(rows)])
    table.to_csv(tmp_path / "met.csv", index=False, header=["user", "item", "time"])
    pd.DataFrame({"item_id": list("abcde"), "title": list("ABCDE"), "kind": ["x", "y", "x", "y", "x"]}).to_csv(
        tmp_path / "items.csv", index=False
    )
    paths = Paths(tmp_path, tmp_path / "cache", tmp_path / "outputs")

    def prepared(features, split=None, **settings):
        columns = {"user": "user", "item": "item", "value": None, "timestamp": "time"}
        data = InteractionTable(
            path="met.csv", items_path="items.csv", columns=columns, item_features=features, **settings
        )
        data.setup(split or LeaveOneOut(), paths)
        return data

    prepared.paths = paths
    return prepared


def cache_run(paths, source, vectors, ids, facts=None, **arrays):
    """What training leaves of a run in the cache."""

    def write(folder):
        (folder / FACTS).write_text(json.dumps(facts or {}))
        np.savez(folder / ROWS, ids=np.asarray(ids), vectors=np.asarray(vectors, np.float32), **arrays)

    cached(paths, "features", prepared_key(Source.parse(source, KEY), "item"), write)


@pytest.mark.parametrize(
    ("text", "kind", "name", "where", "digits", "scores"),
    [
        ("posters:latest", "run", "posters", "latest", "", False),
        ("reviews:3fa9-x@0123456789ab:scores", "run", "reviews", "3fa9-x", "0123456789ab", True),
        ("folder/tags.csv", "file", "tags", "folder/tags.csv", "", False),
        ("v.npy@0123456789ab", "file", "v", "v.npy", "0123456789ab", False),
        ("text", "published", "text", "text", "", False),
    ],
)
def test_a_source_is_taken_apart_and_written_as_it_was(text, kind, name, where, digits, scores):
    source = Source.parse(text, KEY)
    assert source == Source(kind, name, where, digits, scores) and str(source) == text


@pytest.mark.parametrize("text", ["a b", "1x:run", "posters:", ":run", "x.txt"])
def test_what_is_no_source_is_refused_with_what_there_is(text):
    with pytest.raises(ConfigError, match=rf"{KEY}: .* is no source. Sources are NAME:RUN .* \.csv, \.tsv, \.npy"):
        Source.parse(text, KEY)


def test_vectors_are_joined_by_id_and_an_item_without_one_is_zero_and_counted(made):
    """By hand: four rows with mean (1.5, 1) and deviation (1.118, 1); standardised, then divided by the root of 2."""
    np.savez(made.paths.data / "v.npz", item_id=list("dbaxc"), vector=[[0, 0], [1, 2], [2, 0], [9, 9], [3, 2.0]])
    data = made(["v.npz"])
    found = data.encoded("item")["v"]
    expected = np.array([[2, 0], [1, 2], [3, 2], [0, 0]]) - [1.5, 1]
    np.testing.assert_allclose(found[:4], expected / [1.25**0.5, 1] / 2**0.5, atol=1e-6)
    assert found[4].tolist() == [0, 0]
    assert data.report["items without v"] == 1 and data.report["v: rows of unknown items"] == 1
    assert np.square(found[:4]).sum(1).mean() == pytest.approx(1)  # whatever the length: rows have the length 1


def test_the_order_of_rows_does_not_matter_and_a_bare_array_needs_its_ids(made):
    vectors, order = np.random.default_rng(0).normal(size=(5, 3)), [3, 0, 4, 1, 2]
    np.savez(made.paths.data / "one.npz", item_id=list("abcde"), vector=vectors)
    np.save(made.paths.data / "two.npy", vectors[order])
    with pytest.raises(DataError, match=r"two\.npy does not say which item a row is of\. .*two\.ids\.txt"):
        made(["two.npy"])
    (made.paths.data / "two.ids.txt").write_text("\n".join("abcde"[place] for place in order))
    one, two = made(["one.npz"]).encoded("item")["one"], made(["two.npy"]).encoded("item")["two"]
    np.testing.assert_array_equal(one, two)
    (made.paths.data / "two.ids.txt").write_text("a\nb\nc\nd")
    with pytest.raises(DataError, match=r"two\.npy has 5 rows and 4 ids, so nobody knows which is whose"):
        made(["two.npy"])


def test_a_table_of_tags_says_itself_what_its_columns_are(made):
    frame = {"item_id": list("abcd"), "tags": ["x|y", "x", "", "z"], "mood": ["g", "s", "g", "s"], "age": [1, 2, 3, 4]}
    pd.DataFrame(frame).to_csv(made.paths.data / "tags.csv", index=False)
    data = made(["tags.csv", {"kind": "categorical"}])
    kinds = {column.name: (column.kind, column.size) for column in data.spec.item_features}
    assert kinds == {"tags.tags": ("multi_hot", 3), "tags.mood": ("categorical", 3), "tags.age": ("dense", 1),
                     "kind": ("categorical", 3)}  # fmt: skip
    assert data.encoded("item")["tags.tags"].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.npz",
            {"item_id": ["a", "a"], "vector": [[1.0], [2.0]]},
            "item_id a more than once. Give each item one",
        ),
        ("x.npz", {"item_id": ["a", "b"], "vector": [[1.0], [np.nan]]}, "vector of item_id b holds what is no finite"),
        ("x.npz", {"item_id": ["a", "b"], "vector": [1.0, 2.0]}, r"vectors are a table of numbers, \[rows, dim\]"),
        ("x.npz", {"item": ["a"], "vector": [[1.0]]}, "needs item_id and vector"),
        ("x.npz", {"item_id": ["p", "q"], "vector": [[1.0], [2.0]]}, r"none of the 2 ids of x\.npz is an id of inter"),
        ("x.npz", {"item_id": np.array(["a", 1], dtype=object), "vector": [[1.0], [2.0]]}, "cannot be read as vectors"),
    ],
)
def test_vectors_that_nobody_could_place_are_refused(made, name, content, message):
    np.savez(made.paths.data / name, **content)
    with pytest.raises(DataError, match=message):
        made([name])


def test_a_source_of_another_catalogue_is_remarked_on(made):
    """One of its four ids is an item here, by chance; of v there is a row for most items."""
    np.savez(made.paths.data / "v.npz", item_id=list("abcd"), vector=np.eye(4))
    np.savez(made.paths.data / "strange.npz", item_id=list("axyz"), vector=np.eye(4))
    (remark,) = made(["v.npz", "strange.npz"]).remarks
    assert "of 4 rows of strange.npz 3 are about items that interactions does not have, and 4 of its 5" in remark


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.parquet", "x.csv"])
def test_files_that_are_cut_or_empty_are_damage(made, name):
    file = made.paths.data / name
    (made.paths.data / "x.ids.txt").write_text("a")
    np.savez(made.paths.data / "whole.npz", item_id=["a"], vector=[[1.0]])
    for content in (b"", (made.paths.data / "whole.npz").read_bytes()[:100], b"item_id,kind\n"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.{name[2:]}"):
            made([name])


def test_a_file_with_other_content_than_recorded_is_refused(made):
    file = made.paths.data / "v.npz"
    np.savez(file, item_id=list("ab"), vector=[[1.0], [2.0]])
    recorded = f"v.npz@{file_sha256(file)[:12]}"
    made([recorded])
    np.savez(file, item_id=list("ab"), vector=[[1.0], [3.0]])
    with pytest.raises(DataError, match=rf"v\.npz is not the file that was recorded.*{KEY}=\[v\.npz\]"):
        made([recorded])


def test_what_reviews_say_of_an_item_is_their_mean_without_those_of_held_out_pairs(made):
    """Leave-one-out tests (u0, c), (u1, a), (u2, d), (u3, e) and validates (u0, b), (u1, c), (u2, a), (u3, b)."""
    source = "reviews:r@0123456789ab"
    reviews = [
        ("a", "u0", 1.0),
        ("a", "u3", 3.0),
        ("a", "u1", 90.0),
        ("b", "u1", 5.0),
        ("c", "u2", 7.0),
        ("e", "u3", 80.0),
    ]
    ids, others, values = zip(*reviews, strict=True)
    cache_run(made.paths, source, [[value] for value in values], ids, others=np.asarray(others))
    data = made([source])
    mean, scale = data.features["item"].encoding["reviews"]
    found = data.encoded("item")["reviews"] * scale + mean
    assert found[:3, 0].tolist() == pytest.approx([2, 5, 7])  # a: (1 + 3) / 2
    assert data.report["reviews: rows of what is held out"] == 2 and data.report["items without reviews"] == 2


def test_vectors_of_a_recommender_that_trained_on_other_parts_are_a_leak(made):
    own = made(None)
    for source, split in (("cf:same@0123456789ab", own.split_fingerprint), ("cf:else@0123456789ab", "f" * 64)):
        facts = {"data_name": "interactions", "data": own.fingerprint, "split": split}
        cache_run(made.paths, source, np.eye(5), list("abcde"), facts)
    assert made(["cf:same@0123456789ab"]).spec.item_features[0].size == 5
    with pytest.raises(
        ConfigError, match=r"cf:else.* was trained on other parts of interactions .*may have been fitted"
    ):
        made(["cf:else@0123456789ab"])
    facts["data_name"] = "others"
    cache_run(made.paths, "cf:far@0123456789ab", np.eye(5), list("abcde"), facts)
    assert made(["cf:far@0123456789ab"]).remarks == [
        "data.item_features: cf:far@0123456789ab was trained on others. Are its ids those of interactions?"
    ]


def test_knocked_out_features_are_shuffled_rows_or_all_alike_and_change_no_data(made):
    np.savez(made.paths.data / "v.npz", item_id=list("abcde"), vector=np.arange(10.0).reshape(5, 2))
    whole, shuffled, constant = (
        made(["v.npz", {"kind": "categorical"}], knock_out=how) for how in (None, "shuffled", "constant")
    )
    one, two = whole.encoded("item"), shuffled.encoded("item")
    order = [one["v"].tolist().index(row) for row in two["v"].tolist()]
    assert sorted(order) == list(range(5)) != order
    assert two["kind"].tolist() == one["kind"][order].tolist()  # columns are moved alike
    assert np.unique(constant.encoded("item")["v"]).tolist() == pytest.approx([2**-0.5])
    assert constant.encoded("item")["kind"].tolist() == [1] * 5
    assert whole.fingerprint == shuffled.fingerprint == constant.fingerprint
    np.testing.assert_array_equal(shuffled.encoded("item", whole=True)["v"], one["v"])


def test_two_columns_of_one_name_and_vectors_that_are_not_published_are_refused(made):
    np.savez(made.paths.data / "kind.npz", item_id=list("abcde"), vector=np.eye(5))
    with pytest.raises(ConfigError, match=rf"{KEY} names kind twice"):
        made(["kind.npz", {"kind": "categorical"}])
    with pytest.raises(ConfigError, match=rf"{KEY}: text names vectors of the data set, .* published without any"):
        made(["text"])


def test_the_vectors_of_a_run_that_are_not_in_the_cache_are_named(made):
    with pytest.raises(DataError, match=r"vectors of posters:gone@0123456789ab are not in the cache"):
        made(["posters:gone@0123456789ab"])


def test_negatives_of_new_items_are_items_that_training_met(made):
    """Of a split that holds whole items out nobody knows those yet; of all others every item may be drawn."""
    data = made(None, NewItems(validation=0.2, test=0.2, seed=1))
    met = set(data.parts["train"].items.tolist())
    assert len(met) < 5 and negatives(data) <= met
    assert negatives(made(None)) == set(range(5))


def negatives(data):
    """All that are drawn in twenty epochs."""
    batches = [batch for epoch in range(20) for batch in Pairs().train_batches(data, 0, epoch)]
    return set(np.concatenate([batch.negatives.numpy().ravel() for batch in batches]).tolist())


def test_lfm2k_has_its_published_counts_and_its_vectors_row_by_row(real_data, tmp_path):
    """Counts of its README: 44,327 + 4,799 + 7,219 pairs of 1,858 users with 1,425 artists."""
    from marquee.data.interactions.lfm2k import LFM2KMultimodal

    data = LFM2KMultimodal(item_features=["audio"])
    data.setup(Published(), Paths(real_data, tmp_path))
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [44_327, 4_799, 7_219]
    assert (data.spec.n_users, data.spec.n_items) == (1_858, 1_425)
    raw = np.load(real_data / "lfm2k-multimodal" / "vggish.npy")[data.store.item_ids]
    varied = raw.std(0) > 1e-6
    expected = (raw - raw.mean(0))[:, varied] / raw.std(0)[varied] / 128**0.5
    np.testing.assert_allclose(data.encoded("item")["audio"][:, varied], expected, atol=2e-3)
    assert data.items["title"].str.len().gt(0).all()
