"""Pruning: a run tells its study of each epoch, ends where the study says so, and is no failure."""

import json
import logging
import shutil
from types import SimpleNamespace

import optuna
import pytest
import torch

from marquee.config.check import problems
from marquee.config.compose import compose
from marquee.config.fingerprint import EXCLUDED, fingerprint
from marquee.config.values import spelled
from marquee.runs.record import Run
from marquee.runs.recording import Pruned, recording
from marquee.runs.rerun import _prunes, _repeatable
from marquee.search.pruning import Pruning

TASK = SimpleNamespace(monitor="ndcg@10", mode="max")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The file of a study with five complete trials, and one that runs: it costs a second of waiting for the disk."""
    file = tmp_path_factory.mktemp("study") / "study.db"
    storage = f"sqlite:///{file}"
    found = optuna.create_study(storage=storage, study_name="tune/model", direction="maximize")
    for _ in range(5):
        trial = found.ask()
        for epoch in range(1, 11):
            trial.report(0.1 * epoch, epoch)
        found.tell(trial, 1.0)
    found.ask()
    return file


@pytest.fixture
def study(database, tmp_path):
    """Five complete trials whose metric rose by 0.1 an epoch, so the median of epoch e is 0.1 e; one that runs."""
    storage = f"sqlite:///{shutil.copy(database, tmp_path / 'study.db')}"
    return optuna.load_study(study_name="tune/model", storage=storage), storage


def trainer(best=None, best_epoch=None, max_epochs=10):
    """As much of Lightning's Trainer as the callback sees."""
    return SimpleNamespace(
        sanity_checking=False, is_global_zero=True, current_epoch=0, max_epochs=max_epochs, callback_metrics={},
        checkpoint_callback=SimpleNamespace(best=best, best_epoch=best_epoch, stopped=False),
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )  # fmt: skip


def train(callback, values, epochs=range(10), **settings):
    """Lightning's order of hooks; returns the number of epochs that were trained."""
    fake = trainer(**settings)
    fake.current_epoch = epochs[0]
    callback.on_train_start(fake, TASK)
    for epoch in epochs:
        fake.current_epoch = epoch
        if epoch != epochs[0] or epoch == 0:  # Lightning leaves it out in the first epoch after a resume
            callback.on_train_epoch_start(fake, TASK)
        fake.callback_metrics["validation/ndcg@10"] = torch.tensor(values(epoch + 1))
        callback.on_validation_end(fake, TASK)
        callback.on_train_epoch_end(fake, TASK)
    return len(epochs)


def pruning(storage, trial=5):
    return Pruning(storage=storage, study="tune/model", trial=trial, pruner="median")


def test_a_run_below_the_median_ends_after_the_epochs_that_are_never_judged(study):
    found, storage = study
    with pytest.raises(Pruned) as caught:
        train(pruning(storage), lambda epoch: 0.01 * epoch, best=0.03, best_epoch=3)
    # The first fifth of 10 epochs is not judged; epoch 3 is the first that can tell.
    assert found.trials[5].intermediate_values == pytest.approx({1: 0.01, 2: 0.02, 3: 0.03})
    assert caught.value.fields == {"metrics": {"validation/ndcg@10": 0.03}, "monitor": "ndcg@10", "mode": "max",
                                   "epochs": 3, "best_epoch": 3}  # fmt: skip
    assert "trial 5 of tune/model" in str(caught.value)


def test_a_run_above_the_median_and_one_that_has_come_to_its_end_go_on(study):
    _, storage = study
    assert train(pruning(storage), lambda epoch: 0.2 * epoch) == 10
    # Bad in its last epoch only: it is over anyway.
    assert train(pruning(storage), lambda epoch: 0.2 * epoch if epoch < 10 else -1.0) == 10


def test_a_resumed_run_reports_epochs_that_were_reported_and_is_asked_what_was_not_asked(study):
    found, storage = study
    train(pruning(storage), lambda epoch: 0.2 * epoch, epochs=range(6))
    assert train(pruning(storage), lambda epoch: 0.2 * epoch, epochs=range(4, 10)) == 6
    assert found.trials[5].intermediate_values == pytest.approx({epoch: 0.2 * epoch for epoch in range(1, 11)})
    other = found.ask().number
    train(pruning(storage, other), lambda epoch: 0.01, epochs=range(3))  # killed before the next epoch begins
    with pytest.raises(Pruned, match="after epoch 3"):
        train(pruning(storage, other), lambda epoch: 0.01, epochs=range(3, 10))


def test_an_epoch_without_validation_is_not_reported(study):
    found, storage = study
    callback, fake = pruning(storage), trainer()
    fake.callback_metrics["validation/ndcg@10"] = torch.tensor(0.5)  # of an earlier epoch
    callback.on_train_epoch_end(fake, TASK)
    assert found.trials[5].intermediate_values == {}


@pytest.mark.parametrize("what", ["closed trial", "no such study", "no such storage"])
def test_a_run_whose_study_cannot_be_asked_goes_on_alone(what, study, tmp_path, caplog):
    found, storage = study
    callback = pruning(storage)
    if what == "closed trial":
        found.tell(5, state=optuna.trial.TrialState.FAIL)
    elif what == "no such study":
        callback.study = "another"
    else:
        callback.storage = f"sqlite:///{tmp_path}/no/such/folder/study.db"
    with caplog.at_level(logging.WARNING, logger="marquee"):
        assert train(callback, lambda epoch: 0.0) == 10
    assert ("the run goes on without it" in caplog.text) is (what != "closed trial")


def test_the_manifest_says_pruned_and_nothing_is_raised(tmp_path):
    run = Run.create(tmp_path, "a" * 64, "x", {"config": {}, "durations": {"prepare": 1.0}})
    reached = []
    with recording(run, {"tracker": {}}):
        reached.append("fit")
        raise Pruned("pruned after epoch 3", {"metrics": {"validation/ndcg@10": 0.03}, "epochs": 3})
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert reached == ["fit"]
    assert (manifest["status"], manifest["error"], manifest["epochs"]) == ("pruned", None, 3)
    assert manifest["metrics"] == {"validation/ndcg@10": 0.03} and manifest["finished"]


def test_the_callback_is_configured_checked_and_no_part_of_a_runs_identity():
    node = {"_target_": "marquee.search.pruning.Pruning", "storage": "sqlite:////tmp/a b.db", "study": "tune/mf/bpr",
            "trial": 3, "pruner": "median"}  # fmt: skip
    with_node = compose([f"callbacks.pruning={spelled(node)}"])
    assert with_node.config["callbacks"]["pruning"] == node and problems(with_node) == []
    assert "callbacks.pruning" in EXCLUDED
    code = {"sha256": "c"}
    assert fingerprint(with_node.config, "d", "s", code) == fingerprint(compose([]).config, "d", "s", code)
    other = compose(["callbacks.early_stopping.patience=7"])
    assert fingerprint(other.config, "d", "s", code) != fingerprint(compose([]).config, "d", "s", code)


def test_a_rerun_neither_prunes_nor_reports_and_lands_beside_the_run(tmp_path):
    places = {"output": "elsewhere", "data": "d"}
    config = {"resume": "x", "seed": 1, "callbacks": {"pruning": {"trial": 3}, "checkpoint": {}}, "paths": places}
    packed = {"resume": None, "seed": 1, "callbacks": {"checkpoint": {}}, "paths": places}
    folder = tmp_path / "outputs" / "runs" / "a"
    assert _repeatable(config, folder) == packed  # a copy without checkpoints: where its record says
    (folder / "checkpoints").mkdir(parents=True)
    assert _repeatable(config, folder) == {**packed, "paths": {**places, "output": str(tmp_path / "outputs")}}
    assert _prunes("callbacks.pruning={trial:3}") and not _prunes("callbacks.early_stopping.patience=3")
