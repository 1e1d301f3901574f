"""Groups (runs that differ only in their seed), blocks (groups that may stand in one column), and their names.

A choice among the groups of a block is made on validation, never on test, which is there to be reported.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from marquee.compare.protocol import configuration, fold_and_draw
from marquee.config.fingerprint import canonical
from marquee.metrics.direction import direction
from marquee.runs.listing import brief_value, flat
from marquee.runs.record import Run


@dataclass
class Group:
    """One configuration: its finished runs, one for each seed, draw of the split and fold, in this order."""

    runs: list[Run]
    label: str = ""
    differing: dict[str, Any] = field(default_factory=dict)  # the keys of the label in full

    @property
    def manifest(self) -> dict[str, Any]:
        return self.runs[0].manifest

    @property
    def model(self) -> str:
        return self.manifest.get("model") or "model"

    @property
    def seeds(self) -> list[int]:
        """Each seed once, in the order of the runs."""
        return list(dict.fromkeys(run.manifest["seed"] for run in self.runs))

    @property
    def draws(self) -> list[int]:
        """The seed of each draw of the split once; empty where the split draws nothing."""
        draws = dict.fromkeys(fold_and_draw(run.manifest)[1] for run in self.runs)
        return sorted(draw for draw in draws if draw is not None)

    def values(self, metric: str) -> list[float]:
        """`test/ndcg@10` of each repetition that has it; see `repetitions`."""
        return list(self.repetitions(metric).values())

    def repetitions(self, metric: str) -> dict[str, float]:
        """{"seed 1": 0.31, ...}: `test/ndcg@10` of each seed or, of several draws of the split, of each draw.

        A draw counts once, with the mean over its seeds: seeds of one draw share its test part, and are no further
        draws. Of several folds the mean, in which a fold counts with the number of units that it tests.
        """
        several = len(self.draws) > 1
        found: dict[str, dict[int, list[tuple[float, int]]]] = {}
        for run in self.runs:
            if (value := run.manifest["metrics"].get(metric)) is not None:
                seed = run.manifest["seed"]
                name = f"draw {fold_and_draw(run.manifest)[1]}" if several else f"seed {seed}"
                folds = found.setdefault(name, {}).setdefault(seed, [])
                folds.append((value, run.manifest.get("n_units") or 1))
        return {name: fmean(map(_over_folds, of_seeds.values())) for name, of_seeds in found.items()}


def _over_folds(folds: Sequence[tuple[float, int]]) -> float:
    """The mean of (value, units), each with the weight of its units."""
    return folds[0][0] if len(folds) == 1 else sum(v * n for v, n in folds) / sum(n for _, n in folds)


@dataclass
class Block:
    """Groups of one protocol. `differs` says in words what tells it from the most similar block before it."""

    groups: list[Group]
    like: int | None = None  # the number of that block, from 1
    differs: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> dict[str, Any]:
        return self.groups[0].manifest

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def draws(self) -> list[int]:
        """The seeds of the draws of the split, of all groups."""
        return sorted({draw for group in self.groups for draw in group.draws})

    @property
    def monitor(self) -> str:
        """The metric that most of the runs were watched by."""
        return Counter(run.manifest["monitor"] for run in self.runs).most_common(1)[0][0]

    def metrics(self) -> list[str]:
        """All test metrics that any of the runs has."""
        names = dict.fromkeys(name for run in self.runs for name in run.manifest["metrics"])
        return [name.removeprefix("test/") for name in names if name.startswith("test/")]

    def direction(self, metric: str) -> str | None:
        """`max`, `min`, or None for a metric of which neither is better, or of which no run says what is."""
        for run in self.runs:
            if run.manifest["monitor"] == metric and run.manifest.get("mode"):
                return run.manifest["mode"]
        own = ((run.manifest.get("task") or {}).get("directions") or {} for run in self.runs)
        return direction(metric, next((said for said in own if said), None))


# Chosen on validation -------------------------------------------------------------------------------------------------


def validation_mean(group: Group, metric: str) -> float | None:
    """The mean over seeds of a group's validation metric; None where it was not recorded."""
    values = group.values(f"validation/{metric}")
    return fmean(values) if values else None


def best_on_validation(groups: Sequence[Group], metric: str, direction: str | None) -> Group | None:
    """The group with the best mean; of equals the first. None where no group has the metric."""
    scored = [(score, group) for group in groups if (score := validation_mean(group, metric)) is not None]
    if not scored:
        return None
    pick = min if direction == "min" else max
    return pick(scored, key=lambda pair: pair[0])[1]


def one_for_each_model(block: Block) -> tuple[Block, list[str]]:
    """The block reduced to the best configuration of each model, and notes on what was chosen from what.

    Where validation results are missing, nothing can be chosen and all of a model's configurations stay.
    """
    chosen, notes = [], []
    for model in dict.fromkeys(group.model for group in block.groups):
        members = [group for group in block.groups if group.model == model]
        best = best_on_validation(members, block.monitor, block.direction(block.monitor))
        if best is None or len(members) == 1:
            chosen += members
        else:
            chosen.append(best)
            settings = best.label.removeprefix(model).strip()
            notes.append(f"{model}: {settings}, best on validation/{block.monitor} of {len(members)} configurations.")
    reduced = Block([Group(group.runs) for group in chosen], block.like, block.differs)
    name_groups(reduced)
    return reduced, notes


# Names ----------------------------------------------------------------------------------------------------------------


def name_groups(block: Block) -> None:
    """Set `label` and `differing` of each group: its model, and the keys that tell it from others of that model."""
    configs = [configuration(group.manifest) for group in block.groups]
    words, differing = labels([group.model for group in block.groups], configs)
    for group, word, keys in zip(block.groups, words, differing, strict=True):
        group.label, group.differing = word, keys


def labels(models: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """A label for each configuration ("mf/bpr l2=0.01"), and the keys in it in full ({"model.l2": 0.01}).

    Two configurations of one model are told apart by the keys that differ between configurations of the same class,
    so that `optimizer=SGD` beside `optimizer=Adam` does not bring along every setting that only one of them has.
    """
    differing: list[dict[str, Any]] = [{} for _ in configs]
    flats = [{key: value for key, value in flat(config).items() if value != {}} for config in configs]
    for model in dict.fromkeys(models):
        members = [index for index, name in enumerate(models) if name == model]
        for key in dict.fromkeys(key for index in members for key in flats[index]):
            peers: dict[Any, list[int]] = {}
            for index in members:
                peers.setdefault(_classes(flats[index], key), []).append(index)
            for same in peers.values():
                if len({canonical(flats[index].get(key)) for index in same}) > 1:
                    for index in same:
                        differing[index][key] = flats[index].get(key)
    short = _short_names(dict.fromkeys(key for keys in differing for key in keys))
    words = [
        " ".join([model, *(f"{short[key]}={_value(key, value)}" for key, value in keys.items())])
        for model, keys in zip(models, differing, strict=True)
    ]
    return words, differing


def _classes(content: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    """The classes of the nodes that a key lies in, from the outermost."""
    nodes = key.removesuffix("._target_").split(".")[:-1]
    return tuple(content.get(".".join([*nodes[: depth + 1], "_target_"])) for depth in range(len(nodes)))


def _short_names(keys: Any) -> dict[str, str]:
    """The last words of each key, as few as tell it from the others; `_target_` is named by its node."""
    names = {key: key.removesuffix("._target_").split(".") for key in keys}
    short = {}
    for key, parts in names.items():
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if all(other == key or parts_[-count:] != end for other, parts_ in names.items()):
                break
        short[key] = ".".join(end)
    return short


def _value(key: str, value: Any) -> str:
    if key.endswith("_target_") and isinstance(value, str):
        return value.rpartition(".")[2]
    return "none" if value is None else brief_value(value).replace(" ", "")
