"""What a recipe's sweep found: its finished runs, their numbers, cost and machine, and what the recipe does not say."""

import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.runs.record import MANIFEST, Run
from marquee.sweeps.store import RECORD, Job, Sweep
from replications.changes import changes
from replications.recipes import GROUP, Figure, Measured, Recipe, cells, jobs_word

# Words that say where, how fast and before whose eyes jobs run, and nothing of what is measured. Precision is among
# them, as trainer=gpu sets it, and is told where it is not the recipe's.
MACHINE_KEYS = (
    "threads", "plots", "tags", "task.evaluation_batch_size", "trainer.accelerator", "trainer.devices",
    "trainer.strategy", "trainer.precision", "trainer.deterministic", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip
MACHINE_WORDS = re.compile(
    r"\+{0,2}(hydra\.launcher\b.*|hydra/launcher=.*|tracker(\.[\w.]+)?=.*|paths\.\w+=.*|trainer=(default|auto|gpu|ddp)|"
    rf"({'|'.join(map(re.escape, MACHINE_KEYS))})=.*)"
)
ALLOWED = "hydra.launcher..., tracker, paths.*, trainer=gpu or auto, " + ", ".join(MACHINE_KEYS)


def sweep_name(recipe: Recipe) -> str:
    return f"{GROUP}_{recipe.name}"


def refuse_other_experiments(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise ConfigError for a word that would make another experiment of a row."""
    for word in overrides:
        if MACHINE_WORDS.fullmatch(word):
            continue
        key, _, value = word.partition("=")
        if key == "seed":
            raise ConfigError(f"{word}: a row's seeds are chosen with --seeds {value}")
        rest = [other for other in overrides if MACHINE_WORDS.fullmatch(other)]
        typed = shlex.join(["marquee", "train", f"experiment={GROUP}/{names[0]}", word, *rest])
        raise ConfigError(
            f"{word} would make another experiment of {names[0]}, and its number would stand under that name.\n"
            f"  allowed: {ALLOWED}\n  fix: {typed}"
        )


def refuse_unknown_metrics(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a metric of the head that the recipe's runs will not have, where their task knows."""
    from marquee.config.targets import closest, resolve

    try:
        known = resolve(config["task"]["_target_"]).metrics_of(config["task"])
    except (ConfigError, TypeError, ValueError):  # a mistake in the recipe, which the check of its run explains
        return
    for metric in recipe.metrics(""):
        if metric and known and metric not in known:
            near = closest(metric, known)
            meant = f" Did you mean {near}?" if near else ""
            raise ConfigError(f"{recipe.file}: its runs will have no {metric}.{meant}\n"
                              f"  they will have: {', '.join(known)}")  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The finished runs of a recipe's jobs, in the order of the jobs; `cells` are the jobs' own words."""

    recipe: Recipe
    cells: tuple[tuple[str, ...], ...]
    runs: tuple[Run, ...]

    @property
    def manifest(self) -> dict[str, Any]:
        return self.runs[0].manifest

    @property
    def metrics(self) -> list[str]:
        return self.recipe.metrics(self.manifest["monitor"])

    def figure(self, metric: str, baseline: str | None = None) -> Figure:
        """A test metric over the jobs, or that of a baseline on the same splits: mean and standard deviation.

        Raises ConfigError for a metric that runs do not have.
        """
        found = [
            run.manifest["metrics"].get(f"test/{metric}")
            if baseline is None
            else run.manifest["baselines"].get(baseline, {}).get(metric)
            for run in self.runs
        ]
        values = [value for value in found if value is not None]
        if len(values) < len(self.runs):
            known = sorted(
                name[5:]
                for name, value in self.manifest["metrics"].items()
                if name.startswith("test/") and value is not None
            )
            raise ConfigError(f"{self.recipe.file}: runs of it have no {metric}.\n  they have: {', '.join(known)}")
        spread = round(statistics.stdev(values), 4) if len(values) > 1 else None
        return Figure(metric, round(statistics.fmean(values), 4), spread)

    @cached_property
    def measured(self) -> Measured:
        """What the recipe's `Ours` is to say."""
        figures = tuple(self.figure(metric) for metric in self.metrics)
        return Measured(figures, len(self.runs), self.versions, self.machine)

    @property
    def versions(self) -> dict[str, str]:
        each = [versions_of(run.manifest) for run in self.runs]
        return {name: _joined(versions[name] for versions in each if name in versions) for name in each[0]}

    @property
    def machine(self) -> str:
        """The models of processors or cards as the runs know them, with a precision that is not the recipe's."""
        where = [run.manifest.get("environment") or {} for run in self.runs]
        key = "gpu" if on_card(self.runs[0]) else "cpu"
        name = _joined(place.get(key) or "not recorded" for place in where)
        precise = [change for change in self.differences[1] if change.startswith("trainer.precision=")]
        return " with ".join([name, *(change.partition(", not")[0] for change in precise)])

    @property
    def minutes(self) -> str:
        """`0.5 on 2 cores (CPU time)`, or `1.4 on one NVIDIA H100`: training and validation of all jobs together."""
        cores = int((self.manifest.get("environment") or {}).get("cores") or 1)
        if on_card(self.runs[0]):
            place, remarks = f"one {self.machine.partition(' with ')[0]}", []
        else:
            place, remarks = f"{cores} core{'' if cores == 1 else 's'}", ["CPU time"]
        remarks += self._untimed
        return f"{self._minutes} on {place}" + (f" ({'; '.join(remarks)})" if remarks else "")

    @property
    def spent(self) -> str:
        """`0.5 CPU minutes on AMD EPYC`."""
        unit = "minutes" if on_card(self.runs[0]) else "CPU minutes"
        return ", ".join([f"{self._minutes} {unit} on {self.machine}", *self._untimed])

    @property
    def _untimed(self) -> list[str]:
        count = len(self.runs) - len(self._timed)
        return [f"without {count} of {jobs_word(len(self.runs))}, resumed"] if count else []

    @property
    def _timed(self) -> list[dict[str, Any]]:
        """The manifests of runs that were trained in one go; of others nobody knows how long it took."""
        return [run.manifest for run in self.runs if not run.manifest.get("resumed")]

    @property
    def _minutes(self) -> str:
        if on_card(self.runs[0]):
            return minutes(sum(manifest["durations"]["fit"] for manifest in self._timed))
        return minutes(sum(manifest["cost"].get("fit_cpu_s") or 0.0 for manifest in self._timed))

    @cached_property
    def differences(self) -> tuple[list[str], list[str]]:
        """What runs were trained with, and the recipe as it is now does not say: of the experiment, of the machine."""
        said = composed(self.recipe, self.cells)
        found = {change for run, config in zip(self.runs, said) for change in changes(run, config)}
        machine = {change for change in found if change.partition("=")[0] in MACHINE_KEYS}
        return sorted(found - machine), sorted(machine)


def composed(recipe: Recipe, jobs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The configurations of jobs as the recipe is now."""
    from marquee.config.compose import compose_all

    return [job.config for job in compose_all([[f"experiment={GROUP}/{recipe.name}", *job] for job in jobs])]


def minutes(seconds: float) -> str:
    value = seconds / 60
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{max(value, 0.01):.2f}"


def versions_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The versions that a number depends on, by the names in `recipes.PACKAGES`."""
    packages = (manifest.get("environment") or {}).get("packages") or {}
    data = (manifest.get("data") or {}).get("fingerprint") or ""
    return _told(packages, (manifest.get("code") or {}).get("version"), data)


def versions_here() -> dict[str, str]:
    """Those of this installation; what the data is, is known when it has been read."""
    import marquee
    from marquee.runs.environment import environment

    return _told(environment()["packages"], marquee.__version__, "")


def _told(packages: Mapping[str, str], marquee: str | None, data: str) -> dict[str, str]:
    found = {name: packages.get(name, "").partition("+")[0] for name in ("torch", "numpy")}  # +cpu is a build of it
    return {name: version for name, version in {**found, "marquee": marquee, "data": data[:8]}.items() if version}


def other_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """`torch 2.13.0, here 2.12.0` of each version that both know and that differs."""
    return [f"{name} {before[name]}, here {now[name]}" for name in before if name in now and before[name] != now[name]]


def _joined(words: Any) -> str:
    return " and ".join(sorted(set(words)))


# Finding the runs ----------------------------------------------------------------------------------------------------


def evidence(recipe: Recipe, output: Path, words: Sequence[str], jobs: Sequence[Job] | None = None) -> Evidence | None:
    """The finished runs of a recipe's jobs below `output`, of its sweep or typed one by one; None where there is none.

    words  of the jobs, `seed=1,2,3`
    jobs   those of its sweep that alone count. By default, of runs that differ in the machine, the newest are taken:
           those on a card, or those on the processor, whichever are whole; rather those that are as the recipe is now

    Raises ConfigError where jobs are not finished, with what to type.
    """
    folder = output / "sweeps" / sweep_name(recipe)
    sweep = Sweep.open(folder) if (folder / RECORD).is_file() else None
    wanted = [frozenset({f"experiment={GROUP}/{recipe.name}", *cell}) for cell in cells(words)]
    grid = frozenset().union(*wanted)
    found: dict[frozenset[str], dict[Path, Run]] = {}

    def add(typed: Sequence[str], run: Run) -> None:
        own = (word for word in typed if not word.startswith("sweep="))
        key = frozenset(word for word in own if word in grid or not MACHINE_WORDS.fullmatch(word))
        found.setdefault(key, {})[run.folder] = run

    for job in (sweep.jobs if jobs is None else jobs) if sweep else ():
        place = sweep.run_folder(job)
        if sweep.status(job) == "finished" and place is not None and (place / MANIFEST).is_file():
            add(job.overrides, Run.open(place))
    for run in _typed(output, recipe.name) if jobs is None else ():
        add(run.manifest["overrides"], run)
    of_jobs = [list(found.get(key, {}).values()) for key in wanted]
    if sweep is None and not any(of_jobs):
        return None
    now, whole = composed(recipe, cells(words)), []
    for card in (False, True):
        of_kind = [[run for run in runs if on_card(run) == card] for runs in of_jobs]
        if all(of_kind):
            whole.append(tuple(_newest(runs, config) for runs, config in zip(of_kind, now)))
    if not whole:
        missing = [" ".join(cell) for cell, runs in zip(cells(words), of_jobs) if not runs]
        what = (
            f"are not finished in {output}: {', '.join(missing)}" if missing else "have not run on one kind of machine"
        )
        raise ConfigError(
            f"{recipe.name}: {len(missing) or 'some'} of {jobs_word(len(wanted))} {what}.\n"
            f"  fix: python scripts/replicate.py {recipe.name}"
        )
    return Evidence(recipe, tuple(cells(words)), max(whole, key=lambda runs: max(map(_started, runs))))


def _newest(runs: Sequence[Run], config: Mapping[str, Any]) -> Run:
    """The newest of those that were trained as a configuration says, else of all."""
    as_now = [run for run in runs if all(change.partition("=")[0] in MACHINE_KEYS for change in changes(run, config))]
    return max(as_now or runs, key=_started)


def _started(run: Run) -> str:
    return run.manifest["started"]


def _typed(output: Path, name: str) -> list[Run]:
    """The finished runs below `output` that a command with the recipe's name made, in a sweep or by itself."""
    found = []
    for run in _of_recipes(output):
        if run.manifest["status"] == "finished" and f"experiment={GROUP}/{name}" in run.manifest["overrides"]:
            found.append(run)
    return found


@cache
def _of_recipes(output: Path) -> list[Run]:
    """The runs of all recipes; of others only the text is looked at, as there may be thousands."""
    found = []
    for file in sorted((output / "runs").glob(f"*/{MANIFEST}")):
        if f'"experiment={GROUP}/' in file.read_text("utf-8", "replace"):
            with suppress(ConfigError):  # a record that cannot be read is no evidence
                found.append(Run.open(file.parent))
    return found


def on_card(run: Run) -> bool:
    return "peak_gpu_memory_mb" in (run.manifest.get("cost") or {})
