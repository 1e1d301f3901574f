"""The ledger: an index that follows the manifests and can always be thrown away."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from marquee.runs import ledger
from marquee.runs.lock import release
from marquee.runs.record import Run


@pytest.fixture
def output(tmp_path):
    for number, model in enumerate(["marquee.models.mf.bpr.BPR", "mine.thing.Thing"]):
        config = {"seed": number, "model": {"_target_": model}}
        run = Run.create(tmp_path, f"{number}" * 64, "world", {"config": config, "seed": number})
        run.finish("finished", metrics={"test/ndcg@10": number / 10}, monitor="ndcg@10")
    return tmp_path


def file_of(output, run):
    return output / "runs" / run / "manifest.json"


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


def test_names_that_a_manifest_holds_are_believed(output):
    """Which option a configuration came from is looked up for records of another hand only: it takes milliseconds."""
    content = {"model": "mf/als", "data": {"name": "posters"}, "split": {"name": "ratio"}, "config": {"model": {}}}
    Run.create(output, "2" * 64, "world", content)
    newest = ledger.runs(output)[-1]
    assert (newest["model"], newest["data"], newest["split"]) == ("mf/als", "posters", "ratio")


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


# An index that is damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"this is no database", b"", b"SQLite format 3\0 and then nonsense" * 50])
def test_a_damaged_index_is_rebuilt(output, damage):
    before = ledger.runs(output)
    (output / ledger.FILE).write_bytes(damage)
    assert ledger.runs(output) == before
    assert ledger.runs(output) == before


@pytest.mark.parametrize("keep", [100, 4096, 5000, 8192])
def test_a_truncated_index_is_rebuilt(output, keep):
    before = ledger.runs(output)
    file = output / ledger.FILE
    file.write_bytes(file.read_bytes()[:keep])
    assert ledger.runs(output) == before


@pytest.mark.parametrize("at", range(100, 12288, 1024))
def test_an_index_with_random_bytes_in_it_is_rebuilt(output, at):
    before = ledger.runs(output)
    file = output / ledger.FILE
    content = bytearray(file.read_bytes())
    noise = bytes((7 * number + 129) % 256 for number in range(600))
    content[at : at + 600] = noise[: max(0, len(content) - at)]
    file.write_bytes(bytes(content))
    assert ledger.runs(output) == before
    assert ledger.runs(output) == before


@pytest.mark.parametrize("version", [1, 2, 999])
def test_a_table_of_another_version_is_rebuilt(output, version):
    before = ledger.runs(output)
    with sqlite3.connect(output / ledger.FILE) as connection:
        connection.execute("drop table runs")
        connection.execute("create table runs (folder text primary key, mtime integer, size integer)")
        connection.execute("insert into runs values ('00000000-world', 1, 2)")
        connection.execute(f"pragma user_version = {version}")
    connection.close()
    assert ledger.runs(output) == before


def test_a_deleted_index_is_rebuilt(output):
    before = ledger.runs(output)
    (output / ledger.FILE).unlink()
    assert ledger.runs(output) == before


# An index that cannot be used ----------------------------------------------------------------------------------------


def test_an_index_that_cannot_be_written_is_kept_in_memory(output):
    before = ledger.runs(output)
    (output / ledger.FILE).unlink()
    (output / ledger.FILE).mkdir()  # what root cannot write either
    assert ledger.runs(output) == before


@pytest.mark.parametrize("problem", ["database is locked", "disk I/O error", "locking protocol", "unable to open"])
def test_where_sqlite_cannot_lock_the_manifests_are_read_and_the_index_is_left_alone(output, monkeypatch, problem):
    before = ledger.runs(output)
    Run.open(output / "runs" / "00000000-world").update(status="failed")
    connect, content = sqlite3.connect, (output / ledger.FILE).read_bytes()

    def refuse(database, **settings):
        if database != ":memory:":
            raise sqlite3.OperationalError(problem)
        return connect(database, **settings)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    assert ledger.runs(output) == [{**before[0], "status": "failed"}, before[1]]
    assert (output / ledger.FILE).read_bytes() == content


def test_an_index_that_another_process_holds_does_not_hold_up_a_listing(output, monkeypatch):
    monkeypatch.setattr(ledger, "_LOCK_SECONDS", 0.05)
    before = ledger.runs(output)
    Run.open(output / "runs" / "11111111-world").update(status="failed")
    holder = sqlite3.connect(output / ledger.FILE, isolation_level=None)
    holder.execute("begin exclusive")
    assert [run["status"] for run in ledger.runs(output)] == ["finished", "failed"]
    holder.execute("rollback")
    holder.close()
    assert [run["status"] for run in ledger.runs(output)] == ["finished", "failed"]
    assert len(before) == 2


def test_processes_that_list_while_runs_are_written_all_see_whole_runs(tmp_path):
    """Each of two processes lists thirty times, from no index on, while forty runs begin and end."""
    Run.create(tmp_path, "f" * 64, "world", {"config": {}, "seed": 0}).finish("finished")
    program = (
        "import sys; from pathlib import Path; from marquee.runs import ledger\n"
        "seen = [ledger.runs(Path(sys.argv[1])) for _ in range(30)]\n"
        "whole = [run['status'] in ('running', 'finished') for runs in seen for run in runs]\nassert all(whole)\n"
        "assert [len(runs) for runs in seen] == sorted(len(runs) for runs in seen)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    listing = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for number in range(40):
        Run.create(tmp_path, f"{number:08d}" * 8, "world", {"config": {}, "seed": number}).finish("finished")
    assert [(process.communicate()[1], process.returncode) for process in listing] == [("", 0)] * 2
    assert len(ledger.runs(tmp_path)) == 41


# What the manifests may be -------------------------------------------------------------------------------------------


def test_a_killed_run_is_shown_as_interrupted(output):
    run = Run.create(output, "3" * 64, "world", {"config": {}})
    assert ledger.runs(output)[-1]["status"] == "running"
    release(run.folder)  # as the end of its process does
    assert ledger.runs(output)[-1]["status"] == "interrupted"
    assert Run.open(run.folder).manifest["status"] == "running", "the record itself is not touched"


@pytest.mark.parametrize("keep", [0, 1, 400])
def test_one_unreadable_manifest_does_not_hide_the_others(output, keep):
    file = file_of(output, "00000000-world")
    file.write_text(file.read_text()[:keep])
    found = {run["id"]: run for run in ledger.runs(output)}
    assert {name: run["status"] for name, run in found.items()} == {
        "00000000-world": "unreadable",
        "11111111-world": "finished",
    }
    assert "manifest.json cannot be read" in found["00000000-world"]["error"]


def test_an_unreadable_manifest_is_tried_again_although_it_has_not_changed(output, monkeypatch):
    """The reason may be the file system's: what could not be read once is not remembered as broken."""
    before, read = ledger.runs(output), ledger.read_manifest
    (output / ledger.FILE).unlink()

    def fails(folder):
        raise ledger.ConfigError("Input/output error")

    monkeypatch.setattr(ledger, "read_manifest", fails)
    assert {run["status"] for run in ledger.runs(output)} == {"unreadable"}
    monkeypatch.setattr(ledger, "read_manifest", read)
    assert ledger.runs(output) == before


def rewritten(file, old, new, seconds):
    """Replace a manifest as a run does, with a text of the same length and a time of modification that is given."""
    assert len(old) == len(new)
    temporary = file.with_suffix(".new")
    temporary.write_text(file.read_text().replace(old, new))
    os.utime(temporary, ns=(seconds, seconds))
    os.replace(temporary, file)


@pytest.mark.parametrize("hours", [0, -1, -10_000, 1])
def test_a_changed_manifest_is_noticed_whatever_the_clock_says(output, hours):
    """Same size; hours = 0 is the very same time of modification, which a copy that keeps times can give."""
    ledger.runs(output)
    file = file_of(output, "00000000-world")
    moment = file.stat().st_mtime_ns + hours * 3600 * 10**9
    rewritten(file, '"test/ndcg@10": 0.0', '"test/ndcg@10": 0.7', moment)
    assert ledger.runs(output)[0]["metrics"] == {"test/ndcg@10": 0.7}


def test_a_run_that_ended_before_it_began_is_listed_as_it_is(output):
    """The clock was set back while it ran."""
    run = Run.open(output / "runs" / "11111111-world")
    run.update(started="2026-03-01T12:00:00.000+00:00", finished="2026-03-01T11:00:00.000+00:00")
    listed = {run["id"]: run for run in ledger.runs(output)}["11111111-world"]
    assert (listed["started"], listed["finished"]) == (run.manifest["started"], run.manifest["finished"])


def test_runs_that_were_moved_are_listed_at_their_new_place(output, tmp_path_factory):
    before = ledger.runs(output)
    place = tmp_path_factory.mktemp("elsewhere") / "outputs"
    shutil.move(output, place)
    after = ledger.runs(place)
    assert [run["folder"] for run in after] == [str(place / "runs" / run["id"]) for run in before]
    assert [{**run, "folder": None} for run in after] == [{**run, "folder": None} for run in before]
    assert json.loads(file_of(place, "00000000-world").read_text())["id"] == "00000000-world"


def test_no_runs_and_no_folder(tmp_path):
    assert ledger.runs(tmp_path / "nothing") == []
    assert not (tmp_path / "nothing").exists()


def test_an_index_that_is_a_link_leaves_alone_what_it_leads_to(output, tmp_path):
    """In a folder of somebody else's it may lead to any database; ours has a table of the same name."""
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("create table runs (kilometres real)")
        connection.execute("insert into runs values (42.195)")
    (output / ledger.FILE).unlink(missing_ok=True)
    (output / ledger.FILE).symlink_to(other)
    assert ledger.runs(output)
    with sqlite3.connect(other) as connection:
        assert connection.execute("select * from runs").fetchall() == [(42.195,)]
