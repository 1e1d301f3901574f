"""Where benchmarks work and what on: the published data where it stands, else generated data of the same size."""

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["ratings", "few_ratings", "sequences", "reviews", "posters", "script", "games"]
PUBLISHED: dict[Kind, tuple[str, list[str]]] = {
    "ratings": ("ml-1m/ratings.dat", ["data=movielens_1m", "split=ratio"]),
    "few_ratings": ("ml-100k/u.data", ["data=movielens_100k", "split=ratio"]),
    "sequences": ("ml-1m/sequences.txt.gz", ["data=sequences", "data.path=ml-1m/sequences.txt.gz"]),
    "reviews": ("imdb/train.tsv.gz", ["data=imdb"]),
    "posters": ("posters/posters.zip", ["data=posters"]),
    "script": ("tinyshakespeare/input.txt", ["data=tinyshakespeare"]),
    "games": ("", ["data=connect_four"]),  # nothing to be found: the rules are all there is
}


Size = Literal["full", "quick", "once"]

# Runs a command and prints its exit code, the CPU seconds of all its processes, also of those that outlive it (Linux:
# they come to the process that calls itself their reaper), and the largest resident memory of one of them in kB.
ALL_USED = """\
import ctypes, os, resource, subprocess, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
with open(sys.argv[1], "wb") as log:
    code = subprocess.run(sys.argv[2:], stdout=log, stderr=log).returncode
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


class Used(NamedTuple):
    """What a command used: CPU seconds, GB at its peak (0: not known); and the file with what it wrote."""

    seconds: float
    memory: float
    log: Path


class Source(NamedTuple):
    """The words of a command line that choose a data set, and whether it was generated here."""

    words: list[str]
    synthetic: bool


class Workspace:
    """A folder that is thrown away afterwards.

    size  full; quick: small generated data and few repetitions; once: one step of each row, to see that it runs
    """

    def __init__(self, folder: Path, size: Size):
        self.folder, self.size = folder, size
        self.quick = size != "full"
        self.runs = {"full": 5, "quick": 3, "once": 1}[size]
        self._sources: dict[Kind, Source] = {}

    def of(self, full: int, quick: int, once: int) -> int:
        """A number that goes with the size."""
        return {"full": full, "quick": quick, "once": once}[self.size]

    @cached_property
    def published(self) -> Path:
        """The folder of the published data sets: MARQUEE_DATA, else beside the checkout."""
        beside = Path(__file__).resolve().parents[3] / "shared" / "data"
        return Path(os.environ.get("MARQUEE_DATA") or beside).expanduser().absolute()

    def source(self, kind: Kind) -> Source:
        """The published data set, unless it is absent or the benchmark is to be quick."""
        if kind not in self._sources:
            file, words = PUBLISHED[kind]
            if self.quick or not (self.published / file).exists():
                self._sources[kind] = Source(GENERATORS[kind](self.folder, self.quick), True)
            else:
                self._sources[kind] = Source(words, False)
        return self._sources[kind]

    def words(self, kind: Kind, *more: str) -> list[str]:
        """The words of an experiment on a kind of data; each kind has a cache of its own, to be emptied at will."""
        return [
            *self.source(kind).words,
            *more,
            f"paths.data={self.published}",
            f"paths.cache={self.cache(kind)}",
            f"paths.output={self.folder / 'outputs'}",
        ]

    def config(self, kind: Kind, *more: str) -> dict[str, Any]:
        """The checked configuration of an experiment without trackers."""
        from marquee.config.check import check
        from marquee.config.compose import compose

        composed = compose(self.words(kind, "tracker=none", *more))
        check(composed)
        return composed.config

    def marquee(self, *words: str) -> Used:
        """`marquee WORDS` in a process of its own, started anew; with size `once` in this one, for the time it takes.

        Raises RuntimeError with what it wrote where it fails.
        """
        log = self.folder / "command.log"
        if self.size == "once":
            from marquee.cli.main import main

            start = time.process_time()
            with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                code = main(list(words))
            used = Used(time.process_time() - start, 0.0, log)
        else:
            # A new process starts out with the peak of the one that forked it, so a small one has to stand between.
            command = [sys.executable, "-c", ALL_USED, str(log), sys.executable, "-m", "marquee", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.folder)
            code, seconds, peak = done.stdout.split()
            code, used = (
                int(code),
                Used(float(seconds), float(peak) * (1 if sys.platform == "darwin" else 1024) / 1e9, log),
            )
        if code:
            raise RuntimeError(f"marquee {' '.join(words)} failed:\n{log.read_text()}")
        return used

    def cache(self, kind: Kind) -> Path:
        return self.folder / f"cache-{kind}"

    def empty_cache(self, kind: Kind) -> None:
        shutil.rmtree(self.cache(kind), ignore_errors=True)


# Generated data ------------------------------------------------------------------------------------------------------


def _histories(quick: bool) -> list[np.ndarray]:
    """The items of each user, without repetition: lengths and popularity as skewed as those of MovieLens-1M."""
    n_users, n_items, mean = (600, 400, 60) if quick else (6040, 3706, 166)
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(0.0, 0.9, n_users)
    lengths = np.clip(lengths * mean / lengths.mean(), 5, n_items // 2).astype(int)
    pull = rng.permutation(-0.9 * np.log(np.arange(1, n_items + 1)))
    # The largest of log-weights with Gumbel noise are a weighted draw without replacement.
    return [np.argsort(-(pull + rng.gumbel(size=n_items)))[:length] + 1 for length in lengths]


def _ratings(folder: Path, quick: bool) -> list[str]:
    rows = [
        f"{user}::{item}::{item % 5 + 1}::{978_300_000 + step}\n"
        for user, items in enumerate(_histories(quick), start=1)
        for step, item in enumerate(items)
    ]
    file = folder / "ratings.dat"
    file.write_text("".join(rows))
    columns = [f"data.columns.{role}={place}" for place, role in enumerate(("user", "item", "value", "timestamp"))]
    return ["data=interactions", f"data.path={file}", "data.separator='::'", *columns]


def _few_ratings(folder: Path, quick: bool) -> list[str]:
    return _ratings(folder, quick=True)


def _sequences(folder: Path, quick: bool) -> list[str]:
    file = folder / "sequences.txt"
    file.write_text("".join(f"{u} {' '.join(map(str, row))}\n" for u, row in enumerate(_histories(quick), start=1)))
    return ["data=sequences", f"data.path={file}"]


def _reviews(folder: Path, quick: bool) -> list[str]:
    """Zipf-distributed words; the mean length of an IMDb review, 230."""
    rng = np.random.default_rng(0)
    n = 1_000 if quick else 50_000
    words = np.asarray([f"word{number}" for number in range(5_000 if quick else 80_000)], dtype=object)
    lengths = np.clip(rng.lognormal(5.2, 0.65, n), 10, 2_000).astype(int)
    file = folder / "reviews.csv"
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["text", "label"])
        for row, length in enumerate(lengths):
            chosen = (len(words) ** rng.random(length)).astype(int) - 1
            writer.writerow([" ".join(words[chosen]), "pos" if row % 2 else "neg"])
    return ["data=texts", f"data.path={file}"]


def _posters(folder: Path, quick: bool) -> list[str]:
    """JPEG files of noise, which takes longer to decode than a picture."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(256 if quick else 5574):
        place = folder / "posters" / ("Comedy", "Drama")[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (19, 13, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((102, 150)).save(place / f"{row}.jpg", quality=85)
    return ["data=images", f"data.path={folder / 'posters'}"]


GENERATORS: dict[Kind, Callable[[Path, bool], list[str]]] = {
    "ratings": _ratings,
    "few_ratings": _few_ratings,
    "sequences": _sequences,
    "reviews": _reviews,
    "posters": _posters,
    "script": lambda folder, quick: ["data=world_script"],
    "games": lambda folder, quick: ["data=tic_tac_toe"],
}
