"""What finished runs make of posters and reviews as features of a recommender, on the command line and in Python."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import marquee as package

from .conftest import manifest_of

COLD = ["data=world_ratings", "split=new_items", "model=mf/mapped_ials", "trainer.max_epochs=3", "model.dim=8"]


@pytest.fixture
def fed(shell, trained, tmp_path):
    """A recommender of new films that reads their posters by one run and the stars of their reviews by another."""
    sources = f"[posters:{trained['cnn']},reviews:{trained['lstm']}]"
    done = shell("train", *COLD, f"data.item_features={sources}")
    assert done.code == 0, done.err
    return (tmp_path / "outputs" / "latest").resolve()


def test_features_of_runs_are_recorded_by_their_weights_and_serve_without_them(shell, trained, fed, tmp_path):
    manifest = manifest_of(fed)
    digits = {kind: manifest_of(trained[kind])["checkpoint"]["weights_sha256"][:12] for kind in ("cnn", "lstm")}
    assert manifest["config"]["data"]["item_features"] == [
        f"posters:{trained['cnn'].name}@{digits['cnn']}", f"reviews:{trained['lstm'].name}@{digits['lstm']}"
    ]  # fmt: skip
    report = manifest["data"]["report"]
    assert report["items without posters"] == 0 and report["reviews: rows of what is held out"] > 0
    # Of a film that is held out every review is, so nothing is known of what was said.
    assert report["items without reviews"] >= report["new_items_tested"]

    image = tmp_path / "poster.png"
    Image.fromarray(np.full((48, 32, 3), 200, np.uint8)).save(image)
    done = shell("recommend", str(fed), "--like-image", str(image), "--like-text", "the plot is wonderful", "-k", "3")
    assert done.code == 0 and len(done.out.splitlines()) == 4, done.err
    predictor = package.load(fed)
    one = predictor.recommend_like(image=image, text="the plot is wonderful", k=3)
    assert [str(item) for item in one["item_id"]] == [line.split()[1] for line in done.out.splitlines()[1:]]
    by_image = predictor.recommend_like(image=image, k=400)
    assert by_image["score"].is_monotonic_decreasing and len(by_image) == 400
    some = predictor.recommend_like(image=image, candidates=[3, 5], k=9)
    assert set(some["item_id"]) == {3, 5}
    # Second implementation: the run itself reads the image, and its features are mapped by hand.
    vector = predictor.readers()["posters"].read([image])
    encoded = predictor.features["item"].encode(pd.DataFrame({"posters": pd.Series([vector[0]], dtype=object)}))
    numbers = np.concatenate([encoded["posters"], encoded["reviews"], [[1.0]]], axis=1)
    new = numbers @ predictor.model.weights.numpy()
    items = predictor.model.items.numpy()
    cosine = items @ new[0] / np.linalg.norm(items, axis=1) / np.linalg.norm(new)
    np.testing.assert_allclose(by_image["score"][:5], np.sort(cosine)[::-1][:5], atol=1e-5)


def test_a_record_is_trained_again_from_the_cache_where_the_run_is_gone(shell, trained, fed, tmp_path):
    first = manifest_of(fed)
    source = first["config"]["data"]["item_features"][0]
    done = shell("train", *COLD, f"data.item_features=[{source}]", "paths.output=elsewhere")
    assert done.code == 0, done.err
    again = manifest_of((tmp_path / "elsewhere" / "latest").resolve())
    assert again["config"]["data"]["item_features"] == [source]


def test_an_export_makes_the_features_anew_where_the_cache_is_gone(shell, trained, fed, world_cache, tmp_path):
    for kind in ("cnn", "lstm"):
        shutil.copytree(trained[kind], fed.parent / trained[kind].name)
    file = fed / "manifest.json"
    manifest = json.loads(file.read_text())
    shutil.copytree(world_cache, tmp_path / "another", ignore=shutil.ignore_patterns("features*", "*.lock"))
    manifest["config"]["paths"]["cache"] = str(tmp_path / "another")
    file.write_text(json.dumps(manifest))
    done = shell("export", str(fed), str(tmp_path / "out"), "--format", "torch")
    assert done.code == 0 and "0 units changed" in done.out, done.err
    assert package.load(tmp_path / "out").readers().keys() == {"posters", "reviews"}
    done = shell("diff", str(tmp_path / "out"), str(fed))
    assert done.code == 2 and "is an export, and this takes a run" in done.err


@pytest.mark.parametrize(
    ("features", "code", "message"),
    [
        ("posters:nowhere", 2, "data.item_features: There is no run nowhere"),
        ("posters:{bpr}x", 2, "data.item_features: "),
        ("cf:{bpr}", 2, "was trained on other parts of world_ratings than this run"),
        ("cf:{bpr}:scores", 2, "classifies nothing"),
        ("seen:{ratings}", 2, "was trained on other parts of world_ratings"),
        ("vectors.npy", 3, "data.item_features=vectors.npy was not found"),
        ("a b", 2, "is no source. Sources are NAME:RUN"),
    ],
)
def test_features_that_cannot_be_are_refused_before_anything_is_trained(
    shell, trained, tmp_path, features, code, message
):
    done = shell("train", *COLD, f"data.item_features=['{features.format(**trained)}']")
    assert done.code == code and message in done.err and "Traceback" not in done.err, done.err
    assert not list((tmp_path / "outputs").glob("runs/*"))


def test_a_recommenders_own_vectors_are_features_where_it_knew_the_same(shell, trained, tmp_path):
    """Also of users; the vectors are those that its finished run multiplies."""
    words = ["data=world_ratings", "model=mf/mapped_ials", "trainer.max_epochs=1", "model.dim=4"]
    done = shell("train", *words, f"data.item_features=[cf:{trained['bpr']}]")
    assert done.code == 0, done.err
    manifest = manifest_of((tmp_path / "outputs" / "latest").resolve())
    assert manifest["data"]["spec"]["item_features"] == [{"name": "cf", "kind": "dense", "size": 8}]


def test_what_a_run_cannot_read_is_said_with_what_it_can(shell, trained):
    for words, message in [
        (["--like-text", "x"], "features that runs made: none"),
        ([], "Give one of --user, --history, --like FILE and --all-users, or --like-text"),
        (["--user", "1", "--like-text", "x"], "Give one of --user"),
    ]:
        done = shell("recommend", str(trained["bpr"]), *words)
        assert done.code == 2 and message in done.err, done.err


def test_what_is_knocked_out_must_be_there(shell):
    done = shell("train", "data=world_ratings", "model=mf/bpr", "data.knock_out=shuffled")
    assert done.code == 2 and "data.knock_out=shuffled spoils features, and there are none" in done.err


def test_knocked_out_features_stand_apart_in_one_comparison(shell, trained, tmp_path):
    source = f"data.item_features=[posters:{trained['cnn']}]"
    done = shell("train", "-m", *COLD, source, "data.knock_out=null,shuffled", "sweep=knocked", "tracker=none")
    assert done.code == 0, done.err
    done = shell("compare", "knocked", "--format", "json")
    assert done.code == 0, done.err
    text = json.dumps(json.loads(done.out))
    assert "knock_out" in text and "shuffled" in text
