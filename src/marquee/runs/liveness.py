"""The status to show of a run: a manifest says `running` also when its process was killed."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.runs import lock
from marquee.runs.record import MANIFEST, read_manifest

# A run of a version that gave no sign of life, on a machine that cannot be seen: after this long it is over.
_FORMER_SECONDS = 24 * 3600.0


def status_of(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The status of the run in a folder; `running` with its process gone was interrupted (killed -9, power cut)."""
    status = manifest.get("status", "failed")
    if status != "running" or _at_work(folder, manifest.get("process") or {}):
        return status
    try:
        status = read_manifest(folder).get("status", "failed")  # it may have ended since the manifest was read
    except ConfigError:
        return "interrupted"
    return "interrupted" if status == "running" else status


def _at_work(folder: Path, who: Mapping[str, Any]) -> bool:
    if (folder / lock.LOCK).exists():
        return lock.at_work(folder)
    return bool(who) and _former_at_work(folder, who)


def _former_at_work(folder: Path, who: Mapping[str, Any]) -> bool:
    """Of a run without a lock, begun by a version that kept none: whether its process lives, where that can be seen."""
    if not lock.is_here(who):
        try:
            return time.time() - (folder / MANIFEST).stat().st_mtime < _FORMER_SECONDS
        except OSError:
            return False
    if who.get("started") is not None:
        return lock.process_start(who["pid"]) == who["started"]
    try:
        os.kill(who["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
