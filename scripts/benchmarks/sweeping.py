"""Sweeps: planning many jobs, and what one more job costs beside its training."""

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Benchmark, Measured, cpu_seconds
from benchmarks.workspace import Workspace

# Runs a command and prints the CPU seconds of all its processes, also of those that outlive it (Linux: they come to
# the process that calls itself their reaper).
ALL_CPU_SECONDS = """\
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime)
"""


def plan_1000(space: Workspace) -> Measured:
    """Compose, check, identify and freeze 1,000 jobs (quick: 100): two models, steps and seeds; data is prepared."""
    from marquee.sweeps.plan import freeze, plan

    rates, seeds = (5, 10) if space.quick else (50, 10)
    places = [f"paths.cache={space.folder / 'cache-world'}", f"paths.output={space.folder / 'planned'}"]
    jobs = [
        ["data=world_ratings", f"model={model}", f"optimizer.lr={rate}e-4", f"seed={seed}", *places]
        for model in ("mf/bpr", "rnn/gru4rec")
        for rate in range(1, rates + 1)
        for seed in range(seeds)
    ]
    plan(jobs[:1], "benchmark")
    folder = space.folder / "planned" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    start = cpu_seconds()
    for number, job in enumerate(plan(jobs, "benchmark")):
        freeze(folder, f"{number:04d}", job)
    return Measured(cpu_seconds() - start, synthetic=True)


def job_overhead(space: Workspace) -> Measured:
    """CPU seconds of one more job, its training (a closed form, 0.3 s), tests and baselines included."""
    more = 4 if space.quick else 20
    return Measured((_sweep(space, 1 + more) - _sweep(space, 1)) / more, synthetic=True)


def _sweep(space: Workspace, jobs: int) -> float:
    output = space.folder / f"swept-{jobs}"
    words = ["data=world_ratings", "model=linear/ease", f"model.l2=range(1,{jobs + 1})", "tracker=none",
             f"paths.output={output}", f"paths.cache={space.folder / 'cache-world'}"]  # fmt: skip
    command = [sys.executable, "-c", ALL_CPU_SECONDS, sys.executable, "-m", "marquee", "train", "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(space.folder))
    code, seconds = done.stdout.split()
    assert code == "0", done.stderr
    return float(seconds)


BENCHMARKS = [
    Benchmark("plan_1000_jobs", "ours", 10, "CPU s", plan_1000),
    Benchmark("sweep_job_overhead", "ours", 1.5, "CPU s", job_overhead),
]
