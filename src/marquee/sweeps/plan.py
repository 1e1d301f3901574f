"""Before the first job starts, all are composed, checked and frozen, data is prepared, stored results are found."""

import contextlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marquee.config.compose import Composed, compose_all
from marquee.errors import ConfigError, MarqueeError
from marquee.files import write_text
from marquee.runs.environment import DECISIVE, environment
from marquee.runs.finding import run_folders_of
from marquee.runs.liveness import status_of
from marquee.runs.lock import at_work
from marquee.runs.record import read_manifest
from marquee.sweeps.store import Sweep


@dataclass
class Frozen:
    """One job as it will run, whatever happens to YAML files in the meantime.

    config       plain and resolved
    fingerprint  of the run that it will be; `data` and `split` are those of its parts
    run          the id of the run that has this fingerprint: finished (then nothing is to do) or to be continued
    status       of that run, or None
    resumes      whether the command names the run (`resume=`)
    """

    overrides: list[str]
    config: dict[str, Any]
    model: str
    fingerprint: str
    code: dict[str, Any]
    data: str
    split: str
    run: str | None = None
    status: str | None = None
    resumes: bool = False


def plan(jobs: Sequence[Sequence[str]], sweep: str) -> list[Frozen]:
    """Freeze the jobs of a sweep; nothing is started.

    Raises ConfigError with the mistakes of all jobs, or DataError, before any file is written.
    """
    composed = _composed(jobs, sweep)
    _check(jobs, composed)
    from marquee.config.fingerprint import canonical, fingerprint
    from marquee.config.folders import choice_of
    from marquee.runs.code import code_identity, package_identity
    from marquee.runs.content import with_content
    from marquee.runs.members import with_members

    package = package_identity()
    prepared: dict[str, tuple[str, str]] = {}
    frozen = []
    for words, (job, folder) in zip(jobs, composed, strict=True):
        config = with_content(job.config)
        key = canonical([config["data"], config["split"], config["paths"]])
        if key not in prepared:
            prepared[key] = _prepared(config)
        config = with_members(config, *prepared[key])
        code = code_identity(config, package)
        identity = fingerprint(config, *prepared[key], code)
        model = job.choices.get("model") or choice_of("model", config["model"]) or "model"
        frozen.append(Frozen(list(words), config, model, identity, code, *prepared[key]))
        if folder is not None:  # `resume`: this run and no other
            frozen[-1].resumes, frozen[-1].run = True, folder.name
            frozen[-1].status = status_of(folder, read_manifest(folder))
    _find_stored(frozen)
    return frozen


def _composed(jobs: Sequence[Sequence[str]], sweep: str) -> list[tuple[Composed, Path | None]]:
    from marquee.runs.resume import resumed

    named = compose_all([[*words, f"sweep={sweep}"] for words in jobs])
    result: list[tuple[Composed, Path | None]] = []
    for words, job in zip(jobs, named, strict=True):
        job = Composed(job.config, tuple(words), job.choices)
        result.append(resumed(job) if job.config.get("resume") else (job, None))
    return result


def _check(jobs: Sequence[Sequence[str]], composed: Sequence[tuple[Composed, Path | None]]) -> None:
    """Raise one ConfigError that lists each mistake once, with the jobs that make it."""
    from marquee.config.check import problems, report

    wrong: dict[str, list[str]] = {}
    for words, (job, _) in zip(jobs, composed, strict=True):
        found = problems(job)
        if found:
            wrong.setdefault(report(found), []).append(shlex.join(words))
    if not wrong:
        return
    parts = []
    for text, affected in wrong.items():
        more = [f"    and {len(affected) - 5} more jobs"] if len(affected) > 5 else []
        parts.append("\n".join([*(f"in: marquee train {job}" for job in affected[:5]), *more, text]))
    raise ConfigError("No job of the sweep was started.\n\n" + "\n\n".join(parts))


def _prepared(config: dict[str, Any]) -> tuple[str, str]:
    """The fingerprints of data and split. What was never prepared is prepared now, once, and not by each job."""
    from marquee.runs.train import prepare_data

    try:
        data = prepare_data(config)
    except MarqueeError as error:
        raise type(error)(f"No job of the sweep was started. {error}") from error
    return data.fingerprint, data.split_fingerprint


def _find_stored(frozen: Sequence[Frozen]) -> None:
    """Give each job the run that has its fingerprint: a finished one first, else the newest that can go on."""
    from marquee.runs.ledger import runs

    by_output: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for job in frozen:
        output = job.config["paths"]["output"]
        if output not in by_output:
            known: dict[str, list[dict[str, Any]]] = {}
            for run in runs(Path(output).expanduser()):
                known.setdefault(run["fingerprint"], []).append(run)
            by_output[output] = known
        best = best_run(by_output[output].get(job.fingerprint, []))
        if best is not None and not job.resumes:
            job.run, job.status = Path(best["folder"]).name, best["status"]


def look_again(job: Frozen) -> None:
    """Bring a job's run and status up to date: another sweep may have begun or finished it since the planning.

    One that has ended and is still held is `running`: its process may be handing it to a tracker, for minutes.
    """
    output = Path(job.config["paths"]["output"]).expanduser()
    if job.resumes:
        folder = output / "runs" / str(job.run)
        job.status = _occupied(folder, status_of(folder, read_manifest(folder)))
        return
    found = []
    for folder in run_folders_of(output, job.fingerprint):
        with contextlib.suppress(ConfigError):
            manifest = read_manifest(folder)
            if manifest.get("fingerprint") == job.fingerprint:
                status = _occupied(folder, status_of(folder, manifest))
                found.append({"folder": folder, "status": status, "started": manifest.get("started") or ""})
    best = best_run(sorted(found, key=lambda run: run["started"]))
    job.run, job.status = (best["folder"].name, best["status"]) if best else (None, None)


def _occupied(folder: Path, status: str) -> str:
    return "running" if status in ("failed", "interrupted") and at_work(folder) else status


def best_run(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The run to take for a fingerprint: finished, else running, pruned, interrupted or failed; the newest of those."""
    order = ("finished", "running", "pruned", "interrupted", "failed")
    ranked = [run for run in found if run["status"] in order]
    if not ranked:
        return None
    return min(reversed(ranked), key=lambda run: order.index(run["status"]))


def told_of_earlier(sweep: Sweep, frozen: Sequence[Frozen]) -> list[str]:
    """Lines on what this sweep has finished before: what cannot be taken, and why; what is of other versions."""
    finished = {tuple(job.overrides): job for job in sweep.jobs if job.status == "finished"}
    here = environment()["packages"]
    changes: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    for job in frozen:
        known = finished.get(tuple(job.overrides))
        folder = sweep.output / "runs" / job.run if is_over(job) and job.run else known and sweep.run_folder(known)
        try:
            manifest = read_manifest(folder) if folder else None
        except ConfigError:
            continue
        if manifest is None:
            continue
        if is_over(job):
            versions.update(other_versions(manifest, here))
        elif known is not None and known.fingerprint != job.fingerprint:
            changes[_changed(manifest, job)] += 1
    lines = [
        f"{_jobs(count)} finished before with {what}: to be run again. `marquee diff` of old and new tells more."
        for what, count in changes.items()
    ]
    return lines + [f"{_jobs(count)} stored with {what}: taken as {_it(count)}." for what, count in versions.items()]


def other_versions(manifest: Mapping[str, Any], here: Mapping[str, str]) -> list[str]:
    """The packages that decide last digits and had another version when a run was made."""
    packages = (manifest.get("environment") or {}).get("packages") or {}
    return [
        f"{name} {packages[name]} (now {here[name]})"
        for name in DECISIVE
        if name in packages and name in here and packages[name] != here[name]
    ]


def _changed(manifest: Mapping[str, Any], job: Frozen) -> str:
    from marquee.config.fingerprint import canonical, identity

    parts = {
        "code": ((manifest.get("code") or {}).get("sha256"), job.code["sha256"]),
        "data": ((manifest.get("data") or {}).get("fingerprint"), job.data),
        "split": ((manifest.get("split") or {}).get("fingerprint"), job.split),
        "configuration": (canonical(identity(manifest.get("config") or {})), canonical(identity(job.config))),
    }
    other = [name for name, (before, after) in parts.items() if before != after]
    return "other " + (" and ".join(other) or "fingerprint")


def _jobs(count: int) -> str:
    return f"{count} job{' was' if count == 1 else 's were'}"


def _it(count: int) -> str:
    return "it is" if count == 1 else "they are"


def freeze(folder: Path, stem: str, job: Frozen) -> None:
    """Write a frozen job for the process that will run it."""
    content = {
        "overrides": job.overrides, "config": job.config, "fingerprint": job.fingerprint, "code": job.code,
        "cwd": os.getcwd(),
    }  # fmt: skip
    write_text(folder / f"{stem}.json", json.dumps(content, ensure_ascii=False))


def is_over(job: Frozen) -> bool:
    """Whether nothing is left to do: the run is finished, or the job's own search has pruned it."""
    return job.status == "finished" or (job.status == "pruned" and "pruning" in (job.config["callbacks"] or {}))
