"""One Optuna study: where it is kept, what proposes, what prunes, what it was made with, and which trials are left."""

import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.search.objectives import Objective
from marquee.search.space import Range
from marquee.seeding import derive


def import_optuna() -> Any:
    """Optuna without its chatter. Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            "hydra/sweeper=optuna needs the package optuna, which is not installed.\n"
            "  fix: pip install 'marquee[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(url: str) -> Any:
    """An Optuna storage: a URL of SQLAlchemy's, or journal:FILE. Raises ConfigError where it cannot be opened."""
    optuna = import_optuna()
    kind, _, path = url.partition(":")
    try:
        if kind == "journal":
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

            # Locked by making a file, which also works on network file systems that know no links.
            return optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        return _data_base(url)
    except ModuleNotFoundError as error:
        package = {"psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"}.get(str(error.name), error.name)
        raise ConfigError(
            f"hydra.sweeper.storage={url} needs the package {error.name} (pip install {package})."
        ) from error
    except Exception as error:  # whatever the data base's driver raises
        raise ConfigError(
            f"hydra.sweeper.storage={url} cannot be opened: {str(error).splitlines()[0]}\n"
            "  allowed: null (a file in the sweep's folder), sqlite:///FILE, postgresql://..., journal:FILE"
        ) from error


def storage_errors() -> tuple[type[Exception], ...]:
    """What a storage raises that does not answer."""
    import_optuna()
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, StorageInternalError


def _data_base(url: str) -> Any:
    """A data base of SQLAlchemy's; a connection that broke while jobs ran is made anew.

    Of two processes that make the tables of an empty one at the same moment one is refused: it finds them then.
    """
    import_optuna()
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for patience in (0.5, 1.0, 2.0, None):
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if patience is None or "exist" not in str(error):
                raise
            time.sleep(patience)


def sampler_of(name: str, seed: int) -> Any:
    """Raises ConfigError where a sampler needs a package that is not installed."""
    optuna = import_optuna()
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    if name == "cmaes":
        from importlib.util import find_spec

        if find_spec("cmaes") is None:
            raise ConfigError("hydra.sweeper.sampler=cmaes needs the package cmaes.\n  fix: pip install cmaes")
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's trials are given, not drawn


def pruner_of(name: str, max_epochs: int | None) -> Any:
    """Epochs, counted from 1, are the resource; the median does not judge the first fifth of them."""
    optuna = import_optuna()
    epochs = max_epochs if max_epochs and max_epochs > 0 else None
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 5 + 1 if epochs else 0)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs or "auto", reduction_factor=3)
    return optuna.pruners.NopPruner()


@dataclass(frozen=True)
class Plan:
    """What a study is made of.

    name         in the storage
    words        the overrides that all its trials have
    choices      those of them that tell this study from the others of the command
    fingerprint  of the configuration that they compose, without seed
    seeds        of the runs of each trial
    """

    name: str
    words: tuple[str, ...]
    choices: tuple[str, ...]
    fingerprint: str
    seeds: tuple[int, ...]
    space: Mapping[str, Range]
    objectives: tuple[Objective, ...]
    max_epochs: int | None

    def record(self) -> dict[str, Any]:
        """What must not change while the study goes on."""
        return {
            "configuration": self.fingerprint,
            "seeds": list(self.seeds),
            "space": {key: entry.plain() for key, entry in self.space.items()},
            "objectives": [f"{objective.direction} {objective.name}" for objective in self.objectives],
        }


class Study:
    """An Optuna study with the plan that it was made with.

    `owner` is the identity of the sweep's folder: a trial that is running and has it was left by a process that died,
    because one process at a time works on a folder. A `shared` storage holds the trials of other folders, too.
    """

    def __init__(
        self, plan: Plan, storage: Any, owner: str, *, sampler: str = "tpe", seed: int = 1, pruner: str = "none",
        shared: bool = False,
    ):  # fmt: skip
        optuna = import_optuna()
        self.plan, self.owner, self.sampler, self.seed, self.shared = plan, owner, sampler, seed, shared
        self.optuna = optuna.create_study(
            storage=storage, study_name=plan.name, load_if_exists=True, pruner=pruner_of(pruner, plan.max_epochs),
            directions=[objective.direction for objective in plan.objectives],
        )  # fmt: skip
        self._refuse_other_settings()

    def _refuse_other_settings(self) -> None:
        made, now = self.optuna.user_attrs.get("marquee"), self.plan.record()
        if made is None:
            self.optuna.set_user_attr("marquee", now)
            self.optuna.set_user_attr("words", list(self.plan.words))
            return
        different = [key for key in now if made.get(key) != now[key]]
        if not different:
            return
        lines = [f"The study {self.plan.name} was made with other settings; its trials and new ones do not compare."]
        for key in different:
            if key == "space":
                for name in dict.fromkeys([*made[key], *now[key]]):
                    then, today = made[key].get(name), now[key].get(name)
                    if then != today:
                        lines.append(f"  {name}: then {then or 'not searched'}, now {today or 'not searched'}")
            elif key == "configuration":
                then, today = (" ".join(words) for words in (self.optuna.user_attrs["words"], self.plan.words))
                same = "the same words, but the defaults in conf/ have changed since"
                lines.append(f"  configuration: {same if then == today else f'then {then!r}, now {today!r}'}")
            else:
                lines.append(f"  {key}: then {made[key]}, now {now[key]}")
        lines.append("  fix: give this search another name, sweep=NAME, or type what the study was made with")
        raise ConfigError("\n".join(lines))

    # Trials ----------------------------------------------------------------------------------------------------------

    def trials(self) -> list[Any]:
        """All but those that were one too many (`ask`)."""
        return [trial for trial in self.optuna.get_trials(deepcopy=False) if not trial.user_attrs.get("surplus")]

    def left_behind(self) -> list[Any]:
        """The running trials of a process that died: to be run again, with the parameters that they have."""
        return [trial for trial in self._running() if self._is_mine(trial)]

    def _is_mine(self, trial: Any) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner is None and self.shared:  # another folder may be about to write its name
            return (datetime.now() - trial.datetime_start).total_seconds() > 60
        return owner in (None, self.owner)

    def elsewhere(self) -> int:
        """The number of trials that other folders run, on this or another machine."""
        return len(self._running()) - len(self.left_behind())

    def _running(self) -> list[Any]:
        return [trial for trial in self.trials() if trial.state.name == "RUNNING"]

    def asked(self) -> int:
        """The number of trials that count towards the total."""
        return sum(trial.state.name != "WAITING" for trial in self.trials())

    def total(self, n_trials: int) -> int:
        """The trials that the study is to have: `n_trials`, of a grid at most its points."""
        if self.sampler != "grid":
            return n_trials
        count = 1
        for entry in self.plan.space.values():
            count *= len(entry.all() or ())
        return min(n_trials, count)

    def ask(self, n_trials: int | None = None) -> tuple[int, dict[str, Any]] | None:
        """A new trial of `n_trials`: its number and parameters; None where others have just asked for the last ones.

        The sampler is made anew for each trial, from (seed, study, number): what it proposes depends on the trials that
        are finished, never on how often the search was interrupted.
        """
        trial_of = import_optuna().trial.Trial
        number = self.asked()
        self._reseed(number)
        if self.sampler == "grid":
            known = [trial.system_attrs.get("fixed_params") or trial.params for trial in self.trials()]
            point = next((point for point in grid(self.plan.space) if point not in known), None)
            if point is not None:  # else the last one has been given, to whoever asks first
                self.optuna.enqueue_trial(point)
        trial = self.optuna.ask()
        if trial.number != number:  # another process was faster, and drew with that number
            self._reseed(trial.number)
            trial = trial_of(self.optuna, trial._trial_id)
        trial.set_user_attr("owner", self.owner)
        if n_trials is not None and self._is_surplus(trial.number, n_trials):
            trial.set_user_attr("surplus", True)
            self.tell(trial.number, None)
            return None
        return trial.number, self._parameters(trial)

    def _is_surplus(self, number: int, n_trials: int) -> bool:
        """Whether a trial is one too many: two processes that ask at the same moment both see the last one free.

        No storage has a lock that all of them know, but each numbers its trials one by one: the lower number stays.
        """
        asked = [trial for trial in self.trials() if trial.state.name != "WAITING"]
        before = [trial for trial in asked if trial.number <= number]
        own = before.pop()
        points = [trial.system_attrs.get("fixed_params") for trial in before]
        twice = self.sampler == "grid" and own.system_attrs.get("fixed_params") in points
        return twice or len(before) >= self.total(n_trials)

    def ask_again(self, frozen: Any) -> tuple[int, dict[str, Any]]:
        """A trial that was left behind: the parameters that it has, and those that it had not got yet."""
        optuna = import_optuna()
        self._reseed(frozen.number)
        trial = optuna.trial.Trial(self.optuna, frozen._trial_id)
        trial.set_user_attr("owner", self.owner)
        return trial.number, self._parameters(trial)

    def _parameters(self, trial: Any) -> dict[str, Any]:
        return {key: entry.suggest(trial) for key, entry in self.plan.space.items()}

    def _reseed(self, number: int) -> None:
        self.optuna.sampler = sampler_of(self.sampler, derive(self.seed, f"search {self.plan.name}", number) % 2**32)

    def tell(self, number: int, values: Sequence[float] | None, pruned: bool = False) -> None:
        """The result of a trial; None: it failed."""
        state = import_optuna().trial.TrialState
        if pruned:
            self.optuna.tell(number, state=state.PRUNED, skip_if_finished=True)
        elif values is None:
            self.optuna.tell(number, state=state.FAIL, skip_if_finished=True)
        else:
            self.optuna.tell(number, list(values), skip_if_finished=True)


def grid(space: Mapping[str, Range]) -> list[dict[str, Any]]:
    """Every point of a space, the last key advancing fastest. Raises ConfigError for a number without a step."""
    lists = []
    for key, entry in space.items():
        values = entry.all()
        if values is None:
            raise ConfigError(
                f"hydra.sweeper.sampler=grid: {key} ({entry.origin}) has no step, so its values cannot be listed.\n"
                f"  fix: {key}=choice(...) or {key}=range(...)"
            )
        lists.append(values)
    return [dict(zip(space, point, strict=True)) for point in product(*lists)]


def folder_owner(folder: Path) -> str:
    """A name that no other folder has, here or on another machine; made once."""
    file = folder / ".owner-of-trials"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid.uuid4().hex, encoding="utf-8")
    return file.read_text(encoding="utf-8")
