"""Runs the command line as a user does: in a process of its own, or in this one where only speed differs.

Of processes there are two kinds. `marquee` and `begin` fork one in which everything is imported, for hundredths of a
second. `spawn` starts `python -m marquee` anew, for seconds: only three tests do, where the start itself matters.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from marquee.cli import composing
from marquee.cli.main import main
from marquee.runs import environment as machine

from ..forked import Forked, run, spawned

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


def typed(*words: str) -> int:
    """`marquee WORDS`, in a process that was forked for it."""
    composing.SCRIPT = machine.SCRIPT = machine.script()
    sys.argv = [machine.SCRIPT, *words]
    return main(list(words))


def begin(*words: str, env: Mapping[str, str], together: bool = False) -> Forked:
    """`marquee WORDS` in a process of its own, which leads a group of its own."""
    return Forked(typed, *map(str, words), env=env, together=together)


def marquee(*words: str, output: Path, cache: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    """`marquee WORDS` in a process of its own; returns when it has ended."""
    return run(typed, *words, env=environment(output, cache), timeout=timeout)


def spawn(*words: str, env: Mapping[str, str]) -> subprocess.Popen:
    """`python -m marquee WORDS`, started anew."""
    return spawned([sys.executable, "-m", "marquee", *map(str, words)], env)


def train(monkeypatch, output: Path, cache: Path, *words: str) -> dict:
    """`marquee train WORDS` in this process; the manifest of the run."""
    for name, value in environment(output, cache).items():
        monkeypatch.setenv(name, value)
    assert main(["train", "tracker=none", *words]) == 0
    return latest(output)


def latest(output: Path) -> dict:
    return json.loads((output / "latest" / "manifest.json").read_text())
