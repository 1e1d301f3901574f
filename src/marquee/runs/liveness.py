"""Whether the process of a run still lives, and so the status to show."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def process() -> dict[str, Any]:
    """Who writes this manifest, so that a later look can tell a running run from one whose process is gone."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> str | None:
    """The kernel's start time of a process (clock ticks since boot, after the boot's id), or None where unknown.

    A process id is used again after a while; together with its start time it is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{fields[19]}"
    except (OSError, IndexError):
        return None


def is_alive(owner: Mapping[str, Any] | None) -> bool:
    """Whether the process of a manifest still runs. One on another machine cannot be seen and counts as alive."""
    if not owner or owner.get("host") != socket.gethostname():
        return owner is not None
    if owner.get("started") is not None:
        return process_start(owner["pid"]) == owner["started"]
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def is_here(manifest: Mapping[str, Any]) -> bool:
    """Whether the process of a run is, or was, on this machine, so that it can be told how it is."""
    return (manifest.get("process") or {}).get("host") == socket.gethostname()


def status_of(manifest: Mapping[str, Any]) -> str:
    """The status to show: `running` with its process gone was interrupted (killed -9, power cut)."""
    status = manifest.get("status", "failed")
    return "interrupted" if status == "running" and not is_alive(manifest.get("process")) else status
