"""Prepared data is built once, checked each time, rebuilt where damaged, and safe among processes."""

import errno
import logging
import multiprocessing

import pytest

from marquee.data.cache import MARKER, cached, file_sha256
from marquee.data.dataset import Paths
from marquee.errors import DataError, JobError


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "data", tmp_path / "cache")


class Build:
    """Writes two files and counts how often."""

    def __init__(self, content=b"abc"):
        self.calls = 0
        self.content = content

    def __call__(self, folder):
        self.calls += 1
        (folder / "column.npy").write_bytes(self.content)
        (folder / "inner").mkdir()
        (folder / "inner" / "report.json").write_text("{}")


def test_the_same_key_is_built_once(paths):
    build = Build()
    folder = cached(paths, "toy", {"version": 1}, build)
    assert cached(paths, "toy", {"version": 1}, build) == folder
    assert build.calls == 1
    assert (folder / "column.npy").read_bytes() == b"abc"
    assert folder.parent == paths.cache / "prepared" and folder.name.startswith("toy-")


def test_another_key_is_another_folder(paths):
    assert cached(paths, "toy", {"version": 1}, Build()) != cached(paths, "toy", {"version": 2}, Build())


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "column.npy").write_bytes(b"abd"),  # the same size, another content
        lambda folder: (folder / "column.npy").write_bytes(b"ab"),
        lambda folder: (folder / "inner" / "report.json").unlink(),
        lambda folder: (folder / MARKER).unlink(),  # what a process killed in mid-copy would leave
        lambda folder: (folder / MARKER).write_text("{"),
    ],
    ids=["changed", "truncated", "missing", "unmarked", "marker broken"],
)
def test_a_damaged_folder_is_noticed_and_built_again(paths, damage, caplog):
    build = Build()
    folder = cached(paths, "toy", {}, build)
    damage(folder)
    with caplog.at_level(logging.WARNING):
        assert cached(paths, "toy", {}, build) == folder
    assert build.calls == 2
    assert (folder / "column.npy").read_bytes() == b"abc"
    assert "damaged" in caplog.text
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_build_that_fails_leaves_nothing(paths):
    def build(folder):
        (folder / "column.npy").write_bytes(b"half")
        raise DataError("line 3 is malformed")

    with pytest.raises(DataError, match="line 3"):
        cached(paths, "toy", {}, build)
    assert list((paths.cache / "prepared").iterdir()) == []


def test_a_full_disk_says_so(paths):
    def build(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JobError, match=r"disk is full.*paths\.cache="):
        cached(paths, "toy", {}, build)


def test_a_cache_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"paths\.cache=.*cannot be written"):
        cached(Paths(tmp_path, tmp_path / "cache"), "toy", {}, Build())


def _build_in_step(paths, barrier, results):
    def build(folder):
        barrier.wait(timeout=300)  # both are in the middle of building
        (folder / "column.npy").write_bytes(b"abc")

    folder = cached(paths, "toy", {}, build)
    results.put((str(folder), (folder / "column.npy").read_bytes()))


def test_two_processes_that_build_at_once_do_not_harm_each_other(paths):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build_in_step, args=(paths, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(timeout=300)
    assert found[0] == found[1] and found[0][1] == b"abc"
    assert len(list((paths.cache / "prepared").iterdir())) == 1


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    # The well-known sum of nothing.
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
