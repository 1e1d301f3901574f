"""However a run ends, its manifest, its log and its trackers say so."""

import errno
import json
import logging
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from marquee.errors import ConfigError, DataError, JobError
from marquee.runs import recording as module
from marquee.runs.record import Run
from marquee.runs.recording import recording
from marquee.runs.signals import Interrupted
from marquee.runs.train import draw


class Tracker:
    """Remembers what happened to it; may fail to open or to close."""

    def __init__(self, opens=True, closes=True):
        self.opens, self.closes = opens, closes
        self.opened, self.ended = False, None

    def open(self, run):
        if not self.opens:
            raise ConfigError("no such account")
        self.opened = True
        return self

    def finish(self, manifest):
        self.ended = manifest["status"]
        if not self.closes:
            raise ValueError("cannot close")


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path, "a" * 64, "world", {"config": {}})


@pytest.fixture
def trackers(monkeypatch):
    made = [Tracker(), Tracker()]
    monkeypatch.setattr(module, "build", lambda node: made[node])
    return made


CONFIG = {"tracker": {"one": 0, "two": 1}}


def on_disk(run):
    return json.loads((run.folder / "manifest.json").read_text())


def ends(run, error, raised):
    """The manifest after `error` came out of the run, and what the caller saw."""
    with pytest.raises(raised) as caught, recording(run, CONFIG):
        raise error
    return on_disk(run), str(caught.value)


def test_a_run_that_ends_well_is_finished(run, trackers):
    with recording(run, CONFIG) as loggers:
        assert loggers == trackers
        logging.getLogger("marquee").warning("something to remember")
        assert on_disk(run)["status"] == "running"
    manifest = on_disk(run)
    assert (manifest["status"], manifest["error"]) == ("finished", None)
    assert manifest["finished"] >= manifest["started"] and manifest["durations"]["total"] >= 0
    assert [tracker.ended for tracker in trackers] == ["finished", "finished"]
    assert "something to remember" in (run.folder / "log.txt").read_text()


def test_a_crash_is_a_failed_job_with_its_traceback_in_the_log(run, trackers):
    manifest, told = ends(run, ZeroDivisionError("of nothing"), JobError)
    assert (manifest["status"], manifest["error"]) == ("failed", "ZeroDivisionError: of nothing")
    assert str(run.folder / "log.txt") in told
    assert "Traceback" in (run.folder / "log.txt").read_text()
    assert [tracker.ended for tracker in trackers] == ["failed", "failed"]


@pytest.mark.parametrize("kind", [ConfigError, DataError, JobError])
def test_our_own_errors_keep_their_kind_and_so_their_exit_code(run, trackers, kind):
    manifest, told = ends(run, kind("lower the rate"), kind)
    assert manifest["status"] == "failed" and manifest["error"] == told == "lower the rate"


def test_the_last_good_checkpoint_is_named(run, trackers):
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    _, told = ends(run, JobError("the loss became NaN"), JobError)
    assert str(run.folder / "checkpoints" / "last.ckpt") in told


def test_ctrl_c_is_an_interrupt_that_says_how_to_go_on(run, trackers):
    manifest, told = ends(run, KeyboardInterrupt(), KeyboardInterrupt)
    assert (manifest["status"], manifest["error"]) == ("interrupted", "stopped by Ctrl-C")
    assert f"marquee train resume={run.folder}" in told
    assert trackers[0].ended == "interrupted"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Interrupted, SystemExit])
def test_a_run_that_is_stopped_while_its_plots_are_drawn_is_finished(run, trackers, stop):
    def halt(folder, best_epoch):
        raise stop

    with pytest.raises(KeyboardInterrupt, match="The run itself is finished"), recording(run, CONFIG):
        draw(run, SimpleNamespace(draw=halt), SimpleNamespace(best_epoch=None))
    assert on_disk(run)["status"] == "finished"
    assert [tracker.ended for tracker in trackers] == ["finished", "finished"]


def test_sigterm_is_an_interrupt_of_its_own(run, trackers):
    with pytest.raises(KeyboardInterrupt), recording(run, CONFIG):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)  # the handler runs between two instructions
    assert on_disk(run)["error"] == "stopped by SIGTERM"


def test_signal_handlers_and_log_handlers_are_as_they_were(run, trackers):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(logging.getLogger().handlers)
    with recording(run, CONFIG):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before[:2]
    assert logging.getLogger().handlers == before[2]


def test_a_full_disk_says_what_to_do(run, trackers):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere/last.ckpt")
    manifest, told = ends(run, full, JobError)
    assert "somewhere/last.ckpt" in told and "No space left" in told and "paths.output" in told
    assert manifest["status"] == "failed"


def test_a_disk_too_full_for_the_manifest_still_closes_the_trackers(run, trackers, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_room(*args, **kwargs):
        raise full

    monkeypatch.setattr("tempfile.mkstemp", no_room)
    manifest, told = ends(run, full, JobError)
    assert "No space left" in told
    assert manifest["status"] == "running"  # what was there before; a look later sees that its process is gone
    assert trackers[0].ended is not None


def test_a_tracker_that_does_not_open_fails_the_run_and_closes_the_others(run, trackers):
    trackers[1].opens = False
    with pytest.raises(ConfigError, match="no such account"), recording(run, CONFIG):
        raise AssertionError("must not begin")
    assert on_disk(run)["status"] == "failed"
    assert (trackers[0].ended, trackers[1].ended) == ("failed", None)


def test_a_tracker_that_does_not_close_costs_nothing(run, trackers):
    trackers[0].closes = False
    with recording(run, CONFIG):
        pass
    assert on_disk(run)["status"] == "finished"
    assert trackers[1].ended == "finished"
    assert "cannot close" in (run.folder / "log.txt").read_text()


def test_without_trackers_and_outside_the_main_thread(run):
    ended = []

    def job():
        with recording(run, {"tracker": None}) as loggers:
            ended.append(loggers)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert ended == [[]] and on_disk(run)["status"] == "finished"


def test_a_log_without_room_is_lost_without_a_word(run, trackers, monkeypatch, capsys):
    with recording(run, CONFIG):
        handler = logging.getLogger().handlers[-1]
        monkeypatch.setattr(handler, "flush", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        logging.getLogger("marquee").warning("something")
    assert on_disk(run)["status"] == "finished"
    assert capsys.readouterr().err == ""


def test_a_log_that_is_a_link_leaves_alone_what_it_leads_to(run, trackers, tmp_path):
    """In a run of somebody else's, which is resumed, it may lead to a file that a shell reads."""
    other = tmp_path / "profile"
    other.write_text("alias ll='ls -l'\n")
    (run.folder / "log.txt").symlink_to(other)
    with recording(run, CONFIG):
        logging.getLogger("marquee").info("begun")
    assert other.read_text() == "alias ll='ls -l'\n"
    assert "begun" in (run.folder / "log.txt").read_text()
