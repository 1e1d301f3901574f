"""Whether a matrix of all pairs of items fits into memory, asked before it is made."""

import os
from pathlib import Path

from marquee.errors import ConfigError

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")


def refuse_too_large(key: str, n_items: int, matrices: float, instead: str) -> None:
    """Raise ConfigError where so many float32 matrices [n_items, n_items] are more than the memory that is left."""
    needed, left = int(matrices * 4 * n_items**2), available_memory()
    if left is not None and needed > left:
        raise ConfigError(
            f"{key}: a matrix of all pairs of {n_items:,} items needs {needed / 1e9:.1f} GB, and {left / 1e9:.1f} GB "
            f"of memory are available.\n  fix: {instead}"
        )


def available_memory() -> int | None:
    """Bytes that this process can still take: what the machine has left, or its cgroup; None where nobody says."""
    known = [_machine(), *map(_left_of, _cgroups())]
    return min((value for value in known if value is not None), default=None)


def _machine() -> int | None:
    try:
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _cgroups() -> list[Path]:
    """The control groups that hold this process, the innermost first (version 2)."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    own = [CGROUPS / line[3:].lstrip("/") for line in lines if line.startswith("0::")]
    return [place for path in own for place in (path, *path.parents) if place.is_relative_to(CGROUPS)]


def _left_of(group: Path) -> int | None:
    """The limit of a group less what it holds; files that were read and can be dropped do not count."""
    try:
        limit, held = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return None if limit == "max" else max(0, int(limit) - int(held) + int(counts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
