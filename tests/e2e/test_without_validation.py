"""A split without validation trains all its epochs and keeps the last; what cannot be trained is said beforehand."""

import csv
import os

import torch

from .commands import FAST
from .conftest import manifest_of

QUICK = ["tracker=none", "trainer.max_epochs=3"]
RATIO = [*FAST["bpr"], "split=ratio", "split.validation=0", *QUICK]


def test_without_validation_all_epochs_are_trained_and_the_last_is_kept(shell, tmp_path):
    # Were the loss watched, a patience of 0 would stop after two epochs.
    answer = shell("train", *RATIO, "callbacks.early_stopping.patience=0")
    assert answer.code == 0, answer.err
    folder = (tmp_path / "outputs" / "latest").resolve()
    manifest = manifest_of(folder)
    assert manifest["epochs"] == 3 and manifest["best_epoch"] is None
    assert manifest["checkpoint"]["kept"] == "last, without validation"
    assert manifest["data"]["report"]["validation_interactions"] == 0
    assert not [name for name in manifest["metrics"] if name.startswith("validation/")]
    assert "epoch 3, the last, without validation" in " ".join(answer.out.split())
    assert "no validation: all 3 epochs are trained and the last is kept" in (folder / "log.txt").read_text()
    assert len(list(csv.DictReader((folder / "metrics.csv").open()))) == 3
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("last", "best")
    )
    assert all(torch.equal(last[name], best[name]) for name in last)
    assert shell("recommend", "latest", "--user", "1").code == 0


def test_a_run_with_validation_says_that_the_best_was_kept(trained):
    assert manifest_of(trained["bpr"])["checkpoint"]["kept"] == "best on validation"


def test_a_schedule_that_goes_by_validation_is_refused_without_one(shell):
    for words in (RATIO, [*FAST["bpr"], *QUICK, "trainer.limit_val_batches=0"]):
        answer = shell("train", *words, "scheduler=plateau")
        assert answer.code == 2 and "scheduler=cosine" in answer.err and "Traceback" not in answer.err
    assert not os.path.exists("outputs/runs")


def plays(*users):
    return "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, n in enumerate(users) for t, i in enumerate(range(n)))


TABLE = ["data=interactions", "data.path=plays.csv", "data.columns.user=user", "data.columns.item=item"]


def test_a_validation_part_that_comes_out_empty_is_refused_with_what_to_type(shell, tmp_path):
    (tmp_path / "plays.csv").write_text(plays(2, 2, 2, 2))
    answer = shell("train", *TABLE, *QUICK)
    assert answer.code == 3 and "Ratio leaves validation empty" in answer.err and "split.validation=0" in answer.err
    assert shell("train", *TABLE, *QUICK, "split.validation=0", "task.ks=[2]", "task.monitor=ndcg@2").code == 0
    (tmp_path / "train.csv").write_text(plays(1, 1, 1))
    (tmp_path / "test.csv").write_text("user,item,time\n0,5,9\n1,6,9\n")
    files = ["split=files", "split.train=train.csv", "split.test=test.csv"]
    answer = shell("train", *TABLE, *files, *QUICK)
    assert answer.code == 3 and "validation empty" in answer.err and "split.validation_share=0" in answer.err


def test_nothing_to_train_on_is_said_before_training(shell, tmp_path):
    # Leave-one-out leaves each of three interactions one for training, and a sequence needs two.
    (tmp_path / "plays.csv").write_text(plays(3, 3, 3))
    words = [*TABLE, "data.columns.timestamp=time", "split=leave_one_out", "model=rnn/gru4rec"]
    answer = shell("train", *words, *QUICK, "task.ks=[3]", "task.monitor=ndcg@3")
    assert answer.code == 3, answer.err
    assert "Sequences finds nothing to train on" in answer.err and "train_interactions 3" in answer.err
    assert not os.path.exists("outputs/runs")


def test_an_epoch_without_a_batch_is_said_before_training(shell):
    for word in ("trainer.max_epochs=0", "trainer.limit_train_batches=0"):
        answer = shell("train", *FAST["bpr"], "tracker=none", word)
        assert answer.code == 2 and word in answer.err and "Traceback" not in answer.err, answer.err
    assert not os.path.exists("outputs/runs")
