"""One process works in a folder at a time, and a run whose process is gone was interrupted, whatever its host says."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from marquee.errors import ConfigError, JobError
from marquee.runs import lock
from marquee.runs.liveness import status_of
from marquee.runs.opening import take_over
from marquee.runs.record import Run

from ..forked import Forked

ELSEWHERE = {"host": "elsewhere", "pid": 7, "started": "another-boot/1"}


def hold_on(folder):
    """In a process of its own: hold the folder for ever."""
    assert lock.hold(folder)
    print("holds", flush=True)
    time.sleep(3600)


def look_on(folder):
    """In a process of its own: look at the folder's lock for ever."""
    print("looks", flush=True)
    while True:
        lock.is_locked(folder)


def started(main, folder) -> Forked:
    process = Forked(main, folder)
    while not process.told():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def of_elsewhere(folder, silent_for: float):
    """An owner on another machine that gave its last sign so many seconds ago."""
    (folder / lock.LOCK).touch()
    (folder / lock.OWNER).write_text(json.dumps(ELSEWHERE))
    then = time.time() - silent_for
    os.utime(folder / lock.OWNER, (then, then))


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that says `running`, held by nobody."""
    run = Run.create(tmp_path, "0" * 64, "world", {"config": {}})
    lock.release(run.folder)
    return run


def test_a_folder_is_held_by_one_process_and_free_the_moment_that_it_is_killed(tmp_path):
    holder = started(hold_on, tmp_path)
    assert lock.is_locked(tmp_path) and lock.at_work(tmp_path)
    assert not lock.hold(tmp_path)
    assert lock.told(tmp_path).startswith(f"process {holder.pid} on ")
    holder.kill()
    holder.wait()
    assert not lock.at_work(tmp_path)
    assert lock.hold(tmp_path)
    lock.release(tmp_path)


def test_readers_never_make_a_taker_fail(tmp_path):
    (tmp_path / lock.LOCK).touch()
    readers = [started(look_on, tmp_path) for _ in range(2)]
    try:
        for _ in range(200):
            assert lock.hold(tmp_path)
            assert lock.is_locked(tmp_path)
            lock.release(tmp_path)
    finally:
        for reader in readers:
            reader.kill()


def test_readers_do_not_take_each_other_for_holders(tmp_path):
    (tmp_path / lock.LOCK).touch()
    reader = started(look_on, tmp_path)
    try:
        assert not any(lock.is_locked(tmp_path) for _ in range(2000))
    finally:
        reader.kill()


def test_holding_twice_is_holding(tmp_path):
    assert lock.hold(tmp_path) and lock.hold(tmp_path)
    lock.release(tmp_path)
    assert not lock.is_locked(tmp_path) and not lock.owner(tmp_path)


def test_a_process_of_another_machine_is_at_work_until_it_has_been_silent(tmp_path):
    of_elsewhere(tmp_path, silent_for=5)
    assert lock.at_work(tmp_path) and not lock.hold(tmp_path)
    assert re.fullmatch(r"process 7 on elsewhere, which gave a sign \d+ s ago", lock.told(tmp_path))
    of_elsewhere(tmp_path, silent_for=lock.STALE_SECONDS + 5)
    assert not lock.at_work(tmp_path) and lock.hold(tmp_path)
    lock.release(tmp_path)


@pytest.mark.parametrize("ahead", [2 * lock.STALE_SECONDS, 1e7])
def test_a_sign_of_days_to_come_is_none(tmp_path, ahead):
    """Of a folder that was unpacked, or whose machine's clock was set back: nobody is at work there for ever."""
    of_elsewhere(tmp_path, silent_for=-ahead)
    assert not lock.at_work(tmp_path) and lock.hold(tmp_path)
    lock.release(tmp_path)


def look_once(folder):
    lock.is_locked(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_in_the_place_of_the_lock_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / lock.LOCK)
    process = Forked(look_once, tmp_path)
    assert process.wait(timeout=600) == 0


@pytest.mark.parametrize("content", ["[]", "7", '{"host": "here"}', '{"pid": "../../etc"}', "not JSON"])
def test_an_owner_that_makes_no_sense_is_nobody(tmp_path, content):
    (tmp_path / lock.OWNER).write_text(content)
    assert lock.owner(tmp_path) == {} and lock.told(tmp_path) == "another process" and not lock.at_work(tmp_path)


def test_waiting_ends_with_the_silence(tmp_path):
    of_elsewhere(tmp_path, silent_for=lock.STALE_SECONDS - 2)
    lock.wait_until_silent(tmp_path)
    assert not lock.at_work(tmp_path)


def test_the_holder_gives_signs(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "_beating", {})
    assert lock.hold(tmp_path)
    os.utime(tmp_path / lock.OWNER, (0, 0))
    while (tmp_path / lock.OWNER).stat().st_mtime == 0:
        time.sleep(0.02)
    lock.release(tmp_path)


# The status of a run -------------------------------------------------------------------------------------------------


def test_a_killed_run_was_interrupted_also_where_the_host_has_changed_its_name(run):
    holder = started(hold_on, run.folder)
    assert status_of(run.folder, run.manifest) == "running"
    holder.kill()
    holder.wait()
    renamed = {**lock.owner(run.folder), "host": "before"}
    (run.folder / lock.OWNER).write_text(json.dumps(renamed))
    assert status_of(run.folder, {**run.manifest, "process": renamed}) == "interrupted"


@pytest.mark.parametrize("silent_for, status", [(5, "running"), (lock.STALE_SECONDS + 5, "interrupted")])
def test_a_run_of_another_machine_is_interrupted_when_it_gives_no_sign(run, silent_for, status):
    of_elsewhere(run.folder, silent_for)
    assert status_of(run.folder, {**run.manifest, "process": ELSEWHERE}) == status


def test_a_run_that_ends_while_it_is_looked_at_has_finished(run):
    before = dict(run.manifest)
    run.finish("finished")
    assert status_of(run.folder, before) == "finished"


def test_a_run_of_a_version_without_locks_is_what_its_process_says(run):
    (run.folder / lock.LOCK).unlink()
    script = "import json; from marquee.runs.lock import process; print(json.dumps(process()))"
    gone = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    for process, status in ((lock.process(), "running"), (gone, "interrupted"), (ELSEWHERE, "running")):
        assert status_of(run.folder, {**run.manifest, "process": process}) == status
    yesterday = time.time() - 25 * 3600
    os.utime(run.folder / "manifest.json", (yesterday, yesterday))
    assert status_of(run.folder, {**run.manifest, "process": ELSEWHERE}) == "interrupted"


@pytest.mark.skipif(lock.process()["started"] is None, reason="needs /proc")
def test_a_process_id_that_was_used_again_is_another_process(run):
    (run.folder / lock.LOCK).unlink()
    boot = lock.process()["started"].partition("/")[0]
    again = {**lock.process(), "started": f"{boot}/1"}
    assert status_of(run.folder, {**run.manifest, "process": again}) == "interrupted"


# Taking a run over ---------------------------------------------------------------------------------------------------


def test_a_run_that_another_process_is_at_is_left_alone_with_what_to_type(run):
    holder = started(hold_on, run.folder)
    try:
        with pytest.raises(ConfigError, match=f"run by process {holder.pid}.*marquee train resume={run.folder.name}"):
            take_over(run.folder)
    finally:
        holder.kill()
    of_elsewhere(run.folder, silent_for=5)
    holder.wait()
    with pytest.raises(ConfigError, match="on elsewhere, which gave a sign .* s ago.*a minute without a sign"):
        take_over(run.folder)


def test_a_run_whose_folder_cannot_be_written_is_told_and_not_a_traceback(run, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("marquee.runs.opening.hold", refuse)
    with pytest.raises(JobError, match="cannot be written: Permission denied"):
        take_over(run.folder)


def test_a_run_that_was_finished_before_it_could_be_held_is_not_continued(run, monkeypatch):
    """The lock before the check: the other process ends between the first look and the lock."""
    hold = lock.hold

    def finished_meanwhile(folder):
        run.finish("finished")
        return hold(folder)

    monkeypatch.setattr("marquee.runs.opening.hold", finished_meanwhile)
    with pytest.raises(ConfigError, match="is finished"):
        take_over(run.folder)
    assert not lock.is_locked(run.folder)
