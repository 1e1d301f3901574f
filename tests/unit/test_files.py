"""A file is replaced whole or not at all, whatever happens in the middle."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from marquee.files import replacing, write_text


def held(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    return path


def test_what_was_written_takes_the_place(file):
    with replacing(file) as temporary:
        assert (temporary.parent, temporary.suffix) == (file.parent, ".csv")
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert held(file.parent) == ["table.csv"]


def test_a_file_that_was_not_there_is_made(tmp_path):
    write_text(tmp_path / "new.txt", "Amélie\n")
    assert (tmp_path / "new.txt").read_bytes() == "Amélie\n".encode()
    assert held(tmp_path) == ["new.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_middle_leaves_the_old_content_and_nothing_else(file, error):
    with pytest.raises(error), replacing(file) as temporary:
        temporary.write_text("half")
        raise error
    assert file.read_text() == "old"
    assert held(file.parent) == ["table.csv"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_content_and_nothing_else(file, monkeypatch, step):
    def fails(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="no space"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert held(file.parent) == ["table.csv"]


def test_a_process_that_is_killed_in_the_middle_leaves_the_old_content(file):
    script = (
        "import os, signal, sys; from pathlib import Path; from marquee.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_file_may_be_read_by_whom_the_umask_allows(file, mask, mode):
    before = os.umask(mask)
    try:
        write_text(file, "new")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(file, monkeypatch):
    """A power cut right after the rename must not show an empty file under the name."""
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(os.fstat(handle).st_ino), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("renamed"), replace(*names)))
    write_text(file, "new")
    assert done == [file.stat().st_ino, "renamed", file.parent.stat().st_ino]


def test_a_system_that_does_not_open_folders_is_no_fault(file, monkeypatch):
    opened = os.open

    def refuses(path, flags, *rest, **named):
        if os.path.isdir(path):
            raise PermissionError(path)
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuses)
    write_text(file, "new")
    assert file.read_text() == "new"


def test_a_writer_may_put_a_file_of_its_own_in_the_temporary_place(file, tmp_path):
    """As Lightning does, which moves a checkpoint there from the system's temporary folder."""
    with replacing(file) as temporary:
        (tmp_path / "elsewhere").write_text("new")
        os.replace(tmp_path / "elsewhere", temporary)
    assert file.read_text() == "new"
    assert held(tmp_path) == ["table.csv"]


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "file", "text")
