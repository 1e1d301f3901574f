"""The process of one job: it reads a frozen job, runs it or goes on with its run, and leaves its output in a log.

The launcher starts it by forking a process that has imported everything and computed nothing; a cluster or a
distributed job starts it as `marquee job FILE`. Either way it knows the sweep only by the files of its own job.
"""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, MarqueeError
from marquee.runs.environment import script
from marquee.runs.liveness import status_of
from marquee.runs.lock import Taken, wait_until_silent
from marquee.runs.record import Run, read_manifest
from marquee.runs.signals import stop_gently

# The exit code of a job that another process is at, or has just done: ask again later (EX_TEMPFAIL).
TAKEN = 75


def forked(file: str, environment: Mapping[str, str], threads: int, program: str) -> None:
    """Run a frozen job in a process forked for it; ends the process with the exit code of `run`.

    environment  the launcher's, now: the one that the fork was made from is as old as the first sweep
    program      what the processes of a distributed job are started with: the `marquee` that was typed
    """
    os.setpgid(0, 0)  # Ctrl-C is the launcher's; it passes on what this job should know
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, "job", file]
    _log_to(Path(file).with_suffix(".log"))
    threading.Thread(target=end_with_parent, daemon=True).start()
    # Not sys.exit: what the parent left at exit (open pools, a progress bar) is not this process's to tidy up.
    code = run(Path(file), threads, frozen_code=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def submitted(file: str, threads: int | None) -> int:
    """Run a frozen job in a process that a cluster has made for it; returns the exit code of `run`."""
    os.chdir(json.loads(Path(file).read_text(encoding="utf-8"))["cwd"])
    # Of the cluster's one task. Further processes, of a distributed job, are Lightning's to start, by sys.argv, and not
    # by the module (submitit's) that this process was started as.
    os.environ.pop("SLURM_NTASKS", None)
    sys.modules["__main__"].__spec__ = None
    sys.argv = [script(), "job", file]
    _log_to(Path(file).with_suffix(".log"))
    code = run(Path(file), threads)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _log_to(log: Path) -> None:
    """Send everything this process prints to a file: also what C code prints, and a crash's traceback."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    faulthandler.enable(file=2, all_threads=False)


def run(file: Path, threads: int | None = None, frozen_code: bool = False) -> int:
    """Run a frozen job and return its exit code, as `marquee train` would; the error is told on stderr.

    A job that has a run already (`jobs/NNNN.run`) goes on with it: after a kill, a retry or a cluster's requeue. Where
    another process works on it, or on one of the same fingerprint, nothing is done and the exit code is TAKEN.
    """
    signal.signal(signal.SIGINT, stop_gently)
    try:
        job = json.loads(file.read_text(encoding="utf-8"))
        config = job["config"]
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {file} is no frozen job: {error}", file=sys.stderr)
        return ConfigError.exit_code
    stem = f"{file.parent.name}/{file.stem}"
    folder = _to_continue(file)
    _set_threads(config, folder, threads)
    from marquee.runs.train import train
    from marquee.sweeps.store import note_run

    def opened(run: Run) -> None:
        note_run(file.parent.parent, stem, run.folder.name)

    try:
        code = job["code"] if frozen_code else None
        train(config, job["overrides"], folder, opened=opened, code=code, once=True)
        return 0
    except Taken as taken:
        print(f"left to another process: {taken}", file=sys.stderr)
        note_run(file.parent.parent, stem, taken.run.name)  # which the launcher will wait for
        return TAKEN
    except MarqueeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except Exception:  # a fault outside the run's own record, where it would have become a JobError
        import traceback

        traceback.print_exc()
        return 1


def mark_interrupted(file: Path, why: str) -> None:
    """Write into the manifest of a job's run that it was interrupted: for who knows that its process is at an end."""
    folder = _noted(file)
    with contextlib.suppress(ConfigError):
        run = Run.open(folder) if folder else None
        if run is not None and run.manifest["status"] == "running":
            run.finish("interrupted", error=why)


def saved_last(file: Path) -> float:
    """When the run of a job was saved last (time.time), 0 where it was not."""
    folder = _noted(file)
    try:
        return (folder / "checkpoints" / "last.ckpt").stat().st_mtime if folder else 0.0
    except OSError:
        return 0.0


def _noted(file: Path) -> Path | None:
    """The folder of the run that a job has opened or is to continue."""
    try:
        name = file.with_suffix(".run").read_text(encoding="utf-8").strip()
        job = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Path(job["config"]["paths"]["output"]).expanduser() / "runs" / name if name else None


def _to_continue(file: Path) -> Path | None:
    """The unfinished run that the job is to go on with, if there is one.

    Of one that another machine was at, a moment ago, it is not known whether it was killed: a minute's wait will tell.
    """
    folder = _noted(file)
    if folder is None:
        return None
    try:
        # The first process of a distributed run has marked it as running before it starts the others.
        if not int(os.environ.get("LOCAL_RANK", 0)):
            wait_until_silent(folder)
        status = status_of(folder, read_manifest(folder))
    except ConfigError:  # its manifest was lost: a new run
        return None
    return None if status == "finished" else folder


def _set_threads(config: Mapping[str, Any], folder: Path | None, share: int | None) -> None:
    """As many threads as the run began with, else `threads`, else the launcher's share, split in a distributed job."""
    from marquee.runs.threads import set_threads

    if folder is not None:
        began = (read_manifest(folder).get("environment") or {}).get("threads")
        share = int(began) if began and str(began).isdigit() else share
        if share:
            config = {**config, "threads": share}
    elif share is not None and not config.get("threads"):
        devices = (config.get("trainer") or {}).get("devices")
        several = devices if isinstance(devices, int) and not isinstance(devices, bool) and devices > 1 else 1
        if (config.get("trainer") or {}).get("accelerator") != "cpu":
            several = 1
        config = {**config, "threads": max(share // several, 1)}
    set_threads(config)


def end_with_parent() -> None:
    """A job whose launcher was killed stops, too: the same sweep may be on its way again."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(15)  # what cannot be interrupted any other way
    os.killpg(os.getpgid(0), signal.SIGKILL)
