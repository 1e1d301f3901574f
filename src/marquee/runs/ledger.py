"""A SQLite index over the manifests, so that listing thousands of runs reads only the changed ones.

The manifests are the truth. The index can be deleted at any time; a damaged one is rebuilt without a word to the user.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from marquee.config.compose import choice_of
from marquee.errors import ConfigError
from marquee.runs.manifest import MANIFEST, read_manifest, run_folders, status_of

FILE = "ledger.sqlite"
_VERSION = 1
_TABLE = """
create table runs (
    folder text primary key, mtime integer not null, size integer not null,
    id text not null, fingerprint text, status text, started text, summary text not null
)
"""
# What lists and tables need of a manifest; the rest stays in its file.
_SUMMARY = (
    "id", "fingerprint", "status", "name", "tags", "seed", "overrides", "started", "finished", "durations",
    "metrics", "monitor", "error", "process",
)  # fmt: skip


def runs(output: Path) -> list[dict[str, Any]]:
    """A summary of every run under `output`, oldest first: manifest keys, with `folder`, `data`, `model`, `split`.

    `status` is as it is now: a run whose process is gone is `interrupted`.
    """
    if not (output / "runs").is_dir():
        return []
    file = output / FILE
    try:
        rows = _synchronised(output, str(file))
    except sqlite3.DatabaseError:
        try:
            file.unlink(missing_ok=True)
            rows = _synchronised(output, str(file))
        except (OSError, sqlite3.DatabaseError):  # a read-only folder, or another process holds it
            rows = _synchronised(output, ":memory:")
    summaries = [json.loads(row) for row in rows]
    for summary in summaries:
        summary["folder"] = str(output / "runs" / summary["folder"])
        summary["status"] = status_of(summary)
    return summaries


def _synchronised(output: Path, database: str) -> list[str]:
    """Bring the index up to date with the folders and return the summaries."""
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        if connection.execute("pragma user_version").fetchone()[0] != _VERSION:
            connection.execute("drop table if exists runs")
            connection.execute(_TABLE)
            connection.execute(f"pragma user_version = {_VERSION}")
        known = {row[0]: row[1:] for row in connection.execute("select folder, mtime, size from runs")}
        seen = set()
        for folder in run_folders(output):
            try:
                status = (folder / MANIFEST).stat()
            except OSError:  # removed since the listing
                continue
            seen.add(folder.name)
            if known.get(folder.name) == (status.st_mtime_ns, status.st_size):
                continue
            try:
                manifest = read_manifest(folder)
            except ConfigError as error:
                manifest = {"id": folder.name, "status": "failed", "error": f"unreadable manifest: {error}"}
            summary = _summary(folder, manifest)
            connection.execute(
                "insert or replace into runs values (?, ?, ?, ?, ?, ?, ?, ?)",
                (folder.name, status.st_mtime_ns, status.st_size, summary["id"], summary["fingerprint"],
                 summary["status"], summary["started"], json.dumps(summary)),
            )  # fmt: skip
        connection.executemany("delete from runs where folder = ?", [(name,) for name in known.keys() - seen])
        return [row[0] for row in connection.execute("select summary from runs order by started, folder")]


def _summary(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    summary = {key: manifest.get(key) for key in _SUMMARY}
    config = manifest.get("config") or {}
    for group in ("data", "split", "model"):
        summary[group] = choice_of(group, config.get(group))
    return {**summary, "folder": folder.name}
