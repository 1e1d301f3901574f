"""From one million interactions to twenty: preparing, training and ranking, each size in a process of its own.

A growth ratio is the time for each interaction (ranking: for each user and item) at the largest size over that at the
smallest, so 1 is linear. Data is generated: 6,900 users a million interactions, 138,000 at twenty, and 27,000 items, as
skewed as those of MovieLens-20M.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Benchmark, Measured
from benchmarks.workspace import Workspace

N_ITEMS = 27_000
BATCH = 65_536  # pairs a step of BPR: with fewer, Adam's pass over all vectors is what takes the time
SIZES = {"full": (1.0, 5.0, 20.0), "quick": (0.02, 0.05, 0.1), "once": (0.005, 0.01, 0.02)}  # millions


def write_interactions(file: Path, millions: float) -> None:
    """A CSV file of so many distinct pairs of user and item, with ratings and times."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    n, n_users = int(millions * 1e6), max(100, int(6_900 * millions))
    share = rng.lognormal(0, 1.2, n_users)
    counts = np.maximum(3, share / share.sum() * n * 1.3).astype(np.int64)
    pull = 1 / (np.arange(1, N_ITEMS + 1) + 30) ** 1.1
    items = np.searchsorted(np.cumsum(pull / pull.sum()), rng.random(counts.sum())).clip(max=N_ITEMS - 1)
    pairs = np.unique(np.repeat(np.arange(n_users), counts) * N_ITEMS + items)
    pairs = np.sort(rng.choice(pairs, min(n, len(pairs)), replace=False, shuffle=False))
    columns = {
        "user": pairs // N_ITEMS + 1, "item": pairs % N_ITEMS + 1, "rating": rng.integers(1, 11, len(pairs)) / 2,
        "time": rng.integers(800_000_000, 1_600_000_000, len(pairs)),
    }  # fmt: skip
    csv.write_csv(pa.table(columns), file)


def measure(file: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each stage on one file, and the peak memory of this process (GB) so far, after each."""
    from marquee.config.check import check
    from marquee.config.compose import compose
    from marquee.runs import train
    from marquee.runs.code import code_identity

    columns = [f"data.columns.{role}={name}" for role, name in
               (("user", "user"), ("item", "item"), ("value", "rating"), ("timestamp", "time"))]  # fmt: skip
    base = [f"paths.cache={folder / 'cache'}", f"paths.output={folder / 'outputs'}", "data=interactions",
            f"data.path={file}", *columns, "split=ratio", "tracker=none", "trainer.max_epochs=1",
            "trainer.check_val_every_n_epoch=1000"]  # fmt: skip

    def configured(*words: str) -> dict[str, Any]:
        composed = compose([*base, *words])
        check(composed)
        return composed.config

    found: dict[str, float] = {}
    bpr = configured("model=mf/bpr", f"model.view.batch_size={BATCH}", "optimizer.lr=0.01")
    data = _timed(found, "prepare", lambda: train.prepare_data(bpr))
    for name, config in (("bpr", bpr), ("ials", configured("model=mf/ials", "model.dim=64"))):
        task = train.prepare_task(config, data)
        run = train.open_run(config, [], data, task, None, code_identity(config))
        trainer, checkpoint = train.prepare_trainer(config, task, run, [])
        checkpoint.on_train_epoch_end = lambda *arguments: None
        _timed(found, name, lambda: train.fit(trainer, task, checkpoint, False))  # noqa: B023
        run.finish("finished")
        if name == "bpr":
            task.eval()
            _timed(found, "rank", lambda: task.evaluate(task.model, "test"))  # noqa: B023
    found |= {"interactions": len(data.store), "cells": data.spec.n_users * data.spec.n_items}
    return found


def _timed(found: dict[str, float], name: str, action: Any) -> Any:
    start = time.process_time()
    result = action()
    found[name] = time.process_time() - start
    found[f"{name}_memory"] = peak_memory()
    return result


def peak_memory() -> float:
    """GB at this process's peak; 0 where nobody keeps it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def curve(space: Workspace) -> list[dict[str, float]]:
    """What each size gives, the smallest first; measured once and printed."""
    file = space.folder / "growth.json"
    if not file.exists():
        found = []
        for millions in SIZES[space.size]:
            work = space.folder / f"growth-{millions:g}"
            work.mkdir()
            write_interactions(work / "rows.csv", millions)
            found.append(_in_process(work) if space.size == "once" else _in_child(work))
            stages = ", ".join(
                f"{stage} {found[-1][stage]:.1f} s ({found[-1][stage + '_memory']:.1f} GB)"
                for stage in ("prepare", "bpr", "rank", "ials")
            )
            print(f"  {found[-1]['interactions'] / 1e6:6.2f} M interactions: {stages}", flush=True)
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())


def _in_process(work: Path) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        return measure(work / "rows.csv", work)


def _in_child(work: Path) -> dict[str, float]:
    """In a new process, whose peak memory is its own."""
    code = (
        "import json, sys, logging; logging.disable(logging.WARNING); from pathlib import Path; "
        "from benchmarks.growth import measure; work = Path(sys.argv[1]); "
        "print(json.dumps(measure(work / 'rows.csv', work)))"
    )
    path = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code, str(work)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        raise RuntimeError(f"measuring {work} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def growth(stage: str, unit: str):
    """The time a unit at the largest size, beside that at the smallest, in microseconds."""

    def run(space: Workspace) -> Measured:
        small, *_, large = curve(space)
        return Measured(*(1e6 * size[stage] / size[unit] for size in (large, small)), synthetic=True)

    return run


def at_the_largest(key: str):
    return lambda space: Measured(curve(space)[-1][key], synthetic=True)


def rank_memory(space: Workspace) -> Measured:
    """How far ranking everything for everybody lifts the peak above that of training."""
    largest = curve(space)[-1]
    return Measured(largest["rank_memory"] - largest["bpr_memory"], synthetic=True)


BENCHMARKS = [
    Benchmark("growth_prepare", "ours", 60, "CPU s at 20 M", "", at_the_largest("prepare")),
    Benchmark("growth_prepare_memory", "ours", 3, "GB at 20 M", "", at_the_largest("prepare_memory")),
    Benchmark("growth_rank_memory", "ours", 1, "GB above training", "", rank_memory),
    Benchmark("growth_prepare_linear", "ratio", 2, "µs/interaction", "at 1 M", growth("prepare", "interactions")),
    Benchmark("growth_bpr_linear", "ratio", 2, "µs/interaction", "at 1 M", growth("bpr", "interactions")),
    Benchmark("growth_ials_linear", "ratio", 2, "µs/interaction", "at 1 M", growth("ials", "interactions")),
    Benchmark("growth_rank_linear", "ratio", 1.5, "µs/user and item", "at 1 M", growth("rank", "cells")),
]
