"""A shell of the test's own, and one finished run of each kind that several tests look at."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from marquee.cli.main import main

from .commands import FAST, environment


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


def answer(*words: str) -> Answer:
    """`marquee WORDS` in this process."""
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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, world_cache: Path) -> dict[str, Path]:
    """The folders of one short, finished run of each kind, tracked by all trackers."""
    output = tmp_path_factory.mktemp("trained") / "outputs"
    words = {**FAST, "ease": ["data=world_ratings", "model=linear/ease", "model.l2=50"]}
    folders = {}
    with mock.patch.dict(os.environ, environment(output, world_cache)):
        for kind, choice in words.items():
            done = answer(
                "train", *choice, "trainer.max_epochs=2", "tracker=all", f"name={kind}", "tags=[shown, twice]"
            )
            assert done.code == 0, done.err
            folders[kind] = (output / "latest").resolve()
    return folders


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())
