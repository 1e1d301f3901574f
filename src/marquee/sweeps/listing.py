"""What `marquee sweeps`, `marquee ls SWEEP` and the end of a sweep print."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.runs.listing import local, number, status_colour
from marquee.runs.lock import at_work
from marquee.runs.terminal import Coloured, command, folded, table
from marquee.sweeps.ends import manifest_of
from marquee.sweeps.store import Job, Sweep, sweep_folders, telling_words

_ROWS = 60  # more at the end of a sweep would push its summary off the screen


def print_outcome(jobs: Sequence[Job], folder: Path, brief: bool = False) -> None:
    """The jobs of a sweep with their test metrics, the failed ones too, and what to type next.

    Where there are too many for a screen, and with `brief` (after a search, which has told its best), the failed ones.
    """
    sweep = Sweep.open(folder)
    manifests = [_manifest(sweep, job) for job in jobs]
    brief = brief or len(jobs) > _ROWS
    shown = [index for index, job in enumerate(jobs) if not brief or job.status == "failed"]
    if shown:
        print()
        _job_table([jobs[index] for index in shown], [manifests[index] for index in shown])
    stored = sum(job.attempts == 0 and job.status in ("finished", "pruned") for job in jobs)
    counts = {job.status: 0 for job in jobs}
    for job in jobs:
        counts[job.status] += 1
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    print("\n" + folded(f"{folder.name}: {told}{f' ({stored} of them stored before)' if stored else ''}"))
    if len(jobs) > _ROWS:
        print(f"  marquee ls {folder.name}")
    if counts.get("finished"):
        print(f"  {command(['marquee', 'compare', str(folder)])}")
    if counts.get("failed") or counts.get("interrupted") or counts.get("waiting"):
        print("  the same command again runs only what is missing")


def list_jobs(folder: Path, as_json: bool = False, status: str | None = None, last: int | None = None) -> None:
    """`marquee ls SWEEP`: its jobs in order, with the status that each has now."""
    sweep = Sweep.open(folder)
    jobs = [job for job in sweep.jobs if status in (None, sweep.status(job))]
    jobs = jobs[-last:] if last else jobs
    manifests = [_manifest(sweep, job) for job in jobs]
    if as_json:
        rows = [
            {
                "index": job.index, "overrides": job.overrides, "status": sweep.status(job), "run": _run(sweep, job),
                "attempts": job.attempts, "error": job.error, "log": str(folder / f"{job.stem}.log"),
                "metrics": manifest.get("metrics") or {},
            }
            for job, manifest in zip(jobs, manifests, strict=True)
        ]  # fmt: skip
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not jobs:
        print(f"No {status + ' ' if status else ''}jobs in {folder}")
        return
    for job in jobs:
        job.status, job.run = sweep.status(job), _run(sweep, job)
    _job_table(jobs, manifests, runs=True)
    print(f"\ntyped:\n  {command(sweep.command)}")


def list_sweeps(output: Path, as_json: bool = False) -> None:
    """`marquee sweeps`: every sweep with the counts of its jobs."""
    rows, records = [], []
    for folder in sweep_folders(output):
        try:
            sweep = Sweep.open(folder)
        except ConfigError as error:
            rows.append([folder.name, Coloured("unreadable", "red"), "", "", str(error)])
            continue
        statuses = [sweep.status(job) for job in sweep.jobs]
        counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
        running = at_work(folder)
        records.append({
            "name": sweep.name, "folder": str(folder), "running": running, "began": sweep.began, "jobs": len(statuses),
            "counts": counts, "command": sweep.command,
        })  # fmt: skip
        over = counts.get("finished", 0) + counts.get("pruned", 0)
        state = "running" if running else "finished" if over == len(statuses) else "incomplete"
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "finished")
        rows.append([sweep.name, Coloured(state, status_colour(state)), f"{over}/{len(statuses)}",
                     local(sweep.began)[:16], told])  # fmt: skip
    if as_json:
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif rows:
        table(["sweep", "state", "done", "began", ""], rows)
    else:
        print(f"No sweeps in {output / 'sweeps'}. Start one: marquee train -m seed=1,2,3")


def _job_table(jobs: Sequence[Job], manifests: Sequence[dict[str, Any]], runs: bool = False) -> None:
    watched = [manifest["monitor"] for manifest in manifests if manifest.get("metrics") and manifest.get("monitor")]
    names = [f"{part}/{name}" for name in dict.fromkeys(watched) for part in ("validation", "test")][:4]
    told = telling_words(jobs)
    rows = []
    for job, manifest in zip(jobs, manifests, strict=True):
        metrics = manifest.get("metrics") or {}
        cells = [f"{job.index} {told[job.index]}", Coloured(job.status, status_colour(job.status))]
        rows.append([*cells, *(number(metrics.get(name)) for name in names), *([job.run or ""] if runs else [])])
    columns = ["job", "status", *(name.replace("/", " ") for name in names), *(["run"] if runs else [])]
    table(columns, rows, numbers=not runs)


def _run(sweep: Sweep, job: Job) -> str | None:
    folder = sweep.run_folder(job)
    return folder.name if folder else None


def _manifest(sweep: Sweep, job: Job) -> dict[str, Any]:
    return manifest_of(sweep.run_folder(job))
