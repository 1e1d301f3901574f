"""A search: ask each study for trials, hand their jobs to the launcher, tell the results, until each has its total."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from marquee.config.compose import normalised, typed
from marquee.config.values import spelled
from marquee.errors import JobError, MarqueeError
from marquee.search.objectives import values_of
from marquee.search.planning import plan_studies
from marquee.search.report import print_studies
from marquee.search.study import Plan, Study, folder_owner, open_storage, storage_errors
from marquee.sweeps.pool import in_nursery
from marquee.sweeps.session import current
from marquee.sweeps.store import hold


@dataclass(frozen=True)
class Trial:
    """One trial of one study and the jobs that it needs, one a seed."""

    study: Study
    number: int
    parameters: Mapping[str, Any]
    jobs: list[list[str]]


def search(words: Sequence[str], settings: Mapping[str, Any], config: Any, launcher: Any) -> list[Any]:
    """Run the search of `hydra/sweeper=optuna`; what Hydra's launcher returned for each job.

    words     the overrides of the command line, hydra's own not among them
    settings  those of conf/hydra/sweeper/optuna.yaml
    Raises ConfigError before any trial where something is wrong with the command, the spaces or the stored study.
    """
    try:
        return _search(words, settings, config, launcher)
    except storage_errors() as error:
        raise JobError(
            f"hydra.sweeper.storage does not answer: {str(error).splitlines()[0]}\n"
            "What the trials have trained is kept; when the storage is back, the same command goes on."
        ) from error


def _search(words: Sequence[str], settings: Mapping[str, Any], config: Any, launcher: Any) -> list[Any]:
    folder = Path(config.hydra.sweep.dir).expanduser().resolve()
    plans = in_nursery(plan_studies, list(words), dict(settings), settings["study"] or folder.name)
    hold(folder)
    url = _absolute(settings["storage"]) or f"sqlite:///{folder / 'study.db'}"
    storage, owner = open_storage(url), folder_owner(folder)
    kind = {"sampler": settings["sampler"], "seed": settings["seed"], "pruner": settings["pruner"]}
    studies = [Study(plan, storage, owner, **kind, shared=settings["storage"] is not None) for plan in plans]
    session = current()
    session.total = sum(study.total(settings["n_trials"]) * len(study.plan.seeds) for study in studies)
    session.shared = _shared(plans)
    returns: list[Any] = []
    # After the jobs that were run before; those that were left running keep their place.
    index = sum((study.asked() - len(study.left_behind())) * len(study.plan.seeds) for study in studies)
    while batch := next_trials(studies, settings["n_trials"], _at_once(config), url, settings["pruner"]):
        jobs = [job for trial in batch for job in trial.jobs]
        found = launcher.launch(jobs, initial_job_idx=index)
        index += len(jobs)
        returns += found
        waiting = iter(found)
        results = [(trial, [next(waiting) for _ in trial.jobs]) for trial in batch]
        stop = config.hydra.launcher.get("on_failure") == "stop"
        failed = [trial for trial, ended in results if stop and not all(map(_completed, ended))]
        for trial, ended in results:
            if trial not in failed:
                tell(trial, ended)
        if failed:  # whoever wants to stop will mend what failed; the same command then runs these trials again
            print("on_failure=stop: no further trial is asked for", file=sys.stderr)
            break
    print_studies(studies, folder)
    return returns


def _shared(plans: Sequence[Plan]) -> list[str]:
    """The words that every job of every plan has, hence tell none from another."""
    words = [{*plan.words, *(f"seed={seed}" for seed in plan.seeds if len(plan.seeds) == 1)} for plan in plans]
    return typed(sorted(set.intersection(*words)))


def next_trials(studies: Sequence[Study], n_trials: int, at_once: int, url: str, pruner: str) -> list[Trial]:
    """The trials to run next: those that a dead process left, then new ones, the study with the fewest first.

    So the studies advance together and have equal budgets whenever one looks.
    """
    batch = [_trial(study, study.ask_again(frozen), url, pruner) for study in studies for frozen in study.left_behind()]
    while sum(len(trial.jobs) for trial in batch) < at_once:
        waiting = [study for study in studies if study.asked() < study.total(n_trials)]
        if not waiting:
            break
        study = min(waiting, key=lambda study: study.asked())
        asked = study.ask(n_trials)
        if asked is not None:
            batch.append(_trial(study, asked, url, pruner))
    return batch


def _trial(study: Study, asked: tuple[int, dict[str, Any]], url: str, pruner: str) -> Trial:
    number, parameters = asked
    words = [study.plan.space[key].word(value) for key, value in parameters.items()]
    if pruner != "none":
        node = {"_target_": "marquee.search.pruning.Pruning", "storage": url, "study": study.plan.name,
                "trial": number, "pruner": pruner}  # fmt: skip
        words.append(f"callbacks.pruning={spelled(node)}")
    jobs = [[*study.plan.words, *normalised([*words, f"seed={seed}"])] for seed in study.plan.seeds]
    return Trial(study, number, parameters, jobs)


def tell(trial: Trial, returns: Sequence[Any]) -> None:
    """The mean over the seeds of each objective; a trial with a run that failed has failed."""
    objectives = trial.study.plan.objectives
    values: list[list[float]] = []
    for found in returns:
        if not _completed(found):
            trial.study.tell(trial.number, None)
            return
        manifest = Path(found.working_dir or "") / "manifest.json"
        try:
            if manifest.is_file():
                if _status(manifest) == "pruned":
                    trial.study.tell(trial.number, None, pruned=True)
                    return
                values.append(values_of(manifest.parent, objectives))
            else:
                values.append([float(found.return_value)])
        except (MarqueeError, OSError, TypeError, ValueError) as error:
            print(f"trial {trial.number} of {trial.study.plan.name}: {error}", file=sys.stderr)
            trial.study.tell(trial.number, None)
            return
    trial.study.tell(trial.number, [fmean(column) for column in zip(*values, strict=True)])


def _completed(found: Any) -> bool:
    return found.status is not None and found.status.name == "COMPLETED"


def _status(manifest: Path) -> str:
    from marquee.runs.record import read_manifest

    return read_manifest(manifest.parent)["status"]


def _absolute(url: str | None) -> str | None:
    """A file of the working folder as one that a job finds from anywhere."""
    for prefix in ("sqlite:///", "journal:"):
        if url and url.startswith(prefix):
            file = Path(url.removeprefix(prefix)).expanduser().resolve()
            file.parent.mkdir(parents=True, exist_ok=True)
            return f"{prefix}{file}"
    return url


def _at_once(config: Any) -> int:
    """As many jobs as the launcher runs at the same time."""
    n_jobs = config.hydra.launcher.get("n_jobs")
    return n_jobs if isinstance(n_jobs, int) and n_jobs > 0 else 1
