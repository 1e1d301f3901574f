"""`marquee sync` without a network: what W&B is given in which order, and what is said when it does not take it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marquee.cli.main import main
from marquee.cli.use import sync
from marquee.errors import ConfigError, JobError
from marquee.runs.record import Run
from marquee.tracking import sync as syncing

from ..wandb_files import whole

# Stands in for `wandb`: notes its words; marks what it is given, but for folders with `refuse` in their name.
WANDB = """
import os, sys, time
from pathlib import Path
with open({log!r}, "a") as log:
    print(os.getpid(), *sys.argv[1:], file=log)
if {words!r}:
    sys.exit({words!r})
time.sleep({sleep})
for folder in map(Path, sys.argv[2:]):
    if "refuse" in folder.name:
        print("wandb: ERROR the project is read-only")
        continue
    (file,) = folder.glob("*.wandb")
    file.with_suffix(".wandb.synced").touch()
"""


class Fake:
    """A command in the place of W&B's, and what it was called with."""

    def __init__(self, folder):
        self.log, self.file = folder / "calls", folder / "wandb.py"
        self.command = [sys.executable, str(self.file)]
        self.write()

    def write(self, words="", sleep=0):
        self.file.write_text(WANDB.format(log=str(self.log), words=words, sleep=sleep))

    @property
    def calls(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [[Path(word).name for word in line.split()[1:]] for line in lines]


@pytest.fixture
def wandb(tmp_path):
    return Fake(tmp_path)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "outputs"


def tracked(output, name, *moments, status="finished"):
    """A run with an offline recording for each of the moments at which it was started."""
    run = Run.create(output, "f" * 64, name, {"config": {"seed": 1}, "seed": 1})
    for moment in moments:
        place = run.folder / "wandb" / f"offline-run-{moment}-{name}"
        place.mkdir(parents=True)
        (place / f"run-{name}.wandb").write_bytes(b":W&B")
    if status != "running":
        run.finish(status)
    return run.folder


def test_a_run_is_one_call_with_its_parts_in_the_order_in_which_they_were_begun(output, wandb, capsys):
    tracked(output, "one", "20260102_000000", "20251231_235959", "20260102_000001")
    tracked(output, "two", "20260101_120000")
    sync([], output, command=wandb.command)
    assert wandb.calls == [
        ["sync", *(f"offline-run-{at}-one" for at in ("20251231_235959", "20260102_000000", "20260102_000001"))],
        ["sync", "offline-run-20260101_120000-two"],
    ]
    told = capsys.readouterr().out
    assert "synced  ffffffff-one (3 parts)" in told and told.endswith("2 of 2 runs uploaded\n")


def test_what_is_there_already_is_not_sent_again(output, wandb, capsys):
    folder = tracked(output, "one", "20260101_000000")
    sync([], output, command=wandb.command)
    sync([], output, command=wandb.command)
    assert len(wandb.calls) == 1
    assert "Nothing to sync: 1 runs are there already." in capsys.readouterr().out
    # The run is resumed: only what is new is sent.
    place = folder / "wandb" / "offline-run-20260201_000000-one"
    place.mkdir()
    (place / "run-one.wandb").touch()
    sync([], output, command=wandb.command)
    assert wandb.calls[1:] == [["sync", place.name]]


def test_runs_are_chosen_by_name_or_by_sweep(output, wandb):
    folders = [tracked(output, name, "20260101_000000") for name in ("one", "two", "three")]
    jobs = [
        {"index": number, "overrides": [], "status": "finished", "run": folder.name, "error": None, "attempts": 1}
        for number, folder in enumerate(folders[1:])
    ]
    place = output / "sweeps" / "search"
    place.mkdir(parents=True)
    record = {"schema_version": 1, "name": "search", "command": [], "began": "2026-01-01T00:00:00.000+00:00"}
    (place / "sweep.json").write_text(json.dumps({**record, "jobs": jobs}))
    sync(["ffffffff-one"], output, command=wandb.command)
    sync(["search"], output, command=wandb.command)
    assert [call[1].rpartition("-")[2] for call in wandb.calls] == ["one", "two", "three"]
    with pytest.raises(ConfigError, match="There is no run nothing"):
        sync(["nothing"], output, command=wandb.command)


def test_a_run_that_still_runs_is_left_for_later(output, wandb, capsys):
    """W&B would mark the recording as uploaded and never look at the rest."""
    tracked(output, "one", "20260101_000000", status="running")
    sync([], output, command=wandb.command)
    assert wandb.calls == [] and "running ffffffff-one" in capsys.readouterr().out


def test_runs_without_an_offline_recording_are_nothing_to_sync(output, wandb, capsys):
    sync([], output, command=wandb.command)
    tracked(output, "one")
    sync([], output, command=wandb.command)
    told = capsys.readouterr().out
    assert "no runs in" in told and "none of the 1 runs" in told and wandb.calls == []


def test_a_run_that_is_refused_does_not_keep_the_others_from_being_sent(output, wandb, capsys):
    tracked(output, "refuse-this", "20260101_000000")
    tracked(output, "take-this", "20260101_000000")
    with pytest.raises(JobError) as error:
        sync([], output, command=wandb.command)
    assert "ffffffff-refuse-this  wandb: ERROR the project is read-only" in str(error.value)
    assert "marquee sync ffffffff-refuse-this" in str(error.value)
    assert "synced  ffffffff-take-this" in capsys.readouterr().out


def test_without_a_login_the_answer_is_what_to_type(output, wandb):
    tracked(output, "one", "20260101_000000")
    tracked(output, "two", "20260101_000000")
    wandb.write(words="Error: No API key configured. Use `wandb login` to log in.")
    with pytest.raises(JobError, match="Type: wandb login"):
        sync([], output, command=wandb.command)
    assert len(wandb.calls) == 1


class Patient(subprocess.Popen):
    """A command whose time is over as soon as it has begun, however slow the machine is."""

    @classmethod
    def of(cls, fake):
        return type("Patient", (cls,), {"fake": fake})

    def communicate(self, timeout=None):
        while not (self.fake.log.exists() and self.fake.log.read_text().endswith("\n")):
            assert self.poll() is None, "it has ended without a word"
            time.sleep(0.01)
        raise subprocess.TimeoutExpired(self.args, timeout)


def test_a_server_that_does_not_answer_ends_the_command_and_leaves_no_process(output, wandb, monkeypatch):
    tracked(output, "one", "20260101_000000")
    tracked(output, "two", "20260101_000000")
    wandb.write(sleep=600)
    monkeypatch.setattr(syncing.subprocess, "Popen", Patient.of(wandb))
    with pytest.raises(
        JobError, match="did not take ffffffff-one within 1 s; 0 of 2 runs are uploaded. Is there a net"
    ):
        sync([], output, timeout=1, command=wandb.command)
    (line,) = wandb.log.read_text().splitlines()
    with pytest.raises(ProcessLookupError):  # it was waited for, so its number is free
        os.kill(int(line.split()[0]), 0)


def test_what_takes_too_long_is_given_up(output, wandb):
    """In real time: half a second is over before ten minutes are, on any machine."""
    tracked(output, "one", "20260101_000000")
    wandb.write(sleep=600)
    (part,) = syncing.parts(next((output / "runs").iterdir()))
    with pytest.raises(syncing.NoAnswer):
        syncing.upload([part], 0.5, wandb.command)


def test_the_verb_exits_with_4_where_the_server_is_not_there(output, monkeypatch, capsys):
    """W&B's own command against a closed port. It gives up by itself or is given up: either way nothing is uploaded."""
    folder = tracked(output, "one", "20260101_000000")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("HOME", str(output))
    (recording,) = folder.rglob("*.wandb")
    recording.write_bytes(offline_recording(output))
    assert main(["sync", "--runs", str(output), "--timeout", "5"]) == 4
    told = capsys.readouterr().err
    assert "W&B did not take" in told and "ffffffff-one" in told
    assert not syncing.is_synced(recording.parent)


def offline_recording(folder):
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(mode="offline", project="marquee", id="one", dir=str(folder), settings=settings)
    run.finish()
    wandb.teardown()  # ends W&B's service, which has this test's environment and no other test should meet
    (file,) = (folder / "wandb").rglob("run-one.wandb")
    assert whole(file)[-1].HasField("exit")  # W&B's service may write it late
    return file.read_bytes()


def test_an_outputs_folder_that_is_typed_relative_is_found_by_wandb_too(output, wandb, monkeypatch):
    """W&B's command works in a folder of its own, so it is given whole paths."""
    tracked(output, "one", "20260101_000000")
    monkeypatch.chdir(output.parent)
    sync([], Path("outputs"), command=wandb.command)
    assert all(part.is_absolute() for part in map(Path, wandb.log.read_text().split()[2:]))
