"""Thousands of runs: listing them, rebuilding the index, and comparing hundreds."""

import contextlib
import copy
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Benchmark, Measured, cpu_seconds
from benchmarks.workspace import Workspace

MODELS = ("model=mf/bpr", "model=linear/ease", "model=neighbours/item_knn", "model=rnn/gru4rec")


LOOK = """\
import os, sys, json, pathlib, sqlite3, rich.table
for run in os.scandir(sys.argv[1]):
    os.stat(run.path + "/manifest.json")
"""


def list_runs(space: Workspace) -> Measured:
    """`marquee ls` of 10,000 runs, the index as the last listing left it; beside it the system's own look at them."""
    output = many_runs(space)
    _ls(space, output)
    words = [sys.executable, "-c", LOOK, str(output / "runs")]
    ours = [_ls(space, output) for _ in range(space.runs)]
    theirs = [_children(lambda: subprocess.run(words, check=True)) for _ in range(space.runs)]
    return Measured(statistics.median(ours), statistics.median(theirs), synthetic=True)


def rebuild(space: Workspace) -> Measured:
    """The same with the index deleted; beside it `json.loads` of every manifest."""
    output = many_runs(space)
    (output / "ledger.sqlite").unlink(missing_ok=True)
    ours, start = _ls(space, output), cpu_seconds()
    for file in (output / "runs").glob("*/manifest.json"):
        json.loads(file.read_text(encoding="utf-8"))
    return Measured(ours, cpu_seconds() - start, synthetic=True)


def compare_runs(space: Workspace) -> Measured:
    """`marquee compare` over 500 runs of 6,000 users: 50 configurations, ten seeds each.

    Beside it: each manifest and table read, and the mean of each column.
    """
    import pandas as pd

    output = compared_runs(space)
    ours, start = space.marquee("compare", str(output)).seconds, cpu_seconds()
    for file in (output / "runs").glob("*/per_unit.parquet"):
        json.loads((file.parent / "manifest.json").read_text(encoding="utf-8"))
        pd.read_parquet(file).mean()
    return Measured(ours, cpu_seconds() - start, synthetic=True)


def compare_memory(space: Workspace) -> Measured:
    """Its peak memory in GB."""
    return Measured(space.marquee("compare", str(compared_runs(space))).memory, synthetic=True)


def report_size(space: Workspace) -> Measured:
    """Megabytes of `marquee compare --format html` over the same runs, each with a curve of 50 epochs."""
    output, page = compared_runs(space), space.folder / "report.html"
    rows = "".join(f"{epoch},{epoch * 10},{epoch},{1 / (epoch + 1):.5f},{epoch / 99:.5f}\n" for epoch in range(50))
    for folder in (output / "runs").iterdir():
        (folder / "metrics.csv").write_text("epoch,step,seconds,train/loss,validation/ndcg@10\n" + rows)
    space.marquee("compare", str(output), "--output", str(page))
    return Measured(page.stat().st_size / 1e6, synthetic=True)


def _ls(space: Workspace, output: Path) -> float:
    """CPU seconds of the command, from the start of its process to the end."""
    used = space.marquee("ls", "--runs", str(output))
    assert len(used.log.read_text().splitlines()) == 1 + len(os.listdir(output / "runs"))
    return used.seconds


def _children(action: Callable[[], Any]) -> float:
    """CPU seconds of the processes that an action starts and waits for."""
    before = os.times()
    action()
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


# Run folders ---------------------------------------------------------------------------------------------------------


def many_runs(space: Workspace) -> Path:
    """An output folder with 10,000 runs (quick: 500): manifests alone, which is what a listing reads."""
    output = space.folder / "many"
    if not output.exists():
        templates = [_manifest(space, word) for word in MODELS]
        for number in range(space.of(10_000, 500, 4)):
            manifest = copy.deepcopy(templates[number % len(templates)])
            _vary(manifest, number, seed=number)
            _write(output, manifest)
    return output


def compared_runs(space: Workspace) -> Path:
    """An output folder with 500 finished runs of 6,000 users (quick: 20 of 600)."""
    import pandas as pd

    output = space.folder / "compared"
    if output.exists():
        return output
    rng = np.random.default_rng(0)
    template = _manifest(space, "model=mf/bpr")
    metrics = [name.removeprefix("test/") for name in template["metrics"] if "coverage" not in name]
    n_users, n_runs = space.of(6000, 600, 30), space.of(500, 20, 4)
    users = np.arange(n_users)
    for number in range(n_runs):
        manifest = copy.deepcopy(template)
        _vary(manifest, number, seed=number % 10)
        manifest["config"]["model"]["dim"] = 8 * (1 + number // 10)
        values = np.clip(rng.normal(0.3 + number // 10 / 500, 0.2, (n_users, len(metrics))), 0, 1)
        manifest["metrics"].update({f"test/{name}": float(values[:, i].mean()) for i, name in enumerate(metrics)})
        table = pd.DataFrame({"user": users, "n_relevant": 1, **dict(zip(metrics, values.T))})
        table.to_parquet(_write(output, manifest) / "per_unit.parquet")
    return output


def _manifest(space: Workspace, *words: str) -> dict[str, Any]:
    """The manifest of a real run on the embedded world."""
    from marquee.config.check import check
    from marquee.config.compose import compose
    from marquee.runs.train import train

    output = space.folder / "template"
    places = [f"paths.output={output}", f"paths.cache={space.folder / 'cache-world'}"]
    composed = compose(["data=world_ratings", "trainer=smoke", "tracker=none", *words, *places])
    check(composed)
    with contextlib.redirect_stdout(io.StringIO()):
        manifest = train(composed.config, composed.overrides)
    shutil.rmtree(output)
    return json.loads(json.dumps(manifest, default=str))


def _vary(manifest: dict[str, Any], number: int, seed: int) -> None:
    """Another run of the same kind: its own id, fingerprint, seed, time and configuration."""
    manifest["fingerprint"] = f"{number:08x}" * 8
    manifest["id"] = f"{number:08x}-world-ratings-{manifest['model'].split('/')[-1]}-s{seed}"
    manifest["seed"] = manifest["config"]["seed"] = seed
    manifest["started"] = f"2026-01-{1 + number % 28:02d}T12:{number // 28 % 60:02d}:00.{number % 1000:03d}+00:00"
    manifest["metrics"] = {name: value + number * 1e-6 for name, value in manifest["metrics"].items()}


def _write(output: Path, manifest: dict[str, Any]) -> Path:
    folder = output / "runs" / manifest["id"]
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return folder


BENCHMARKS = [
    Benchmark("ls_10000_runs", "ratio", 10, "CPU s", "os.stat of each", list_runs),
    Benchmark("ledger_rebuild_10000", "ratio", 3, "CPU s", "json.loads of each", rebuild),
    Benchmark("compare_500_runs", "ratio", 1.5, "CPU s", "reading and means", compare_runs),
    Benchmark("compare_500_runs_memory", "ours", 2, "GB", "", compare_memory),
    Benchmark("report_500_runs", "ours", 5, "MB", "", report_size),
]
