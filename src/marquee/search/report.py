"""What a search found, printed: per study the best trial on validation, or the Pareto front, as commands to paste."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marquee.config.compose import typed
from marquee.runs import terminal
from marquee.runs.listing import number
from marquee.runs.terminal import folded
from marquee.search.study import Plan, Study

# Words that say where a run lies and who watches, and not what it is.
_LEFT_OUT = ("paths", "tracker", "tags", "name", "sweep")


def print_studies(studies: Sequence[Study], folder: Path) -> None:
    """All studies of a search, one after the other."""
    for study in studies:
        print("\n" + "\n".join(folded(line, "      ") for line in lines(study)))
    if any(len(study.plan.objectives) == 1 and complete(study) for study in studies):
        print(f"\nnext:\n  marquee compare {shlex.quote(str(folder))} --by model\n"
              f"  marquee best {shlex.quote(str(folder))} --save experiment/NAME")  # fmt: skip


def lines(study: Study) -> list[str]:
    plan, trials = study.plan, study.trials()
    counts = Counter(trial.state.name for trial in trials)
    told = [f"{counts['COMPLETE']} complete"]
    told += [f"{counts[state]} {word}" for state, word in (("PRUNED", "pruned"), ("FAIL", "failed")) if counts[state]]
    if elsewhere := study.elsewhere():
        told.append(f"{elsewhere} running elsewhere")
    head = f"{' '.join(plan.choices)}: {len(trials)} trials, {', '.join(told)}"
    if not complete(study):
        return [head, "  no trial is complete; see the logs of the jobs"]
    result = [head]
    several = len(plan.objectives) > 1
    best = sorted(study.optuna.best_trials, key=lambda trial: trial.values) if several else [study.optuna.best_trial]
    if several:
        result.append(f"  Pareto front, {len(best)} of {counts['COMPLETE']} (on validation; test was not looked at):")
    for trial in best:
        pairs = zip(plan.objectives, trial.values, strict=True)
        values = ", ".join(f"{objective.name} {number(value)}" for objective, value in pairs)
        seeds = f" (mean of seeds {', '.join(map(str, plan.seeds))})" if len(plan.seeds) > 1 else ""
        best_of = "" if several else "best on validation: "
        result.append(f"  {best_of}{values}{seeds} in trial {trial.number}: {' '.join(parameters(plan, trial.params))}")
        result.append(f"    {command(plan, trial.params)}")
    return result


def complete(study: Study) -> bool:
    return any(trial.state.name == "COMPLETE" for trial in study.trials())


def parameters(plan: Plan, values: dict[str, Any]) -> list[str]:
    return [plan.space[key].word(value) for key, value in values.items()]


def command(plan: Plan, values: dict[str, Any]) -> str:
    """What trains a trial's configuration again, with all its seeds."""
    words = [word for word in typed(plan.words) if word.lstrip("+~").split("=")[0].split(".")[0] not in _LEFT_OUT]
    seeds = ",".join(map(str, plan.seeds))
    several = ["-m"] if len(plan.seeds) > 1 else []
    return terminal.command(["marquee", "train", *several, *words, *parameters(plan, values), f"seed={seeds}"])
