"""May a newer run take over? Only one of the same protocol, and none that is significantly worse."""

from pathlib import Path
from typing import Any

import numpy as np

from marquee.compare.groups import Group
from marquee.compare.protocol import protocol_key, switches
from marquee.compare.statistics import ALPHA, patterns_of, sign_flips
from marquee.compare.units import FILE, read_units
from marquee.errors import ConfigError
from marquee.metrics.direction import direction
from marquee.runs.finding import find_run, run_folders
from marquee.runs.liveness import status_of
from marquee.runs.record import MANIFEST, Run, read_manifest
from marquee.seeding import numpy_generator

LOOKED = 50  # manifests that are read: those that were written last


def newest(run: str, output: Path) -> list[Path]:
    """The finished runs that a name may mean, the newest first: `latest` goes on as runs are finished, so does a label.

    Raises ConfigError for a name that fits no run.
    """
    folders = run_folders(output)
    found = folders if run == "latest" else [folder for folder in folders if run in _labels(folder.name)]
    found = sorted(found or [find_run(run, output)], key=written, reverse=True)[:LOOKED]
    finished = []
    for folder in found:
        try:
            manifest = read_manifest(folder)
        except ConfigError:  # being written, or somebody else's
            continue
        own = _labels(folder.name)[0]
        if run not in ("latest", own) and own == manifest.get("name"):  # v-2 is a label of its own, not the second v
            continue
        if status_of(folder, manifest) == "finished":
            finished.append((manifest.get("finished") or "", folder.name, folder))
    if not finished:
        return [find_run(run, output)]  # which says what there is
    return [folder.resolve() for *_, folder in sorted(finished, reverse=True)]


def written(folder: Path) -> float:
    """When its manifest was written last, which the end of a run does."""
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells whether a folder has changed since: of a copy that is under way, any of its files may come last."""
    files = [folder / MANIFEST, folder / FILE, *sorted((folder / "inference").glob("*"))]
    found = []
    for file in files:
        try:
            about = file.stat()
        except OSError:
            continue
        found.append((file.name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _labels(name: str) -> tuple[str, ...]:
    """`ml1m` of 4b4c1318-ml1m; of 4b4c1318-ml1m-2, which may be the second of its fingerprint, also `ml1m-2`, first."""
    label = name.partition("-")[2]
    stem, _, number = label.rpartition("-")
    return (label, stem) if stem and number.isdigit() else (label,)


def refusal(current: Path, newer: Path) -> str | None:
    """Why the newer run must not take over, in words; None where it may."""
    runs = [Run.open(folder) for folder in (current, newer)]
    old, new = (run.manifest for run in runs)
    if protocol_key(old) != protocol_key(new):
        return f"it has another protocol: {'; '.join(switches(new, old)) or 'its settings differ'}"
    metric = old.get("monitor")
    if not metric:
        return "it cannot be compared: no metric is monitored"
    units = read_units([Group([run]) for run in runs], [metric])
    columns = units.values.get(metric, {})
    if len(columns) < 2:
        return f"it cannot be compared by {metric}: {' '.join(units.notes) or 'there are no per-unit results'}"
    tested = old.get("n_units")
    if isinstance(tested, int) and len(units.ids) < tested:
        return f"it was tested on {len(units.ids):,} of the {tested:,} units of the run that is served"
    better = 1 if direction_of(old, metric) == "max" else -1
    values = np.stack([columns[0], columns[1]], axis=1)
    gain = better * float((values[:, 1] - values[:, 0]).mean())
    if gain >= 0:
        return None
    generator = numpy_generator(0, "reload")
    p, _ = sign_flips(values, np.array([[0, 1]]), patterns_of(len(values), 1), generator)
    if p[0] >= ALPHA:
        return None
    means = values.mean(axis=0)
    return (
        f"it is significantly worse: {metric} {means[1]:.4f}, and {means[0]:.4f} of the run that is served "
        f"(p = {p[0]:.4f}, {len(values):,} paired units)"
    )


def direction_of(manifest: dict[str, Any], metric: str) -> str:
    """`max` or `min`, what is better."""
    return manifest.get("mode") or direction(metric)
