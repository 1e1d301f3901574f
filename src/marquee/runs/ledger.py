"""A SQLite index over the manifests, so that listing thousands of runs reads only the changed ones.

The manifests are the truth. The index can be deleted at any time; a damaged one is rebuilt without a word to the user,
and where SQLite cannot lock or write (a network file system, a read-only folder) the manifests are read every time.
"""

import json
import os
import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from marquee.config.folders import choice_of
from marquee.errors import ConfigError
from marquee.runs.liveness import status_of
from marquee.runs.record import MANIFEST, read_manifest

FILE = "ledger.sqlite"
_VERSION = 2
_TABLE = "create table runs (folder text primary key, stamp text not null, summary text not null)"
_LOCK_SECONDS = 5
# What SQLite says where the file is sound and cannot be used now; whatever else it says, the file is damaged.
_UNUSABLE = ("locked", "busy", "disk i/o", "readonly", "unable to open", "locking protocol", "is full")
# What lists and tables need of a manifest; the rest stays in its file.
_SUMMARY = (
    "id", "fingerprint", "status", "name", "tags", "seed", "overrides", "started", "finished", "durations",
    "metrics", "monitor", "error", "process",
)  # fmt: skip


def runs(output: Path) -> list[dict[str, Any]]:
    """A summary of every run under `output`, oldest first: manifest keys, with `folder`, `data`, `model`, `split`.

    `status` is as it is now: a run whose process is gone is `interrupted`, one whose manifest cannot be read
    `unreadable`, with the reason as its `error`.
    """
    stamps = _stamps(output)
    if not stamps:
        return []
    # A link, in a folder of somebody else's, may lead to another database, whose tables are not ours to drop.
    index = ":memory:" if (output / FILE).is_symlink() else str(output / FILE)
    try:
        summaries = _indexed(output, stamps, index)
    except (sqlite3.DatabaseError, ValueError) as error:
        if not any(word in str(error).lower() for word in _UNUSABLE):
            _remove(output)
        try:
            summaries = _indexed(output, stamps, index)
        except (sqlite3.DatabaseError, ValueError):
            summaries = _indexed(output, stamps, ":memory:")
    for summary in summaries:
        summary["folder"] = os.path.join(output, "runs", summary["folder"])
        summary["status"] = status_of(Path(summary["folder"]), summary)
    return sorted(summaries, key=lambda summary: (summary["started"] or "", summary["folder"]))


def _stamps(output: Path) -> dict[str, str]:
    """What tells whether a manifest is still the one that was read: {name of the run's folder: stamp}.

    Not only the time and the size: a clock may be set back, and a copy may keep the time of what it was made from. A
    manifest is always replaced as a whole, so it has a new inode.
    """
    stamps = {}
    try:
        with os.scandir(output / "runs") as entries:
            for entry in entries:
                try:
                    status = os.stat(os.path.join(entry.path, MANIFEST))
                except OSError:  # no run, or removed since
                    continue
                stamps[entry.name] = f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"
    except OSError:
        pass
    return stamps


def _indexed(output: Path, stamps: dict[str, str], database: str) -> list[dict[str, Any]]:
    """Bring the index up to date with the manifests and return the summaries."""
    with closing(sqlite3.connect(database, timeout=_LOCK_SECONDS, isolation_level=None)) as connection:
        if _version(connection) != _VERSION:
            connection.execute("begin immediate")
            if _version(connection) != _VERSION:  # nobody else has made it meanwhile
                connection.execute("drop table if exists runs")
                connection.execute(_TABLE)
                connection.execute(f"pragma user_version = {_VERSION}")
            connection.execute("commit")
        known = {folder: (stamp, text) for folder, stamp, text in connection.execute("select * from runs")}
        kept = [text for folder, (stamp, text) in known.items() if stamps.get(folder) == stamp]
        summaries = json.loads(f"[{','.join(kept)}]")
        unreadable, new = [], {}
        for folder, stamp in stamps.items():
            if folder in known and known[folder][0] == stamp:
                continue
            try:
                new[folder] = (stamp, _summary(folder, read_manifest(output / "runs" / folder)))
            except ConfigError as error:
                # Not indexed: the reason may be the file system's, and pass.
                found = {"id": folder, "status": "unreadable", "error": f"unreadable manifest: {error}"}
                unreadable.append(_summary(folder, found))
        gone = known.keys() - stamps.keys()
        if new or gone:
            rows = [(folder, stamp, json.dumps(summary)) for folder, (stamp, summary) in new.items()]
            connection.execute("begin immediate")
            connection.executemany("insert or replace into runs values (?, ?, ?)", rows)
            connection.executemany("delete from runs where folder = ?", [(folder,) for folder in gone])
            connection.execute("commit")
        return [*summaries, *unreadable, *(summary for _, summary in new.values())]


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("pragma user_version").fetchone()[0]


def _remove(output: Path) -> None:
    """Remove the index with its journal, which would be played back into the next one."""
    for ending in ("", "-journal", "-wal", "-shm"):
        try:
            (output / f"{FILE}{ending}").unlink(missing_ok=True)
        except OSError:  # a read-only folder
            continue


def _summary(folder: str, manifest: dict[str, Any]) -> dict[str, Any]:
    summary = {key: manifest.get(key) for key in _SUMMARY}
    config = manifest.get("config") or {}
    for group in ("data", "split", "model"):
        known = manifest.get(group)
        name = known.get("name") if isinstance(known, dict) else known
        # A record of another hand may lack the name; then the configuration tells it, in some milliseconds.
        summary[group] = name or _choice(group, json.dumps(config.get(group)))
    return {**summary, "folder": folder}


@lru_cache(maxsize=4096)
def _choice(group: str, node: str) -> str | None:
    return choice_of(group, json.loads(node))
