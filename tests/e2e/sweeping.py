"""What tests of sweeps share: short jobs, a launcher in a process of its own, and what a sweep has written."""

import json
import time
from pathlib import Path

from ..forked import Forked
from . import commands

EASE = ["data=world_ratings", "model=linear/ease", "tracker=none"]
MOODY = ["data=world_ratings", "model=moody", "tracker=none"]


def jobs_of(name: str, output: Path = Path("outputs")) -> list[dict]:
    return json.loads((output / "sweeps" / name / "sweep.json").read_text())["jobs"]


def statuses(name: str) -> list[str]:
    return [job["status"] for job in jobs_of(name)]


def runs_of(output: Path = Path("outputs")) -> list[Path]:
    return sorted((output / "runs").iterdir()) if (output / "runs").is_dir() else []


def begin(words: list[str], output: Path, cache: Path, *launcher: str) -> Forked:
    """`marquee train -m WORDS` in a process of its own."""
    env = commands.environment(output, cache)
    return commands.begin("train", "-m", *words, *launcher, env=env, together=True)


def wait_for(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this never happened"
        time.sleep(0.05)
