"""Predictors built from the files of a run, without the run: who is served, with what, and what is refused."""

import json
from difflib import SequenceMatcher

import numpy as np
import pandas as pd
import pytest
import torch

from marquee import load
from marquee.data.dataset import Paths
from marquee.data.interactions.splits import Ratio
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Matrix, Pairs
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import load_model, save_model
from marquee.inference.names import ItemNames
from marquee.inference.recommender import RecommendPredictor
from marquee.models.linear.ease import EASE
from marquee.models.mf.bpr import BPR
from marquee.runs.record import Run

TITLES = {"a": "Heat (1995)", "b": "Toy Story (1995)", "c": "Ronin (1998)", "d": "Casino (1995)", "e": "Up (2009)"}
SEEN = {"ann": "abc", "bob": "abd", "cy": "bce", "di": "abcd", "eve": "cde", "flo": "ade"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plays")
    rows = [(user, item) for user, items in SEEN.items() for item in items]
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_csv(folder / "plays.csv", index=False)
    pd.DataFrame(TITLES.items(), columns=["item_id", "title"]).to_csv(folder / "items.csv", index=False)
    table = InteractionTable(
        path="plays.csv", columns={"user": "user_id", "item": "item_id"}, items_path="items.csv", duplicates="keep_all"
    )
    table.setup(Ratio(seed=1), Paths(folder, folder / "cache"))
    return table


def saved(folder, data, kind, serves=None):
    """The run of a model that was fitted (EASE) or only initialised (BPR)."""
    torch.manual_seed(0)
    if kind == "ease":
        model, view = EASE(data.spec, view=Matrix(), l2=1.0), "marquee.data.interactions.views.Matrix"
        node = {"_target_": "marquee.models.linear.ease.EASE", "view": {"_target_": view}, "l2": 1.0}
        model.fit(next(iter(model.view.train_batches(data, 0, 0))))
    else:
        model, view = BPR(data.spec, view=Pairs(batch_size=4), dim=2), "marquee.data.interactions.views.Pairs"
        node = {"_target_": "marquee.models.mf.bpr.BPR", "view": {"_target_": view, "batch_size": 4}, "dim": 2}
    content = {"config": {}, "data": {"spec": data.spec.to_json()}}
    run = Run.create(folder, "a" * 64, kind, content)
    save_model(run.folder / "inference", node, model, data, RecommendPredictor, serves)
    run.finish("finished")
    return run.folder


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("ease"), data, "ease")


@pytest.fixture
def ease(folder):
    return RecommendPredictor(folder / "inference")


def test_nothing_seen_is_recommended_and_a_short_list_is_short(ease):
    table = ease.recommend(k=10)
    for user, rows in table.groupby("user"):
        assert set(rows["item_id"]) == set(TITLES) - set(SEEN[user])
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["score"].is_monotonic_decreasing
    assert (table["title"] == table["item_id"].map(TITLES)).all()


def test_scores_are_the_models_for_the_history_by_hand(ease):
    """EASE: the sum of the rows of the item-item matrix that belong to the history."""
    weights = next(value for value in ease.model.state_dict().values() if value.shape == (5, 5)).numpy()
    table = ease.recommend(histories=[["Heat (1995)", "c"]], k=5, filter_seen=False).set_index("item_id")["score"]
    expected = weights[0] + weights[2]
    assert table[list("abcde")].to_numpy() == pytest.approx(expected, rel=1e-6)


def test_seen_items_may_be_asked_for(ease):
    assert len(ease.recommend(users=["ann"], k=5, filter_seen=False)) == 5


def test_candidates_limit_the_catalogue(ease):
    table = ease.recommend(users=["ann", "eve"], candidates=["Casino (1995)", "b"], k=5)
    assert table[["user", "item_id"]].values.tolist() == [["ann", "d"], ["eve", "b"]]


def test_order_of_users_and_repeated_users_are_kept(ease):
    table = ease.recommend(users=["eve", "ann", "eve"], k=1)
    assert table["user"].tolist() == ["eve", "ann", "eve"]
    assert table["item_id"][0] == table["item_id"][2]


def test_large_requests_are_cut_into_pieces_with_the_same_result(ease, monkeypatch):
    whole = ease.recommend(k=3)
    monkeypatch.setattr("marquee.inference.recommender.EVALUATION_CELLS", 5)
    pd.testing.assert_frame_equal(ease.recommend(k=3), whole)


def test_titles_are_found_whatever_their_case(ease):
    assert ease.find_items(["HEAT (1995)", "toy story (1995)", "e"]).tolist() == [0, 1, 4]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A run whose ids are numbers: a film is called 300 and another has that id; a user has the id -1."""
    folder = tmp_path_factory.mktemp("numbered")
    rows = [(user, item) for user in (-1, 7, 8) for item in (7, 300, 301, 9)]
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_csv(folder / "plays.csv", index=False)
    titles = {7: "300", 300: "Heat", 301: " ", 9: "1917"}
    pd.DataFrame(titles.items(), columns=["item_id", "title"]).to_csv(folder / "items.csv", index=False)
    columns = {"user": "user_id", "item": "item_id"}
    table = InteractionTable(path="plays.csv", columns=columns, items_path="items.csv")
    table.setup(Ratio(seed=1), Paths(folder, folder / "cache"))
    return RecommendPredictor(saved(folder, table, "ease", {"filter_seen": False}) / "inference")


def test_an_id_is_found_before_a_title_and_a_number_is_never_a_title(numbered):
    ids = numbered.known.item_ids
    assert ids[numbered.find_items([300, "300", np.int64(300), 300.0, "Heat", "heat", 7])].tolist() == [300] * 6 + [7]
    assert ids[numbered.find_items(["1917"])].tolist() == [9]
    for unknown in (1917, 300.5, "300.5", "0300", None, float("nan")):
        with pytest.raises(ConfigError, match="is neither a title nor an item id"):
            numbered.find_items([unknown])


def test_what_is_no_user_is_nobody_and_not_the_user_with_the_id_minus_1(numbered):
    assert numbered.recommend(users=[-1, "7"], k=1)["user"].tolist() == [-1, 7]
    for unknown in ("foo", 7.5, None, "07"):
        with pytest.raises(ConfigError, match="is not in this run"):
            numbered.recommend(users=[unknown])


def test_an_item_with_a_blank_title_is_called_by_its_id(numbered):
    assert numbered.items.set_index("item_id")["title"].to_dict() == {7: "300", 9: "1917", 300: "Heat", 301: "301"}


def test_a_run_that_was_judged_with_repeats_serves_repeats(numbered, ease):
    assert len(numbered.recommend(users=[7])) == 4 and len(numbered.recommend(users=[7], filter_seen=True)) == 0
    assert ease.filter_seen and not numbered.filter_seen


def test_similar_titles_are_those_that_difflib_finds():
    random = np.random.default_rng(0)
    words = ["night", "day", "the", "return", "of", "king", "queen", "ring", "star", "love", "house", "last"]
    titles = list(dict.fromkeys(f"{' '.join(random.choice(words, 3))} ({year})" for year in range(1500, 2000)))
    names = ItemNames(np.arange(len(titles)), titles)
    for name in ("the nigth staar (1804)", "lst house quen", "retunr of dya 1999"):
        ratios = {title: SequenceMatcher(None, title, name).ratio() for title in titles}
        best = sorted(ratios.values(), reverse=True)[:3]
        assert [ratios[title] for title in names.close(name)] == best
    assert names.close("xxxxxxxx") == [] and names.close("") == []


def test_what_is_asked_for_must_make_sense(ease):
    with pytest.raises(ConfigError, match=r"'Heat \(1996\)'.*Close titles: Heat \(1995\)"):
        ease.find_items(["Heat (1996)"])
    with pytest.raises(ConfigError, match=r"'story' is neither.*Close titles: Toy Story \(1995\)\."):
        ease.find_items(["story"])
    with pytest.raises(ConfigError, match=r"'zed' is not in this run, which knows 6 users such as .*--history"):
        ease.recommend(users=["zed"])
    with pytest.raises(ConfigError, match="users or histories, not both"):
        ease.recommend(users=["ann"], histories=[["a"]])
    with pytest.raises(ConfigError, match="k=0"):
        ease.recommend(users=["ann"], k=0)


def test_nobody_asked_for_is_an_empty_table(ease):
    for table in (ease.recommend(users=[]), ease.recommend(histories=[])):
        assert list(table) == ["user", "rank", "item_id", "title", "score"] and len(table) == 0


def test_an_empty_history_is_served_by_models_that_can(ease):
    assert len(ease.recommend(histories=[[]], k=2)) == 2


def test_a_model_of_ids_serves_known_users_only(data, tmp_path):
    predictor = RecommendPredictor(saved(tmp_path, data, "bpr") / "inference")
    assert len(predictor.recommend(users=["bob"], k=2)) == 2
    with pytest.raises(ConfigError, match="BPR knows users by id only"):
        predictor.recommend(histories=[["a"]])


# Damage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "ids.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_run_is_named_with_the_way_out(data, tmp_path, name, damage):
    folder = saved(tmp_path, data, "ease")
    file = folder / "inference" / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{folder.name}/inference is damaged.*marquee rerun {folder.name}"):
        load(folder)


def test_only_whitelisted_classes_are_built_from_a_runs_files(data, tmp_path):
    folder = saved(tmp_path, data, "ease")
    file = folder / "inference" / "model.json"
    content = json.loads(file.read_text())
    content["model"] = {"_target_": "subprocess.Popen", "args": "true"}
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"subprocess\.Popen may not be instantiated"):
        load(folder)


def test_a_saved_model_comes_back_with_the_same_weights(data, folder):
    twice = [load_model(folder / "inference")[0].state_dict() for _ in range(2)]
    assert all(np.array_equal(twice[0][name], twice[1][name]) for name in twice[0])
