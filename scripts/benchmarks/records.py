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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Benchmark, Measured
from benchmarks.workspace import Workspace

MODELS = ("model=mf/bpr", "model=linear/ease", "model=neighbours/item_knn", "model=rnn/gru4rec")


def list_runs(space: Workspace) -> Measured:
    """`marquee ls` of 10,000 runs, the index as the last listing left it."""
    output = many_runs(space)
    _ls(output)
    return Measured(statistics.median(_ls(output) for _ in range(space.runs)), synthetic=True)


def rebuild(space: Workspace) -> Measured:
    """The same with the index deleted."""
    output = many_runs(space)
    (output / "ledger.sqlite").unlink(missing_ok=True)
    return Measured(_ls(output), synthetic=True)


def compare_runs(space: Workspace) -> Measured:
    """CPU seconds of `marquee compare` over 500 runs of 6,000 users: 50 configurations, ten seeds each."""
    return Measured(_compare(space)[0], synthetic=True)


def compare_memory(space: Workspace) -> Measured:
    """Its peak memory in GB."""
    return Measured(_compare(space)[1], synthetic=True)


def report_size(space: Workspace) -> Measured:
    """Megabytes of `marquee compare --format html` over the same runs, each with a curve of 50 epochs."""
    output, page = compared_runs(space), space.folder / "report.html"
    rows = "".join(f"{epoch},{epoch * 10},{epoch},{1 / (epoch + 1):.5f},{epoch / 99:.5f}\n" for epoch in range(50))
    for folder in (output / "runs").iterdir():
        (folder / "metrics.csv").write_text("epoch,step,seconds,train/loss,validation/ndcg@10\n" + rows)
    words = [sys.executable, "-m", "marquee", "compare", str(output), "--output", str(page)]
    subprocess.run(words, capture_output=True, check=True)
    return Measured(page.stat().st_size / 1e6, synthetic=True)


def _ls(output: Path) -> float:
    """CPU seconds of the command, from the start of its process to the end."""
    before = os.times()
    words = [sys.executable, "-m", "marquee", "ls", "--runs", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    after = os.times()
    assert len(done.stdout.splitlines()) == 1 + len(os.listdir(output / "runs"))
    return after.children_user - before.children_user + after.children_system - before.children_system


def _compare(space: Workspace) -> tuple[float, float]:
    """(CPU seconds, GB) of a process of its own."""
    output = compared_runs(space)
    measure = (
        "import resource, sys\nfrom marquee.cli.main import main\n"
        f"code = main(['compare', {str(output)!r}])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "print(code, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e9, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", measure], capture_output=True, text=True, check=True)
    code, seconds, memory = done.stderr.splitlines()[-1].split()
    assert code == "0", done.stderr
    return float(seconds), float(memory)


# Run folders ---------------------------------------------------------------------------------------------------------


def many_runs(space: Workspace) -> Path:
    """An output folder with 10,000 runs (quick: 500): manifests alone, which is what a listing reads."""
    output = space.folder / "many"
    if not output.exists():
        templates = [_manifest(space, word) for word in MODELS]
        for number in range(500 if space.quick else 10_000):
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
    n_users, n_runs = (600, 20) if space.quick else (6000, 500)
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
    Benchmark("ls_10000_runs", "ours", 1, "CPU s", list_runs),
    Benchmark("ledger_rebuild_10000", "ours", 30, "CPU s", rebuild),
    Benchmark("compare_500_runs", "ours", 20, "CPU s", compare_runs),
    Benchmark("compare_500_runs_memory", "ours", 2, "GB", compare_memory),
    Benchmark("report_500_runs", "ours", 5, "MB", report_size),
]
