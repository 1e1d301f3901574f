"""`marquee sync`: upload what W&B has recorded offline, run by run, and never wait for ever."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from marquee.errors import JobError

WANDB = (sys.executable, "-m", "wandb")
NO_LOGIN = "No API key configured"


class NoAnswer(Exception):
    """W&B's own command was still busy when its time was over."""


def sync_folders(
    folders: Sequence[Path], where: str, is_running: Callable[[Path], bool], timeout: float = 300,
    command: Sequence[str] = WANDB,
) -> None:  # fmt: skip
    """Upload the offline W&B recordings of the runs in these folders and print what was done.

    where       the folders are from, in the user's words
    is_running  whether the run in a folder is still at work: it is left for later
    timeout     seconds for one run; the first that takes longer ends the whole
    command     W&B's command line; it writes a marker beside what it has uploaded, and that alone is believed

    Raises JobError where W&B does not answer, nobody is logged in, or a run cannot be uploaded.
    """
    recorded = {folder: parts(folder) for folder in dict.fromkeys(folders)}
    recorded = {folder: found for folder, found in recorded.items() if found}
    waiting = {folder: left for folder, found in recorded.items() if (left := [p for p in found if not is_synced(p)])}
    there = len(recorded) - len(waiting)
    # W&B marks a recording as uploaded once it has come to its end, and would never look at what is added later.
    running = [folder for folder in waiting if is_running(folder)]
    for folder in running:
        print(f"running {folder.name}  (not before it has ended)")
        del waiting[folder]
    if not waiting and running:
        return
    if not waiting:
        print(f"Nothing to sync: {there} runs are there already." if there else _nothing(folders, where))
        return
    failed: dict[str, str] = {}
    for done, (folder, left) in enumerate(waiting.items()):
        began = time.monotonic()
        try:
            told = upload(left, timeout, command)
        except NoAnswer:
            raise JobError(
                f"W&B did not take {folder.name} within {timeout:g} s; {done - len(failed)} of {len(waiting)} runs are "
                "uploaded. Is there a network? For a long run or a slow line: marquee sync --timeout SECONDS"
            ) from None
        if NO_LOGIN in told:
            raise JobError("Nobody is logged in to W&B. Type: wandb login (then marquee sync again)")
        if all(is_synced(part) for part in left):
            several = f" ({len(left)} parts)" if len(left) > 1 else ""
            print(f"synced  {folder.name}{several}  {time.monotonic() - began:.1f} s", flush=True)
        else:
            failed[folder.name] = _last_line(told)
            print(f"failed  {folder.name}  {failed[folder.name]}", flush=True)
    already = f", {there} were there already" if there else ""
    print(f"{len(waiting) - len(failed)} of {len(waiting)} runs uploaded{already}")
    if failed:
        raise JobError(
            "W&B did not take:\n" + "\n".join(f"  {name}  {reason}" for name, reason in failed.items())
            + "\nTo try again: marquee sync " + " ".join(failed)
        )  # fmt: skip


def parts(folder: Path) -> list[Path]:
    """The offline recordings of a run, one for each time it was started, oldest first (their names begin with it)."""
    return sorted(file.parent for file in folder.glob("wandb/offline-run-*/run-*.wandb"))


def is_synced(part: Path) -> bool:
    """Whether W&B has left its marker beside what it uploaded."""
    return any(part.glob("*.wandb.synced"))


def upload(recordings: Sequence[Path], timeout: float, command: Sequence[str] = WANDB) -> str:
    """Run `wandb sync` on the recordings of one run and return what it told. Raises NoAnswer after `timeout` seconds.

    All parts in one call: W&B uploads parts with the same id one after the other and lets each go on where the one
    before it ended.
    """
    recordings = [recording.resolve() for recording in recordings]  # the command works in a folder of its own
    words = [*command, "sync", *map(str, recordings)]
    silent = {"WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "online"}
    child = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, **silent}, cwd=recordings[0].parent.parent, start_new_session=True,
    )  # fmt: skip
    try:
        return child.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        raise NoAnswer from None
    finally:
        _end(child)


def _end(child: subprocess.Popen) -> None:
    """Stop W&B's command with the service that it started, also after Ctrl-C here."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()


def _nothing(folders: Sequence[Path], where: str) -> str:
    if not folders:
        return f"Nothing to sync: no runs in {where}."
    return f"Nothing to sync: none of the {len(folders)} runs in {where} was tracked by W&B offline (tracker=wandb)."


def _last_line(told: str) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["no message"])[-1]
