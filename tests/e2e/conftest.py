"""A shell of the test's own, and one finished run of each kind that several tests look at."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from filelock import FileLock

from marquee.cli.main import main

from ..forked import nursery
from .commands import FAST, environment
from .faulty import install

# A sweep of two short jobs, which several tests begin with when it is finished.
SWEPT = ["data=world_ratings", "model=linear/ease", "tracker=none", "model.l2=50,60", "sweep=s"]


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


def answer(*words: str) -> Answer:
    """`marquee WORDS` in this process."""
    if "-m" in words:
        nursery()  # before the sweep begins one that has no worlds
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # argparse, for words that it cannot read
            code = int(stop.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture
def shell(tmp_path: Path, world_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answer]]:
    """A command line in an empty folder: runs land in `outputs`, raw data is looked for in `data`."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ, environment(tmp_path / "outputs", world_cache)):
        os.environ["MARQUEE_DATA"] = str(tmp_path / "data")
        yield answer


@pytest.fixture
def moody(tmp_path: Path, shell: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug-in of jobs that end badly, installed; its YAML file."""
    return install(tmp_path / "plugin", monkeypatch)


@pytest.fixture(scope="session")
def trained(shared_folder: Path, world_cache: Path) -> dict[str, Path]:
    """The folders of one short, finished run of each kind, tracked by all trackers: to be looked at, not changed."""
    words = {**FAST, "ease": ["data=world_ratings", "model=linear/ease", "model.l2=50"]}
    output, mark = shared_folder / "trained" / "outputs", shared_folder / "trained" / "folders.json"
    mark.parent.mkdir(exist_ok=True)
    with FileLock(mark.with_suffix(".lock")):
        if not mark.exists():
            folders = {}
            with mock.patch.dict(os.environ, environment(output, world_cache)):
                for kind, choice in words.items():
                    done = answer(
                        "train", *choice, "trainer.max_epochs=2", "tracker=all", f"name={kind}", "tags=[shown, twice]"
                    )
                    assert done.code == 0, done.err
                    folders[kind] = str((output / "latest").resolve())
            mark.write_text(json.dumps(folders))
    return {kind: Path(folder) for kind, folder in json.loads(mark.read_text()).items()}


@pytest.fixture(scope="session")
def finished_sweep(shared_folder: Path, world_cache: Path) -> Path:
    """The outputs of the finished sweep `s` of SWEPT: to be copied, not changed."""
    output, mark = shared_folder / "swept" / "outputs", shared_folder / "swept" / "finished"
    mark.parent.mkdir(exist_ok=True)
    with FileLock(mark.with_suffix(".lock")):
        if not mark.exists():
            with mock.patch.dict(os.environ, environment(output, world_cache)):
                done = answer("train", "-m", *SWEPT)
            assert done.code == 0, done.err
            mark.touch()
    return output


@pytest.fixture
def swept(shell: Callable[..., Answer], finished_sweep: Path, tmp_path: Path) -> Callable[..., Answer]:
    """A shell in a folder whose `outputs` hold the finished sweep of SWEPT."""
    shutil.copytree(finished_sweep, tmp_path / "outputs", symlinks=True)
    return shell


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())
