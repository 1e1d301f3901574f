"""From a finished run straight to use: recommend and predict, on the command line and in Python."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import marquee as package
from marquee.config.build import build, paths
from marquee.data.interactions.histories import Histories

from .commands import environment
from .conftest import answer, manifest_of


def data_of(folder, cache):
    """The data set of a run, prepared again from its manifest."""
    config = manifest_of(folder)["config"]
    data = build(config["data"])
    data.setup(build(config["split"]), paths({**config["paths"], "cache": str(cache)}))
    return data


def refused(answered, code, *parts):
    assert answered.code == code, answered.err
    assert "Traceback" not in answered.err and answered.out == ""
    for part in parts:
        assert part in answered.err, f"{part!r} is not in:\n{answered.err}"


def use(verb, folder, *words):
    return answer(verb, str(folder), *words)


# Recommend -----------------------------------------------------------------------------------------------------------


def test_recommend_shows_titles_with_scores_best_first(trained):
    done = use("recommend", trained["ratings"], "--user", "1", "-k", "5")
    assert done.code == 0
    header, *rows = done.out.splitlines()
    assert header.split() == ["user", "rank", "item_id", "title", "score"]
    scores = [float(row.split()[-1]) for row in rows]
    assert len(rows) == 5 and scores == sorted(scores, reverse=True)
    titles = set(package.load(trained["ratings"]).items["title"])
    assert all(any(title in row for title in titles) for row in rows)


@pytest.mark.parametrize("kind", ["ratings", "gru", "ease", "bpr"])
def test_a_known_user_gets_the_models_own_ranking_without_what_was_seen(trained, world_cache, kind):
    """Second implementation: the model scores the user's whole history here, seen items are taken out, and sorted."""
    predictor = package.load(trained[kind])
    data = data_of(trained[kind], world_cache)
    user = 7
    row = int(np.flatnonzero(data.store.user_ids == user)[0])
    seen = data.store.items[data.store.users == row].astype(np.int64)
    histories = Histories(torch.from_numpy(seen), torch.tensor([0, len(seen)]))
    with torch.inference_mode():
        scores = predictor.model.score(torch.tensor([row]), histories)[0].double().numpy().copy()
    scores[seen] = -np.inf
    expected = data.store.item_ids[np.argsort(-scores, kind="stable")[:20]]
    table = predictor.recommend(users=[user], k=20)
    assert table["item_id"].tolist() == expected.tolist()
    assert not set(table["item_id"]) & set(data.store.item_ids[seen])
    assert table["score"].to_numpy() == pytest.approx(np.sort(scores)[::-1][:20])


@pytest.mark.parametrize("kind", ["ratings", "gru", "ease"])
def test_somebody_never_seen_is_served_by_history_as_a_known_user_with_that_history_is(trained, world_cache, kind):
    predictor = package.load(trained[kind])
    data = data_of(trained[kind], world_cache)
    history = data.store.item_ids[data.store.items[data.store.users == 7]].tolist()
    by_id, by_history = predictor.recommend(users=[data.store.user_ids[7]]), predictor.recommend(histories=[history])
    assert by_id["item_id"].tolist() == by_history["item_id"].tolist()
    assert by_id["score"].to_numpy() == pytest.approx(by_history["score"].to_numpy(), rel=1e-5)


def test_histories_are_given_by_title_by_id_or_in_a_file(trained, tmp_path):
    items = package.load(trained["ease"]).items
    titles, ids = items["title"].tolist()[:3], [str(item) for item in items["item_id"][:3]]
    by_title = use("recommend", trained["ease"], "--history", *titles, "-k", "4")
    assert by_title.code == 0 and not any(title in by_title.out for title in titles)
    assert use("recommend", trained["ease"], "--history", *ids, "-k", "4").out == by_title.out
    (tmp_path / "liked.txt").write_text("\n".join([titles[0].upper(), "", *titles[1:]]) + "\n")
    assert use("recommend", trained["ease"], "--like", tmp_path / "liked.txt", "-k", "4").out == by_title.out


def test_all_users_go_into_a_file(trained, tmp_path):
    for name, read in (("all.csv", pd.read_csv), ("all.parquet", pd.read_parquet)):
        done = use("recommend", trained["ease"], "--all-users", "-k", "3", "--output", tmp_path / name)
        assert done.code == 0 and "3,000 rows" in done.out
        table = read(tmp_path / name)
        assert list(table) == ["user", "rank", "item_id", "title", "score"]
        assert table["user"].nunique() == 1000 and table["rank"].tolist() == [1, 2, 3] * 1000
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_model_that_only_knows_ids_says_so(trained):
    refused(use("recommend", trained["bpr"], "--history", "1"), 2, "BPR", "cannot score a history", "linear/ease")
    refused(use("recommend", trained["bpr"], "--user", "99999"), 2, "99999", "1,000 users", "never saw")


def test_unknown_users_titles_files_and_runs_are_explained(trained, tmp_path):
    title = package.load(trained["ease"]).items["title"][0]
    refused(use("recommend", trained["ease"], "--user", "99999"), 2, "'99999'", "such as 1, 2, 3", "--history")
    refused(
        use("recommend", trained["ease"], "--history", title[:-2] + "zz"), 2, "neither a title nor an item id", title
    )
    refused(
        use("recommend", trained["ease"], "--like", tmp_path / "none.txt"), 3, "none.txt does not exist", "one title"
    )
    (tmp_path / "empty.txt").write_text("\n")
    refused(use("recommend", trained["ease"], "--like", tmp_path / "empty.txt"), 3, "empty.txt is empty")
    refused(
        use("recommend", trained["ease"], "--user", "1", "--output", "a.xlsx"), 2, "a.xlsx", ".csv, .parquet, .json"
    )
    refused(
        use("recommend", trained["ease"], "--user", "1", "--output", tmp_path / "no" / "a.csv"), 4, "cannot be written"
    )
    refused(answer("recommend", "nothing", "--user", "1", "--runs", trained["ease"].parents[1]), 2, "no run nothing")


def test_the_wrong_kind_of_input_is_named(trained, tmp_path):
    refused(use("predict", trained["ease"], "--text", "fine"), 2, "recommends items", "marquee recommend")
    refused(use("recommend", trained["lstm"], "--user", "1"), 2, "classifies texts", "--text")
    refused(use("recommend", trained["cnn"], "--user", "1"), 2, "classifies images", "--image")
    refused(use("predict", trained["lstm"], "--image", "a.png"), 2, "classifies texts", "--text")
    refused(use("predict", trained["cnn"], "--text", "fine"), 2, "classifies images", "--image")
    (tmp_path / "reviews.csv").write_text("review\nfine\n")
    refused(use("predict", trained["lstm"], "--input", tmp_path / "reviews.csv"), 3, "'text'", "columns seen: review")
    refused(use("predict", trained["lstm"], "--input", tmp_path / "reviews.doc"), 3, "'.doc'", ".csv, .tsv")
    refused(use("predict", trained["lstm"], "--input", tmp_path / "none.csv"), 3, "none.csv does not exist")
    (tmp_path / "a.png").write_bytes(b"\x89PNG no more")
    refused(use("predict", trained["cnn"], "--image", tmp_path / "a.png"), 3, "a.png")
    refused(use("predict", trained["cnn"], "--image", tmp_path / "none.png"), 3, "none.png")


# Predict -------------------------------------------------------------------------------------------------------------


def test_predict_labels_texts_with_probabilities(trained):
    done = use("predict", trained["lstm"], "--text", "a slow start, but the last act is wonderful", "")
    assert done.code == 0
    labels = package.load(trained["lstm"]).labels
    header, *rows = done.out.splitlines()
    assert header.split() == ["text", "label", *(f"p({label})" for label in labels)]
    assert len(rows) == 2
    for row in rows:
        *_, label, first, second = row.split()
        assert label in labels and float(first) + float(second) == pytest.approx(1, abs=2e-4)


def test_predict_reads_and_writes_tables(trained, tmp_path):
    texts = ["a slow start", "what a dreadful, dreadful film", ""]
    pd.DataFrame({"number": [3, 1, 2], "text": texts}).to_csv(tmp_path / "in.csv", index=False)
    done = use("predict", trained["lstm"], "--input", tmp_path / "in.csv", "--output", tmp_path / "out.parquet")
    assert done.code == 0 and "3 rows" in done.out
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["text"].tolist() == texts and table["number"].tolist() == ["3", "1", "2"]
    alone = package.load(trained["lstm"]).predict(texts)
    assert table["label"].tolist() == alone["label"].tolist()
    assert table.filter(like="p(").to_numpy() == pytest.approx(alone.filter(like="p(").to_numpy())


def test_predict_labels_images_given_as_files_or_in_a_table(trained, world_cache, tmp_path):
    data = data_of(trained["cnn"], world_cache)
    for number in range(3):
        Image.fromarray(np.asarray(data.images[number]).transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    done = use("predict", trained["cnn"], "--image", *(tmp_path / f"{number}.png" for number in range(3)))
    assert done.code == 0 and len(done.out.splitlines()) == 4
    (tmp_path / "in.csv").write_text("image\n0.png\n1.png\n2.png\n")  # beside the table, wherever one stands
    done = use("predict", trained["cnn"], "--input", tmp_path / "in.csv", "--output", tmp_path / "out.json")
    assert done.code == 0
    table = pd.read_json(tmp_path / "out.json")
    alone = package.load(trained["cnn"]).predict([tmp_path / f"{number}.png" for number in range(3)])
    assert table["label"].tolist() == alone["label"].tolist()


@pytest.mark.parametrize("kind", ["lstm", "cnn"])
def test_a_loaded_predictor_gives_the_probabilities_that_the_test_counted(trained, world_cache, kind):
    """The same examples, once through the Trainer's evaluation and once through the artefacts in the run's folder."""
    predictor = package.load(trained[kind])
    data = data_of(trained[kind], world_cache)
    units = pd.read_parquet(trained[kind] / "per_unit.parquet").sort_values("example").head(100)
    rows = units["example"].to_numpy()
    if kind == "cnn":
        inputs = [Image.fromarray(np.asarray(data.images[row]).transpose(1, 2, 0)) for row in rows]
    else:
        tokens, lengths = data.store.rows(rows, 10_000, "head")
        inputs = [
            " ".join(data.vocabulary[t] for t in row[:n]) for row, n in zip(tokens.tolist(), lengths, strict=True)
        ]
    table = predictor.predict(inputs)
    held = units.filter(regex=r"^p\(")
    assert list(held) == [f"p({label})" for label in predictor.labels]
    assert table.filter(like="p(").to_numpy() == pytest.approx(held.to_numpy(), abs=1e-5)
    assert table["label"].tolist() == units["predicted"].tolist()


# In Python ----------------------------------------------------------------------------------------------------------


def test_load_needs_neither_hydra_nor_lightning_nor_the_data(trained, tmp_path):
    script = (
        "import sys, json, marquee\n"
        f"r = marquee.load({str(trained['ease'])!r}).recommend(users=[1], k=3)\n"
        f"t = marquee.load({str(trained['lstm'])!r}).predict(['fine'])\n"
        f"i = marquee.load({str(trained['cnn'])!r})\n"
        "heavy = [m for m in ('hydra', 'omegaconf', 'pytorch_lightning', 'lightning', 'wandb', 'torchmetrics',"
        " 'sklearn') if m in sys.modules]\n"
        "print(json.dumps([len(r), len(t), heavy]))\n"
    )
    settings = environment(tmp_path / "nothing", tmp_path / "no-cache")
    done = subprocess.run([sys.executable, "-c", script], env=settings, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [3, 1, []]
    assert not (tmp_path / "no-cache").exists() and not (tmp_path / "nothing").exists()


def test_a_run_holds_no_pickle_beside_its_checkpoints(trained):
    for folder in trained.values():
        names = {path.suffix for path in (folder / "inference").iterdir()}
        assert names <= {".json", ".safetensors"}


def test_runs_are_loaded_by_any_of_their_names(trained):
    folder = trained["ease"]
    output = folder.parents[1]
    for name in (folder, folder.name, folder.name[:12], manifest_of(folder)["fingerprint"], "latest"):
        assert len(package.load(name, output).items) == 400


def test_the_suggested_command_can_be_pasted_whatever_the_ids_are(shell, tmp_path):
    (tmp_path / "data").mkdir()
    rows = [f"{{u {user}}},i{(user * 4 + step) % 24},1" for user in range(6) for step in range(5)]
    (tmp_path / "data" / "plays.csv").write_text("\n".join(["user_id,item_id,value", *rows]))
    columns = "data.columns={user: user_id, item: item_id, value: value}"
    words = ["data=interactions", "data.path=plays.csv", columns, "model=baseline/popular", "tracker=none"]
    trained = shell("train", *words)
    assert trained.code == 0, trained.err
    (command,) = [line.strip() for line in trained.out.splitlines() if line.strip().startswith("marquee recommend")]
    assert shell(*shlex.split(command)[1:]).code == 0
    (rivals,) = [line.strip() for line in trained.out.splitlines() if line.strip().startswith("marquee train -m")]
    assert shlex.split(rivals)[3:6] == words[:3]


def test_a_run_that_was_judged_with_repeats_recommends_them(shell, tmp_path):
    assert shell("train", "model=linear/ease", "tracker=none", "task.mask_seen=false").code == 0
    predictor = package.load(tmp_path / "outputs" / "latest")
    assert len(predictor.recommend(users=[1], k=1000)) == len(predictor.items)
    assert "unless the run was judged with them" in " ".join(shell("recommend", "--help").out.split())
