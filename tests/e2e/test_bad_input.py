"""What is wrong with the input is said in one message: what, where, what was found, what to type; never a traceback."""

import errno
import gzip
import json
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from marquee.data.interactions import movielens
from marquee.runs.record import Run

from .commands import FAST

PLAYS = "user,item,rating,time\n" + "".join(
    f"{user},{user * 7 % 13 + step},{step % 5 + 1},{100 * user + step}\n" for user in range(20) for step in range(5)
)
TABLE = ["data=interactions", "data.path=plays.csv", "data.columns.user=user", "data.columns.item=item"]
RATED = [*TABLE, "data.columns.value=rating", "data.columns.timestamp=time"]
TEXTS = ["data=texts", "data.path=reviews.csv", "model=linear/bag_of_words", "data.min_count=1"]
QUICK = ["tracker=none", "trainer.max_epochs=1"]


def refused(answer, code, *parts):
    """Exit code, one message with all its parts, nothing on the screen and no traceback."""
    assert answer.code == code, answer.err
    assert "Traceback" not in answer.err and answer.out == ""
    for part in parts:
        assert part in answer.err, f"{part!r} is not in:\n{answer.err}"


def write_reviews(path, extra=()):
    rows = [
        f"film {n} was {('dull', 'great')[n % 2]} in its own way {n * n},{('bad', 'good')[n % 2]}" for n in range(60)
    ]
    path.write_text("\n".join(["text,label", *rows, *extra]) + "\n")


# Configuration: exit code 2 -----------------------------------------------------------------------------------------

MISTAKES = {
    "wrong spec": (
        ["data=movielens_100k", "model=cnn/poster"],
        ["takes ImageSpec", "data=movielens_100k yields InteractionSpec", "mf/bpr", "leave model=cnn/poster out"],
    ),
    "unknown key": (["+model.widht=3"], ["model.widht", "command line", "allowed:"]),
    "unknown key at the root": (["+lerning_rate=3"], ["lerning_rate", "command line", "allowed:"]),
    "wrong type": (["trainer.max_epochs=abc"], ["trainer.max_epochs", "abc", "integer"]),
    "out of range": (["model=mf/bpr", "model.dim=-4"], ["model.dim", "-4", ">= 1"]),
    "misspelt key": (["model=mf/bpr", "model.dmi=4"], ["model.dmi", "model.dim"]),
    "missing value": (["data=interactions"], ["data.path", "nothing", "conf/data/interactions.yaml", "data.path=..."]),
    "unknown data set": (["data=movielens_100"], ["data=movielens_100", "did you mean", "data=movielens_100k"]),
    "unknown model": (["model=mf/brp"], ["model=mf/brp", "model=mf/bpr", "allowed:"]),
    "class that may not be built": (["model._target_=os.system"], ["model._target_", "os.system", "MARQUEE_PLUGINS"]),
    "class that is not there": (["model._target_=marquee.models.mf.bpr.BRP"], ["no class BRP", "BPR"]),
    "group set to nothing": (["scheduler=null"], ["scheduler=null", "cosine", "none"]),
    "no optimizer": (["~optimizer", "model=mf/bpr"], ["optimizer", "nothing", "adam"]),
    "metric that is not computed": (
        ["task.monitor=ndcg@7", "model=linear/ease"],
        ["task.monitor=ndcg@7", "task.ks=[5, 10, 20]", "ndcg@10"],
    ),
    "heads that do not divide the width": (["model.dim=30", "model.heads=4"], ["30", "4"]),
    "resume of a run that is not there": (["resume=0123abcd"], ["no run 0123abcd", "marquee train"]),
}


@pytest.mark.parametrize(("words", "parts"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_configuration_is_explained(shell, words, parts):
    refused(shell("train", *words, "tracker=none"), 2, *parts)
    assert not os.path.exists("outputs/runs")


def test_a_typo_inside_a_yaml_names_the_file(shell, tmp_path):
    (tmp_path / "own" / "trainer").mkdir(parents=True)
    (tmp_path / "own" / "trainer" / "short.yaml").write_text("defaults:\n  - default\n  - _self_\nmax_epoch: 3\n")
    answer = shell("train", "--config-dir", tmp_path / "own", "trainer=short")
    refused(answer, 2, "trainer.max_epoch", "own/trainer/short.yaml", "trainer.max_epochs")


def test_several_mistakes_are_reported_at_once(shell):
    answer = shell("check", "+model.widht=3", "trainer.max_epochs=abc", "seed=-1")
    refused(answer, 2, "3 problems", "model.widht", "trainer.max_epochs", "seed")


# Data files: exit code 3 ---------------------------------------------------------------------------------------------


def test_data_that_is_nowhere_names_places_address_and_checksum(shell, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    answer = shell("train", "data=movielens_100k", f"paths.cache={tmp_path / 'empty'}", *QUICK)
    refused(
        answer, 3, str(tmp_path / "data" / "ml-100k" / "u.data"), "ml-100k.zip", "https://files.grouplens.org/",
        "0e33842e24a9c977be4e0107933c0723", "no network", "MARQUEE_DATA",
    )  # fmt: skip


def test_a_file_with_a_wrong_checksum_is_named_with_both_sums(shell, tmp_path):
    (tmp_path / "data" / "ml-100k").mkdir(parents=True)
    for name in ("u.data", "u.item", "u.user"):
        (tmp_path / "data" / "ml-100k" / name).write_text("1\t1\t5\t881250949\n")
    answer = shell("train", "data=movielens_100k", *QUICK)
    refused(answer, 3, "u.data", "sha256", "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490")


def test_an_archive_that_would_write_outside_its_folder_is_not_unpacked(shell, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "ml-latest-small.zip", "w") as archive:
        archive.writestr("../escaped.csv", "userId,movieId,rating,timestamp\n")
    # As published, the archive's own sum would be looked at first.
    unpublished = movielens.Archive("ml-latest-small.zip", movielens.ML_LATEST_SMALL.url)
    files = {
        role: movielens.RawFile(raw.names, (), unpublished, raw.member)
        for role, raw in movielens.MovieLensLatestSmall.files.items()
    }
    monkeypatch.setattr(movielens.MovieLensLatestSmall, "files", files)
    answer = shell("train", "data=movielens_latest_small", f"paths.cache={tmp_path / 'empty'}", *QUICK)
    refused(answer, 3, "ml-latest-small.zip", "'../escaped.csv'", "not unpacked")
    assert not list(tmp_path.rglob("escaped.csv"))


def test_movielens_1m_without_timestamps_refuses_a_protocol_that_needs_time(shell, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text("".join(f"{user}::{item}::4\n" for user in range(1, 9) for item in range(1, 6)))
    (folder / "movies.dat").write_text("".join(f"{item}::Film {item}::Drama\n" for item in range(1, 6)))
    (folder / "users.dat").write_text("".join(f"{user}::F::1::10::48067\n" for user in range(1, 9)))
    files = {role: movielens.RawFile(raw.names) for role, raw in movielens.MovieLens1M.files.items()}
    monkeypatch.setattr(movielens.MovieLens1M, "files", files)
    refused(
        shell("train", "data=movielens_1m", "split=leave_one_out", *QUICK),
        2,
        "split=leave_one_out",
        "time",
        "split=ratio",
    )
    refused(
        shell("train", "data=movielens_1m", "split=global_time", *QUICK), 2, "split=global_time", "time", "split=ratio"
    )


FILES = {
    "missing": (None, RATED, ["plays.csv", "data.path"]),
    "empty": ("", RATED, ["plays.csv", "empty"]),
    "malformed line": (PLAYS + "7,5,1\n", RATED, ["plays.csv", "line 102", "3 fields, expected 4"]),
    "rating that is no number": (PLAYS + "7,5,good,9\n", RATED, ["plays.csv", "line 102", "'good'", "rating"]),
    "duplicate header": (PLAYS.replace("rating", "item", 1), RATED, ["plays.csv", "'item'", "more than once"]),
    "unknown column": (PLAYS, [*TABLE, "data.columns.value=stars"],
                       ["plays.csv", "'stars'", "Columns seen: user, item, rating, time"]),
    "wrong encoding": (PLAYS.encode() + b"caf\xe9,1,2,3\n", RATED, ["plays.csv", "line 102", "data.encoding=latin-1"]),
    "truncated": (gzip.compress(PLAYS.encode())[:-40], [*RATED, "data.path=plays.csv.gz"], ["plays.csv.gz", "gzip"]),
    "no interactions": (PLAYS.splitlines()[0] + "\n", RATED, ["plays.csv", "no interactions"]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words", "parts"), FILES.values(), ids=FILES.keys())
def test_a_bad_table_of_interactions_is_refused(shell, tmp_path, content, words, parts):
    if content is not None:
        name = "plays.csv.gz" if words[-1].endswith(".gz") else "plays.csv"
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(shell("train", *words, "split=leave_one_out", *QUICK), 3, *parts)
    assert not os.path.exists("outputs/runs")


def test_users_with_one_interaction_are_counted_and_not_crashed_on(shell, tmp_path):
    (tmp_path / "plays.csv").write_text(PLAYS + "lonely,3,5,1\nalone,4,5,1\n")
    answer = shell("train", *RATED, "split=leave_one_out", "model=baseline/popular", "task.ks=[5,10]", *QUICK)
    assert answer.code == 0, answer.err
    report = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())["data"]["report"]
    assert 2 in [count for name, count in report.items() if "too_few" in name or "without" in name], report


def test_an_empty_review_is_counted_and_not_crashed_on(shell, tmp_path):
    write_reviews(tmp_path / "reviews.csv", ['"",good', '"  ",bad'])
    answer = shell("train", *TEXTS, *QUICK)
    assert answer.code == 0, answer.err
    report = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())["data"]["report"]
    assert 2 in [count for name, count in report.items() if "empty" in name], report


def test_a_label_that_training_does_not_know_is_named(shell, tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    (tmp_path / "test.csv").write_text("text,label\nwhat was that,awful\nfine indeed,good\n")
    refused(shell("train", *TEXTS, "data.test_path=test.csv", *QUICK), 3, "'awful'", "'bad', 'good'", "test")


def test_corrupt_images_are_named_and_counted_up_to_a_threshold(shell, tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        kind = ("day", "night")[number % 2]
        (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 100, (16, 16, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / kind / f"{number:02}.png")
    broken = tmp_path / "photos" / "day" / "00.png"
    broken.write_bytes(broken.read_bytes()[:100])
    words = ["train", "data=images", "data.path=photos", "data.height=16", "data.width=16", "model=cnn/poster",
             "model.channels=[4]", "model.dense=4", *QUICK]  # fmt: skip
    refused(shell(*words), 3, "day/00.png", "1 of 40", "data.max_corrupt")
    answer = shell(*words, "data.max_corrupt=0.1")
    assert answer.code == 0, answer.err
    report = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())["data"]["report"]
    assert "day/00.png" in json.dumps(report)


# Jobs: exit code 4 --------------------------------------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["marquee.tracking.curves.Curves._write", "pandas.DataFrame.to_parquet",
                                   "pytorch_lightning.Trainer.save_checkpoint"])  # fmt: skip
def test_a_full_disk_is_a_failed_run_that_says_what_to_do(shell, tmp_path, monkeypatch, where):
    monkeypatch.setattr(where, full_disk)
    refused(shell("train", *FAST["bpr"], *QUICK), 4, "No space left on device", "paths.output")
    manifest = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())
    assert manifest["status"] == "failed" and "No space left" in manifest["error"]


def test_a_full_disk_before_the_run_has_a_folder(shell, monkeypatch):
    monkeypatch.setattr("tempfile.mkstemp", full_disk)
    refused(shell("train", *FAST["bpr"], *QUICK), 4, "No space left on device", "paths.output=FOLDER")


def test_a_disk_too_full_for_prepared_data_names_the_cache(shell, tmp_path, monkeypatch):
    def short(*args, **kwargs):
        raise OSError("34045 requested and 16368 written")  # what NumPy says, without an error number

    monkeypatch.setattr(np, "save", short)
    answer = shell("train", *FAST["bpr"], *QUICK, f"paths.cache={tmp_path / 'full'}")
    refused(answer, 4, "disk is full", str(tmp_path / "full"), "paths.cache=FOLDER")
    assert [path.name for path in (tmp_path / "full" / "prepared").iterdir() if "world" in path.name] == []


def test_runs_started_at_the_same_second_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: Run.create(tmp_path, "f" * 64, "same", {"config": {}}), range(16)))
    assert len({run.folder for run in runs}) == 16
    assert all(json.loads((run.folder / "manifest.json").read_text())["id"] == run.folder.name for run in runs)
    assert (tmp_path / "latest").resolve() in {run.folder for run in runs}


# Damaged runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(shell, tmp_path, monkeypatch):
    """A run that failed after its first epoch."""
    from marquee.models.mf.bpr import BPR

    learn = BPR.loss
    steps = []

    def breaks(self, batch):
        steps.append(batch)
        if len(steps) > 8:
            raise RuntimeError("the power is gone")
        return learn(self, batch)

    monkeypatch.setattr(BPR, "loss", breaks)
    answer = shell("train", *FAST["bpr"], "tracker=none", "trainer.max_epochs=20")
    refused(answer, 4, "RuntimeError: the power is gone", "log.txt", "last.ckpt")
    monkeypatch.setattr(BPR, "loss", learn)
    return (tmp_path / "outputs" / "latest").resolve()


def test_a_truncated_checkpoint_is_named(shell, unfinished):
    checkpoint = unfinished / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    refused(shell("train", "resume=latest"), 4, str(checkpoint), "truncated", f"marquee rerun {unfinished.name}")
    assert json.loads((unfinished / "manifest.json").read_text())["status"] == "failed"


def test_a_checkpoint_of_another_model_is_named(shell, unfinished):
    config = (unfinished / "config.yaml").read_text()
    (unfinished / "config.yaml").write_text(config.replace("  dim: 8\n", "  dim: 9\n"))
    refused(shell("train", "resume=latest"), 4, "last.ckpt is of another model", "of shape", "marquee rerun")


def test_a_run_whose_folder_is_gone_cannot_be_resumed(shell, unfinished):
    shutil.rmtree(unfinished)
    refused(shell("train", "resume=latest"), 2, "no latest run")
    refused(shell("train", f"resume={unfinished}"), 2, unfinished.name)


def test_a_run_that_did_not_finish_cannot_be_used_and_says_how_to_finish_it(shell, unfinished):
    answer = shell("recommend", "latest", "--user", "1", "--runs", "outputs")
    refused(answer, 2, f"{unfinished.name} is failed", f"marquee train resume={unfinished.name}")


def test_a_run_that_was_trained_and_then_stopped_before_its_test_only_needs_the_test(shell, tmp_path, monkeypatch):
    from marquee.runs import train as training

    test = training.test
    monkeypatch.setattr(training, "test", lambda *_: (_ for _ in ()).throw(RuntimeError("the power is gone")))
    assert shell("train", *FAST["bpr"], "tracker=none", "trainer.max_epochs=2").code == 4
    monkeypatch.setattr(training, "test", test)
    assert shell("train", "resume=latest").code == 0
    resumed = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())
    assert shell("train", *FAST["bpr"], "tracker=none", "trainer.max_epochs=2").code == 0
    whole = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())
    assert resumed["metrics"] == whole["metrics"] and "validation/ndcg@10" in whole["metrics"]
    assert (resumed["epochs"], resumed["best_epoch"]) == (whole["epochs"], whole["best_epoch"])
