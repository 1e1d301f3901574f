"""Each contract, held by the smallest sample of what it is for: whole runs, resumed, put to use and compared."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import marquee
from marquee.config.check import problems
from marquee.config.compose import Composed, compose
from marquee.data.interactions.features import Features
from marquee.data.interactions.views import MaskedSequences, Rows
from marquee.data.spec import Feature, spec_from_json
from marquee.errors import ConfigError, DataError
from marquee.runs.train import prepare_data, train

from ..unit.small import SmallData, histories
from . import samples

HERE = samples.__name__


@pytest.fixture(autouse=True)
def here(shell, monkeypatch, tmp_path):
    """The samples may be built, and `marquee` commands run in a folder of the test's own."""
    monkeypatch.setenv("MARQUEE_PLUGINS", HERE.partition(".")[0])
    (tmp_path / "data").mkdir(exist_ok=True)


def configured(*words, **nodes):
    """The default configuration with other nodes in it; a text names a sample."""
    config = compose(["tracker=none", "optimizer.lr=0.05", "trainer.max_epochs=2", *words]).config
    for key, node in nodes.items():
        config[key] = sample(node) if isinstance(node, str) else node
    return config


def sample(name, **settings):
    return {"_target_": f"{HERE}.{name}", **settings}


def view(name, **settings):
    return {"_target_": f"marquee.data.interactions.views.{name}", **settings}


def found(config):
    return problems(Composed(config, (), {}))


def run(config, **others):
    assert [str(problem) for problem in found(config)] == []
    manifest = train(config, **others)
    assert manifest["status"] == "finished"
    return manifest, others.get("resume") or config_folder(config, manifest)


def config_folder(config, manifest):
    return Path(config["paths"]["output"]) / "runs" / manifest["id"]


def resumed_as_whole(config, kept=2, whole=4):
    """A run of `whole` epochs beside one that was stopped after `kept` and taken up again: the same weights."""
    long = json.loads(json.dumps(config))
    long["trainer"]["max_epochs"] = whole
    straight, _ = run(long)
    config["trainer"]["max_epochs"] = kept
    _, folder = run(config)
    assert torch_state(folder) != torch_state(config_folder(long, straight))
    # As a stopped run's: it has not reached its last epoch.
    manifest = json.loads((folder / "manifest.json").read_text()) | {"status": "interrupted"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    again, _ = run(long, resume=folder)
    assert again["epochs"] == whole
    assert torch_state(folder) == torch_state(config_folder(long, straight))
    return straight, folder


def torch_state(folder):
    """The last checkpoint's weights, optimisers, schedules and view, as something that `==` compares to the bit."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        key: plain(content[key]) for key in ("state_dict", "optimizer_states", "schedules", "view") if key in content
    }


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


# Model.fit ------------------------------------------------------------------------------------------------------------


def test_a_learner_without_gradients_fits_once_an_epoch_for_as_long_as_it_is_told():
    model = sample("LeastSquares", view=view("Matrix"), dim=4)
    manifest, folder = resumed_as_whole(configured(model=model))
    losses = [float(row["train/loss"]) for row in csv.DictReader((folder / "metrics.csv").open())]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)  # each sweep of alternating least squares lowers the error
    assert manifest["metrics"]["test/ndcg@10"] > manifest["baselines"]["baseline/random"]["ndcg@10"]


def test_a_closed_form_logs_no_loss_that_it_does_not_have(shell, tmp_path):
    assert shell("train", "model=linear/ease", "tracker=none").code == 0
    (row,) = csv.DictReader((tmp_path / "outputs" / "latest" / "metrics.csv").open())
    assert "train/loss" not in row
    assert float(row["validation/ndcg@10"]) > 0


# Model.prepare and features ------------------------------------------------------------------------------------------


def test_features_and_a_graph_reach_the_model_before_training_and_features_travel_with_it():
    kinds = {"genres": "multi_hot", "year": "dense", "title": "categorical"}
    config = configured(model=sample("ByFeatures", view=view("Rows", batch_size=256)))
    config["data"]["item_features"] = kinds
    manifest, folder = run(config)
    columns = spec_from_json(manifest["data"]["spec"]).item_features
    assert columns == (
        Feature("genres", "multi_hot", 8),
        Feature("year", "dense", 1),
        Feature("title", "categorical", 401),
    )
    predictor = marquee.load(folder)
    data = prepare_data(config)
    years = data.items["year"].to_numpy(float)
    np.testing.assert_allclose(predictor.model.year[:, 0], (years - years.mean()) / years.std(), rtol=1e-4, atol=1e-5)
    first = data.items["genres"][0].split("|")
    assert predictor.model.genres[0].nonzero()[:, 0].tolist() == sorted(
        predictor.features["item"].encoding["genres"].index(genre) for genre in first
    )
    assert not hasattr(predictor.model, "graph")
    # An item that training never saw is encoded as those that it saw; an unknown genre is none.
    new = pd.DataFrame({"genres": ["Horror|Opera"], "year": [years.mean()], "title": ["A new film"]})
    encoded = predictor.features["item"].encode(new)
    assert encoded["genres"].sum() == 1 and encoded["year"][0, 0] == pytest.approx(0, abs=1e-6)
    assert encoded["title"].tolist() == [0]
    assert len(predictor.recommend(histories=[["1", "2"]], k=3)) == 3


def test_features_do_not_tear_a_comparison_apart(shell):
    """A model that reads features stands in one block with one that does not: the protocol is the same."""
    assert shell("train", "model=linear/ease", "tracker=none").code == 0
    config = configured(model=sample("ByFeatures", view=view("Rows")))
    config["data"]["item_features"] = {"genres": "multi_hot"}
    run(config)
    content = json.loads(shell("compare", "outputs", "--format", "json").out)
    assert len(content["blocks"]) == 1


def test_a_feature_that_is_not_there_is_named():
    config = configured()
    config["data"]["item_features"] = {"genre": "multi_hot"}
    with pytest.raises(
        ConfigError, match=r"data\.item_features\.genre: there is no such column\. Columns seen: .*genres"
    ):
        prepare_data(config)
    config["data"]["item_features"] = {"title": "dense"}
    with pytest.raises(ConfigError, match=r"data\.item_features\.title: a dense feature holds numbers"):
        prepare_data(config)
    config["data"]["item_features"] = {"genres": "bag"}
    assert [problem.key for problem in found(config)] == ["data.item_features"]


# Views ---------------------------------------------------------------------------------------------------------------

SMALL = SmallData([[0, 1, 2], [], [3], [1, 4, 0, 2]], [[]] * 4, [[]] * 4, n_items=5)


def test_rows_give_every_user_with_a_history_once():
    view = Rows(batch_size=2)
    batches = list(view.train_batches(SMALL, seed=1, epoch=0))
    assert len(batches) == view.steps(SMALL) == 2
    rows = {}
    for batch in batches:
        for user, row in zip(batch.users.tolist(), batch.histories.matrix(5).tolist()):
            rows[user] = row
    assert rows == {0: [1, 1, 1, 0, 0], 2: [0, 0, 0, 1, 0], 3: [1, 1, 1, 0, 1]}
    shares = [view.shard(batches[0], rank, 2) for rank in range(2)]
    assert [share.users.tolist() for share in shares] == [[user] for user in batches[0].users.tolist()]
    assert all(share.histories.matrix(5).tolist() == [rows[int(share.users)]] for share in shares)


def test_masked_sequences_hide_some_items_and_ask_for_those():
    view = MaskedSequences(batch_size=4, max_length=3, masked_share=0.3)
    assert view.steps(SMALL) == 1
    hidden = 0
    for epoch in range(50):
        (batch,) = view.train_batches(SMALL, seed=1, epoch=epoch)
        padding, mask = 5, 6
        asked = batch.targets != padding
        assert torch.equal(batch.items == mask, asked)
        assert bool(asked.any(1).all()), "every row asks for something"
        # Put back what was hidden, and the newest three items of each user are there.
        rows = torch.where(asked, batch.targets, batch.items).tolist()
        assert sorted(rows) == [[0, 1, 2], [3, 5, 5], [4, 0, 2]]
        hidden += int(asked.sum())
    # By hand: 1 for the row of one; for a row of three 3 * 0.3, and one more where none was hidden (0.7 ** 3).
    assert hidden / 50 == pytest.approx(1 + 2 * (0.9 + 0.343), rel=0.15)


def test_a_model_may_read_rows_and_one_may_ask_with_a_mask_behind_the_history():
    manifest, folder = run(
        configured("trainer.max_epochs=8", model=sample("Autoencoder", view=view("Rows", batch_size=64)))
    )
    assert manifest["metrics"]["test/ndcg@10"] > manifest["baselines"]["baseline/popular"]["ndcg@10"]
    masked = view("MaskedSequences", max_length=10)
    loss = {"_target_": "marquee.models.losses.NextItemLoss"}
    manifest, folder = run(configured(model=sample("Cloze", view=masked, loss=loss)))
    model = marquee.load(folder).model
    assert len(model.items.weight) == 400 + 1 + 1
    by_hand = model.items.weight[[3, 7]].mean(0) + model.items.weight[401]
    torch.testing.assert_close(model.query(histories([3, 7])), by_hand[None])


# Splits --------------------------------------------------------------------------------------------------------------


def test_held_out_users_are_folded_in_by_their_history():
    config = configured(model=compose(["model=linear/ease"]).config["model"], split="HeldOutUsers")
    data = prepare_data(config)
    for part, code in (("test", 0), ("validation", 1)):
        users = np.flatnonzero(np.diff(data.parts[part].offsets))
        assert set(users % 5) == {code}
        assert not np.isin(users, data.parts["train"].users).any()
        known, wanted, all_ = data.history(part), data.parts[part], data.store
        for user in users[:5]:
            row = all_.items[all_.offsets[user] : all_.offsets[user + 1]].tolist()
            history = known.items[known.offsets[user] : known.offsets[user + 1]].tolist()
            targets = wanted.items[wanted.offsets[user] : wanted.offsets[user + 1]].tolist()
            assert history + targets == row and abs(len(history) - len(targets)) <= 1
    assert data.report["history_only"] > 0
    manifest, _ = run(config)
    assert manifest["metrics"]["test/ndcg@10"] > manifest["baselines"]["baseline/popular"]["ndcg@10"]


def test_items_that_training_never_saw_can_be_found_by_their_features():
    config = configured("trainer.max_epochs=5", model=sample("ByFeatures", view=view("Rows")), split="NewItems")
    config["data"]["item_features"] = {"genres": "multi_hot"}
    data = prepare_data(config)
    assert not np.isin(data.parts["test"].items, data.parts["train"].items).any()
    assert data.report["targets_of_unseen_items"] == len(data.parts["test"])
    manifest, _ = run(config)
    assert manifest["metrics"]["test/recall@20"] > manifest["baselines"]["baseline/popular"]["recall@20"]


def test_folds_are_pooled_into_one_row(shell, tmp_path):
    ease = compose(["model=linear/ease"]).config["model"]
    scores = {}
    for fold in range(3):
        manifest, _ = run(configured(model=ease, split=sample("Folds", fold=fold)))
        scores[fold] = manifest["metrics"]["test/ndcg@10"]
        assert manifest["split"]["fold"] == fold and manifest["split"]["folds"] == 3
    content = json.loads(shell("compare", "outputs", "--format", "json").out)
    (block,) = content["blocks"]
    (row,) = block["configurations"]
    assert (row["label"], row["seeds"], len(row["runs"])) == ("linear/ease", [1], 3)
    score = next(score for score in block["metrics"][0]["scores"] if score["kind"] == "model")
    assert score["values"] == [pytest.approx(np.mean(list(scores.values())))]
    # By hand: each user's mean over the folds that test the user; the interval is a bootstrap over these.
    tables = [pd.read_parquet(file) for file in (tmp_path / "outputs" / "runs").glob("*/per_unit.parquet")]
    users = pd.concat(tables).groupby("user")["ndcg@10"].mean()
    assert block["n_units"] == len(users) == 1000
    assert score["interval"][0] < users.mean() < score["interval"][1]
    shown = shell("compare", "outputs")
    assert "3 folds" in shown.out


def test_folds_of_unequal_size_count_by_their_units_and_only_shared_folds_are_paired(shell):
    """By hand: the pooled score is the mean over all tested units, and lies inside its own interval."""
    from marquee.compare.groups import Group
    from marquee.runs.record import Run

    def run_of(fold, score, units):
        content = {"seed": 1, "metrics": {"test/x": score}, "split": {"fold": fold}, "n_units": units}
        return Run(Path(str(fold)), content)

    (value,) = Group([run_of(0, 0.9, 10), run_of(1, 0.3, 30)]).values("test/x")
    assert value == pytest.approx((0.9 * 10 + 0.3 * 30) / 40)
    ease = compose(["model=linear/ease"]).config["model"]
    for model, fold in ((ease, 0), (ease, 1), ({**ease, "l2": 400.0}, 2)):
        run(configured(model=model, split=sample("Folds", fold=fold)))
    (block,) = json.loads(shell("compare", "outputs", "--format", "json").out)["blocks"]
    assert block["tests"] == 0 and block["n_units"] == 0
    assert any("those that all have: none" in note for note in block["notes"])


def test_a_search_minimises_what_its_task_minimises():
    from marquee.search.objectives import objectives_of

    (objective,) = objectives_of(None, tunes())
    assert (objective.name, objective.direction) == ("nats", "minimize")


def test_a_missing_fold_is_said(shell):
    ease = compose(["model=linear/ease"]).config["model"]
    for fold in (0, 2):
        run(configured(model=ease, split=sample("Folds", fold=fold)))
    assert "fold 1 of 3 is missing" in " ".join(shell("compare", "outputs").out.split())


# A task says everything itself ---------------------------------------------------------------------------------------


def tunes(**nodes):
    return configured(
        data="Melodies", split={"_target_": "marquee.data.dataset.Split"},
        **{"task": "Continuation", "model": sample("NextNote", view=sample("WholeTunes")), **nodes},
    )  # fmt: skip


def test_a_task_names_its_unit_words_and_predictor_and_nobody_else_does(shell, capsys):
    config = tunes(task=sample("Continuation", stride=2))
    config["optimizer"]["lr"] = 1.0
    manifest, folder = run(config)
    assert manifest["monitor"] == "nats" and manifest["mode"] == "min"
    screen = capsys.readouterr().out
    assert "every note of 4 tunes, stride 2" in screen and "--prompt c" in screen
    assert list(pd.read_parquet(folder / "per_unit.parquet")) == ["tune", "nats"]
    assert manifest["cost"]["latency_ms"] > 0
    composer = marquee.load(folder)
    assert composer.generate("c", 3) == ["c", "d", "e", "f"]
    with pytest.raises(ConfigError, match="This run continues tunes; it cannot recommend. Use generate"):
        composer.recommend()
    refused = shell("predict", str(folder), "--text", "c")
    assert refused.code == 2 and "continues tunes" in refused.err


def test_what_a_task_measures_makes_the_block_and_its_unit_the_tests(shell):
    for seed in (1, 2):
        for stride in (1, 2):
            run(tunes(task=sample("Continuation", stride=stride)) | {"seed": seed})
    content = json.loads(shell("compare", "outputs", "--format", "json").out)
    assert len(content["blocks"]) == 2
    printed = shell("compare", "outputs").out
    assert "stride" in printed and "every note of 4 tunes" in printed and "tunes" in printed


def test_a_spec_of_ones_own_is_known_and_does_not_fit_other_models():
    assert spec_from_json({"kind": "DiceSpec", "sides": 6}) == samples.DiceSpec(6)
    with pytest.raises(ValueError, match=r"there is no spec CoinSpec; known are .*DiceSpec.*TokenSpec"):
        spec_from_json({"kind": "CoinSpec"})
    config = tunes(model=compose(["data=world_posters"]).config["model"])
    (problem,) = found(config)
    assert "takes ImageSpec" in problem.found


@pytest.mark.parametrize("damage", [{"format": 3}, {"predictor": ["x"]}, {"spec": None}, {"model": []}])
def test_a_damaged_or_later_inference_folder_is_refused_in_words(damage):
    _, folder = run(tunes())
    file = folder / "inference" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises((DataError, ConfigError)):
        marquee.load(folder)


def test_features_that_say_nothing_are_nothing_and_whole_numbers_stay_whole():
    table = pd.DataFrame({"constant": [7.0, 7.0, None], "studio": ["0", "1", "2"]})
    features = Features.learn(table, {"constant": "dense", "studio": "categorical"}, "data.item_features")
    encoded = features.encode(pd.DataFrame({"constant": [7, None], "studio": [1, None]}))
    assert encoded["constant"].ravel().tolist() == [0, 0]
    assert encoded["studio"].tolist() == [2, 0]  # 0 is missing, then "0", "1", "2"
    with pytest.raises(ConfigError, match=r"data\.item_features\.constant: .*infinite"):
        Features.learn(table.assign(constant=[1.0, float("inf"), 2.0]), {"constant": "dense"}, "data.item_features")


# Several learners ----------------------------------------------------------------------------------------------------


def test_learners_take_turns_each_with_its_optimiser_and_resume_to_the_bit():
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1}
    adam = {"_target_": "torch.optim.Adam", "lr": 0.01, "fused": True}
    config = tunes(
        task="Adversaries", model=sample("Pair", view=sample("WholeTunes")),
        optimizer={"generator": sgd, "judge": adam},
    )  # fmt: skip
    config["scheduler"] = compose(["scheduler=cosine"]).config["scheduler"]
    config["trainer"]["gradient_clip_val"] = 0.01
    _, folder = resumed_as_whole(config)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(content["schedules"]) == {"generator", "judge"}
    kinds = ["exp_avg" in str(state["state"]) for state in content["optimizer_states"]]
    assert kinds == [False, True]


def test_the_steps_of_learners_are_clipped(monkeypatch):
    """Plain gradient descent with rate 1 moves a learner by no more than the norm of the clipped gradient."""
    moved = []
    step = torch.optim.SGD.step

    def watched(optimizer, closure=None):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in parameters]
        result = step(optimizer, closure)
        moved.append(sum(((p - q) ** 2).sum() for p, q in zip(parameters, before)).sqrt().item())
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    config = tunes(
        task="Adversaries", model=sample("Pair", view=sample("WholeTunes")),
        optimizer={"_target_": "torch.optim.SGD", "lr": 1.0},
    )  # fmt: skip
    config["trainer"]["gradient_clip_val"] = 0.25
    run(config)
    assert len(moved) == 2 * 2 * 4
    assert max(moved) == pytest.approx(0.25, rel=1e-3)


def test_learners_do_not_gather_gradients_over_batches():
    config = tunes(task="Adversaries", model=sample("Pair", view=sample("WholeTunes")))
    config["trainer"]["accumulate_grad_batches"] = 2
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=2: Adversaries makes its own steps"):
        train(config)


def test_the_optimisers_of_learners_are_checked_by_name():
    adam = {"_target_": "torch.optim.Adam", "lr": 0.01}
    pair = partial(tunes, task="Adversaries", model=sample("Pair", view=sample("WholeTunes")))
    assert found(pair(optimizer=adam)) == []
    wrong = found(pair(optimizer={"generator": adam, "jugde": adam}))
    assert [problem.key for problem in wrong] == ["optimizer.jugde", "optimizer.judge"]
    assert "did you mean optimizer.judge" in wrong[0].fix
    wrong = found(pair(optimizer={"generator": adam, "judge": {**adam, "lr": "fast"}}))
    assert [problem.key for problem in wrong] == ["optimizer.judge.lr"]
    assert [problem.key for problem in found(tunes(optimizer={"generator": adam}))] == ["optimizer"]


def test_a_model_without_a_part_that_the_task_trains_is_refused_before_the_run_has_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"NextNote has no part generator, and Adversaries trains .*generator, judge"):
        train(tunes(task="Adversaries"))
    assert not (tmp_path / "outputs" / "runs").exists()


# Experience ----------------------------------------------------------------------------------------------------------


def test_a_view_plays_with_the_frozen_policy_and_its_buffer_survives_a_resume():
    config = tunes(model=sample("Player", view=sample("Played")))
    _, folder = resumed_as_whole(config)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["view"]["buffer"].shape == (4, 4)  # what four epochs played
    assert "view" not in content["state_dict"]


# Schedules -----------------------------------------------------------------------------------------------------------


def rates(folder):
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["optimizer_states"][0]["param_groups"][0]["lr"], content["schedules"][""]["last_epoch"]


def test_a_schedule_steps_by_the_epoch_or_by_the_step_and_resumes_to_the_bit():
    linear = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 0.5, "total_iters": 20}
    _, folder = run(tunes() | {"scheduler": linear})
    assert rates(folder) == (pytest.approx(0.05 * (0.5 + 0.5 * 2 / 20)), 2)
    config = tunes() | {"scheduler": {**linear, "interval": "step"}}
    _, folder = run(config)
    assert rates(folder) == (pytest.approx(0.05 * (0.5 + 0.5 * 8 / 20)), 8)  # two epochs of four steps
    # Gradients that are gathered over two batches make one step of them.
    gathered = json.loads(json.dumps(config))
    gathered["trainer"]["accumulate_grad_batches"] = 2
    _, folder = run(gathered)
    assert rates(folder)[1] == 4
    resumed_as_whole(tunes() | {"scheduler": {**linear, "interval": "step"}})
    assert [problem.key for problem in found(tunes() | {"scheduler": {**linear, "interval": "week"}})] == [
        "scheduler.interval"
    ]
    plateau = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "interval": "step"}
    assert [problem.key for problem in found(tunes() | {"scheduler": plateau})] == ["scheduler.interval"]
