"""Runs the command line as a user does: in a process of its own, or in this one where only speed differs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from marquee.cli.main import main

# Small enough for seconds, with every part of a real run.
FAST = {
    "ratings": ["data=world_ratings", "model.dim=16", "model.layers=1", "model.view.max_length=20"],
    "bpr": ["data=world_ratings", "model=mf/bpr", "model.dim=8", "model.view.batch_size=8192"],
    "gru": ["data=world_ratings", "model=rnn/gru4rec", "model.dim=8", "model.hidden=8", "model.view.max_length=10"],
    "lstm": ["data=world_reviews", "model=rnn/lstm", "model.dim=8", "model.hidden=8"],
    "cnn": ["data=world_posters", "model=cnn/poster", "model.channels=[4,8]", "model.dense=16"],
}


def environment(output: Path, cache: Path) -> dict[str, str]:
    """Runs and cache of the test's own; nothing of the user's."""
    own = {"MARQUEE_OUTPUT": str(output), "MARQUEE_CACHE": str(cache), "MARQUEE_DATA": str(output / "no-data")}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1"}


def marquee(*words: str, output: Path, cache: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    """`marquee WORDS` in a process of its own."""
    command = [sys.executable, "-m", "marquee", *words]
    return subprocess.run(
        command,
        env=environment(output, cache),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


def train(monkeypatch, output: Path, cache: Path, *words: str) -> dict:
    """`marquee train WORDS` in this process; the manifest of the run."""
    for name, value in environment(output, cache).items():
        monkeypatch.setenv(name, value)
    assert main(["train", "tracker=none", *words]) == 0
    return latest(output)


def latest(output: Path) -> dict:
    return json.loads((output / "latest" / "manifest.json").read_text())
