"""The ledger: an index that follows the manifests and can always be thrown away."""

import os
import shutil

import pytest

from marquee.runs import ledger
from marquee.runs.manifest import Run


@pytest.fixture
def output(tmp_path):
    for number, model in enumerate(["marquee.models.mf.bpr.BPR", "mine.thing.Thing"]):
        config = {"seed": number, "model": {"_target_": model}}
        run = Run.create(tmp_path, f"{number}" * 64, "world", {"config": config, "seed": number})
        run.finish("finished", metrics={"test/ndcg@10": number / 10}, monitor="ndcg@10")
    return tmp_path


def test_every_run_is_listed_oldest_first_with_what_a_list_needs(output):
    first, second = ledger.runs(output)
    assert (first["id"], first["status"], first["seed"], first["metrics"]) == (
        "00000000-world",
        "finished",
        0,
        {"test/ndcg@10": 0.0},
    )
    assert (first["model"], second["model"]) == ("mf/bpr", "Thing")
    assert os.path.isdir(first["folder"])
    assert "config" not in first


def test_changes_additions_and_removals_are_followed(output):
    ledger.runs(output)
    Run.open(output / "runs" / "00000000-world").update(status="failed", error="NaN")
    shutil.rmtree(output / "runs" / "11111111-world")
    Run.create(output, "2" * 64, "world", {"config": {}, "seed": 2}).finish("finished")
    assert [(run["seed"], run["status"]) for run in ledger.runs(output)] == [(0, "failed"), (2, "finished")]


def test_unchanged_manifests_are_not_read_again(output, monkeypatch):
    before = ledger.runs(output)
    monkeypatch.setattr(ledger, "read_manifest", lambda folder: pytest.fail(f"read {folder}"))
    assert ledger.runs(output) == before


@pytest.mark.parametrize("damage", [b"this is no database", b"", b"SQLite format 3\0 and then nonsense" * 50])
def test_a_damaged_index_is_rebuilt(output, damage):
    before = ledger.runs(output)
    (output / ledger.FILE).write_bytes(damage)
    assert ledger.runs(output) == before
    assert ledger.runs(output) == before


def test_a_deleted_index_is_rebuilt(output):
    before = ledger.runs(output)
    (output / ledger.FILE).unlink()
    assert ledger.runs(output) == before


def test_an_index_that_cannot_be_written_is_kept_in_memory(output, monkeypatch):
    before = ledger.runs(output)
    (output / ledger.FILE).unlink()
    (output / ledger.FILE).mkdir()  # what root cannot write either
    assert ledger.runs(output) == before


def test_a_killed_run_is_shown_as_interrupted(output):
    run = Run.create(output, "3" * 64, "world", {"config": {}})
    assert ledger.runs(output)[-1]["status"] == "running"
    run.update(process={**run.manifest["process"], "started": "another/1", "pid": 2**22 + 1})
    assert ledger.runs(output)[-1]["status"] == "interrupted"
    assert Run.open(run.folder).manifest["status"] == "running", "the record itself is not touched"


def test_one_unreadable_manifest_does_not_hide_the_others(output):
    (output / "runs" / "00000000-world" / "manifest.json").write_text("{")
    assert {run["id"]: run["status"] for run in ledger.runs(output)} == {
        "00000000-world": "failed",
        "11111111-world": "finished",
    }


def test_no_runs_and_no_folder(tmp_path):
    assert ledger.runs(tmp_path / "nothing") == []
    assert not (tmp_path / "nothing").exists()
