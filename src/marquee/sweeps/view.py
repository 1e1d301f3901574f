"""What a sweep shows while it runs: a live table at a terminal, one plain line for each event elsewhere."""

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from marquee.runs.listing import number
from marquee.runs.terminal import folded, printable
from marquee.sweeps.ends import manifest_of
from marquee.sweeps.store import Job, Sweep, telling_words

_COLOURS = {"finished": "green", "pruned": "yellow", "failed": "red", "interrupted": "yellow"}
_SHOWN_JOBS, _SHOWN_MODELS = 8, 6

Active = Sequence[tuple[Job, Any, float]]  # job, what runs it, when it was started (monotonic)


class View:
    """Counts, time left, the best of each model so far, and a line for each running job."""

    def __init__(self, name: str, later: bool = False, total: int | None = None, shared: Sequence[str] = ()):
        self.name, self.later = name, later  # a later batch of a search needs no introduction
        self.total, self.shared = total, shared  # what a search knows: how many jobs there will be, what all begin with
        self.console = Console(highlight=False)
        self.live: Live | None = None
        self.sweep: Sweep | None = None
        self.jobs: list[Job] = []
        self.told: dict[int, str] = {}
        self.best: dict[str, tuple[float, str, str]] = {}  # model -> value, metric, words
        self.took: dict[str, list[float]] = {}
        self.capacity = 1

    def __enter__(self) -> "View":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def begin(self, sweep: Sweep, jobs: Sequence[Job], waiting: Sequence[Job], capacity: int) -> None:
        """Say what is planned, and what of it is stored already."""
        self.sweep, self.jobs, self.capacity = sweep, sweep.jobs, capacity
        self.told = telling_words(sweep.jobs, self.shared)
        stored = [job for job in jobs if job.status in ("finished", "pruned")]
        went_on = sum(job.run is not None for job in waiting)
        adopted = sum(job.status == "running" for job in jobs)  # left on a cluster by an earlier launcher
        doubles = len(jobs) - len(stored) - len(waiting) - adopted
        parts = [f"{len(stored)} stored"] if stored else []
        parts += [f"{adopted} running still"] if adopted else []
        parts += [f"{went_on} to continue"] if went_on else []
        parts += [f"{doubles} double"] if doubles > 0 else []
        parts += [f"{len(waiting) - went_on} to run"]  # the parts add up to the jobs
        if not self.later or stored or went_on:
            at_a_time = f"; {capacity} at a time" if capacity > 1 else ""
            count = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
            self.say(f"sweep {self.name}: {count}: {', '.join(parts)}{at_a_time}")
        for job in stored:
            self._note_best(job, self._manifest(job))
        if self.console.is_terminal and waiting:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()

    def end(self) -> None:
        """Take the live part off the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, line: str) -> None:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        self.console.print(folded(line, indent), markup=False, soft_wrap=True)

    def ended(self, job: Job, manifest: dict[str, Any]) -> None:
        """A job that finished, was pruned or was interrupted."""
        self._note_best(job, manifest)
        if job.status == "finished" and job.seconds is not None:
            self.took.setdefault(job.model, []).append(job.seconds)
        value, metric = _watched(manifest)
        told = f"  {metric} {number(value)}" if value is not None and job.status != "interrupted" else ""
        self._event(job.status, f"{self.words(job)}{told}  {clock(job.seconds or 0)}")

    def failed(self, job: Job, tail: Sequence[str], log: Path, again: bool) -> None:
        """A job that failed: what it is, why, the end of its log, at once."""
        self._event("failed", f"{self.words(job)}  {clock(job.seconds or 0)}{'; trying again' if again else ''}")
        told = (job.error or "").splitlines()
        for text in told[:6]:
            self.say(f"      {text}")
        for text in tail if len(told) < 2 else []:
            if text.strip() and text.removeprefix("error: ") not in told:
                self.say(f"      | {text}")
        self.say(f"      log: {log}")

    def _event(self, status: str, told: str) -> None:
        start = f"{self._count()} "
        line = Text(folded(f"{start}{status:<9} {told}", "      "))
        line.stylize(_COLOURS.get(status, ""), len(start), len(start) + len(status))
        self.console.print(line, soft_wrap=True)

    def refresh(self, active: Active) -> None:
        """Draw the live part anew."""
        if self.live is not None:
            self.live.update(Group(*self._lines(active)))

    def words(self, job: Job) -> str:
        """What tells this job from the others."""
        return self.told.get(job.index, "")

    # The live part ---------------------------------------------------------------------------------------------------

    def _lines(self, active: Active) -> list[Text]:
        failed = sum(job.status == "failed" for job in self.jobs)
        waiting = sum(job.status == "waiting" for job in self.jobs) + self._unasked()
        done = sum(job.status in ("finished", "pruned") for job in self.jobs)
        left = self._left(active)
        head = Text.assemble(
            (f"{self.name}  ", "bold"), (f"{done}/{self._whole()} done", "green"), f"  {len(active)} running  ",
            (f"{failed} failed", "red" if failed else ""), f"  {waiting} left",
            f"  ETA {clock(left)}" if left is not None else "",
        )  # fmt: skip
        lines = [head]
        ranked = sorted(self.best.items(), key=lambda entry: entry[0])
        for model, (value, metric, words) in ranked[:_SHOWN_MODELS]:
            lines.append(Text(f"  best {model}: {metric} {number(value)}  {words}", "dim"))
        for job, running, started in list(active)[:_SHOWN_JOBS]:
            state = self._progress(job)
            text = printable(f"  {clock(time.monotonic() - started):>6}  {self.words(job)}  {state or running.place}")
            lines.append(Text(text))
        for line in lines:
            line.truncate(self.console.width, overflow="ellipsis")
        return lines

    def _left(self, active: Active) -> float | None:
        """Seconds until the end: each waiting job takes the mean of its model, or of all, shared by the places; those
        that a search has still to ask for take the mean of all."""
        every = [seconds for times in self.took.values() for seconds in times]
        if not every:
            return None

        def expected(job: Job) -> float:
            times = self.took.get(job.model) or every
            return sum(times) / len(times)

        total = sum(expected(job) for job in self.jobs if job.status == "waiting")
        total += sum(max(expected(job) - (time.monotonic() - started), 0) for job, _, started in active)
        total += self._unasked() * sum(every) / len(every)
        return total / max(min(self.capacity, self._whole()), 1)

    def _progress(self, job: Job) -> str:
        """The last row of the run's curves: epoch and watched metric."""
        folder = self.sweep.run_folder(job) if self.sweep else None
        if folder is None:
            return ""
        try:
            with (folder / "metrics.csv").open(newline="") as file:
                last = list(csv.DictReader(file))[-1]
        except (OSError, IndexError):
            return "epoch 1"
        metric = self._manifest(job).get("monitor")
        value = last.get(f"validation/{metric}")
        return f"epoch {int(last['epoch']) + 1} done  {f'{metric} {float(value):.4f}' if value else ''}".rstrip()

    def _count(self) -> str:
        over = sum(job.status in ("finished", "pruned", "failed", "interrupted") for job in self.jobs)
        return f"[{over:>{len(str(self._whole()))}}/{self._whole()}]"

    def _whole(self) -> int:
        return max(self.total or 0, len(self.jobs))

    def _unasked(self) -> int:
        """The jobs that a search has still to ask for."""
        return self._whole() - len(self.jobs)

    def _manifest(self, job: Job) -> dict[str, Any]:
        return manifest_of(self.sweep.run_folder(job) if self.sweep else None)

    def _note_best(self, job: Job, manifest: dict[str, Any]) -> None:
        value, metric = _watched(manifest)
        if value is None or job.status != "finished":
            return
        sign = -1 if manifest.get("mode") == "min" else 1
        best = self.best.get(job.model)
        if best is None or sign * value > sign * best[0]:
            words = " ".join(w for w in self.words(job).split() if w != f"model={job.model}")
            self.best[job.model] = (value, metric, words)


def _watched(manifest: dict[str, Any]) -> tuple[float | None, str]:
    """The validation metric that a run was watched by: what a choice between jobs may look at."""
    metric = manifest.get("monitor") or ""
    return (manifest.get("metrics") or {}).get(f"validation/{metric}"), f"validation {metric}"


def clock(seconds: float) -> str:
    """8 s, 2:05 min, 1:30:00 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"
