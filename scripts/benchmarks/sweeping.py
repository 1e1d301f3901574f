"""Sweeps: planning many jobs, and what one more job costs beside its training."""

import contextlib
import io

from benchmarks.measure import Benchmark, Measured, cpu_seconds
from benchmarks.workspace import Workspace


def plan_1000(space: Workspace) -> Measured:
    """Compose, check, identify and freeze 1,000 jobs (quick: 100): two models, steps and seeds; data is prepared.

    Beside it: as many jobs composed by Hydra alone, reckoned from ten.
    """
    from hydra import compose, initialize_config_dir

    from marquee.config.folders import conf_folder
    from marquee.sweeps.plan import freeze, plan

    rates, seeds = space.of(50, 5, 1), space.of(10, 10, 1)
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
    ours, start = cpu_seconds() - start, cpu_seconds()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for job in jobs[:10]:
            compose("train", [f"++{word}" if "." in word else word for word in job])
    return Measured(ours, (cpu_seconds() - start) * len(jobs) / len(jobs[:10]), synthetic=True)


def job_overhead(space: Workspace) -> Measured:
    """CPU seconds of one more job of a sweep, a closed form of 0.3 s; beside it the same run in this process."""
    from marquee.runs.train import train

    more = space.of(20, 4, 1)
    ours = (_sweep(space, 1 + more) - _sweep(space, 1)) / more
    words = [*_words(space, "alone"), "model.l2=1"]
    from marquee.config.compose import compose

    config = compose(words).config
    seconds = []
    for _ in range(space.of(5, 3, 1)):
        start = cpu_seconds()
        with contextlib.redirect_stdout(io.StringIO()):
            train(config)
        seconds.append(cpu_seconds() - start)
    return Measured(ours, min(seconds), synthetic=True)


def _words(space: Workspace, name: str) -> list[str]:
    return ["data=world_ratings", "model=linear/ease", "tracker=none", f"paths.output={space.folder / name}",
            f"paths.cache={space.folder / 'cache-world'}"]  # fmt: skip


def _sweep(space: Workspace, jobs: int) -> float:
    words = [*_words(space, f"swept-{jobs}"), f"model.l2=range(1,{jobs + 1})"]
    return space.marquee("train", "-m", *words).seconds


BENCHMARKS = [
    Benchmark("plan_1000_jobs", "ratio", 0.1, "CPU s", "Hydra's composition", plan_1000),
    Benchmark("sweep_job_overhead", "ratio", 3.5, "CPU s", "the run without a sweep", job_overhead),
]
