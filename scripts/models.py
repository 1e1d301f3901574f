"""Write docs/models.md: every recommender with its paper, what it can do, what it costs and how well it does.

    python scripts/models.py SCORES [--ratings SWEEP] [--cost SWEEP [SWEEP ...]] [--add] [--output docs/models.md]

What a model can do is asked of its class, its paper stands in the first line of its YAML, and all figures are read from
the manifests of finished runs:

SCORES      a sweep of the models on one data set and split (see docs/results.md); mean over its seeds
--ratings   a sweep with task=rating over folds; mean over them
--cost      sweeps of one epoch each without validation (split.validation=0 trainer.max_epochs=1)

--add       the page stays as it is but for the rows of the models in SCORES, which are written anew

A model without a run has an empty cell. The page says by which protocols the sweeps were measured.
"""

import argparse
import math
import re
import shlex
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from marquee.runs.record import Run

REPOSITORY = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    """What is known of a model without running it."""

    name: str
    paper: str
    view: str
    unseen: bool
    features: str
    values: bool


def models() -> list[Row]:
    """All recommenders that ship, by family and name."""
    from marquee.config.compose import compose
    from marquee.config.fitting import option_class
    from marquee.config.folders import file_of_option, options
    from marquee.models.base import RatingModel, Recommender

    rows = []
    for name in options("model"):
        kind = option_class("model", name)
        if not issubclass(kind, Recommender):
            continue
        config = compose(["data=world_ratings", f"model={name}"]).config["model"]
        said = file_of_option("model", name).read_text(encoding="utf-8").splitlines()[0]
        paper = re.match(r"# ([^:(]*\([^)]*\d{4}[^)]*\))", said)
        rows.append(Row(
            name, paper[1] if paper else "", config["view"]["_target_"].rpartition(".")[2], kind.scores_unseen_users,
            features_of(kind, config), issubclass(kind, RatingModel),
        ))  # fmt: skip
    return rows


def features_of(kind: type, config: dict[str, Any]) -> str:
    """How a model takes side features: always, by an option of its own, or not."""
    import torch

    from marquee.config.build import build
    from marquee.data.spec import Feature, InteractionSpec
    from marquee.models.features import FeatureVectors

    if "features" in config:
        return "`model.features=true`"
    columns = (Feature("genres", "multi_hot", 3),)
    spec = InteractionSpec(300, 200, True, True, columns, columns)
    with torch.random.fork_rng(devices=[]):
        model = build(config, spec)
    return "yes" if any(isinstance(part, FeatureVectors) for part in model.modules()) else ""


def by_model(sweeps: list[Path]) -> "dict[str, list[Run]]":
    """The finished runs of some sweeps by the name of the model's option: linear/ease."""
    from marquee.compare.collect import collect

    found = defaultdict(list)
    if sweeps:
        for block in collect(sweeps)[0]:
            for run in (run for group in block.groups for run in group.runs):
                found[run.manifest["model"]].append(run)
    return found


def mean(runs: "list[Run]", metric: str) -> str:
    """`.3301 ± .0012`, the mean and, of several runs, their standard deviation."""
    values = [run.manifest["metrics"][metric] for run in runs if metric in run.manifest["metrics"]]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def seconds_an_epoch(runs: "list[Run]") -> str:
    spent = [
        run.manifest["cost"]["fit_cpu_s"] / run.manifest["epochs"]
        for run in runs
        if run.manifest["cost"].get("fit_cpu_s")
    ]
    return f"{statistics.median(spent):.1f}" if spent else ""


def thousands(runs: "list[Run]") -> str:
    """How many numbers the trained model holds; of closed forms, too, which have no parameters."""
    from safetensors import safe_open

    if not runs:
        return ""
    with safe_open(runs[0].folder / "inference" / "model.safetensors", "numpy") as content:
        parts = [content.get_slice(name) for name in content.keys()]  # noqa: SIM118  (no mapping)
    return f"{sum(math.prod(part.get_shape()) for part in parts) / 1000:,.0f}"


def told(sweep: "dict[str, list[Run]]", what: str) -> list[str]:
    """What sweeps measured: protocols, seeds or folds, machine."""
    from marquee.compare.protocol import describe, protocol_key

    manifests = [run.manifest for runs in sweep.values() for run in runs]
    if not manifests:
        return []
    seeds = sorted({manifest["seed"] for manifest in manifests})
    folds = sorted({manifest["split"]["fold"] for manifest in manifests if manifest["split"].get("fold") is not None})
    machines = sorted({cpu for manifest in manifests if (cpu := (manifest.get("environment") or {}).get("cpu"))})
    threads = sorted({str(n) for manifest in manifests if (n := (manifest.get("environment") or {}).get("threads"))})
    words = [f"seeds {', '.join(map(str, seeds))}"] + [f"folds {', '.join(map(str, folds))}"] * bool(folds)
    words += [*machines, f"threads: {', '.join(threads)}"]
    protocols = {protocol_key(manifest): describe(manifest) for manifest in manifests}
    return [f"**{what}**: {'; or '.join(protocols.values())}; {'; '.join(words)}.", ""]


def page(rows: list[Row], scores, ratings, cost) -> str:
    """The whole page, Markdown."""
    head = "| model | paper | view | unseen users | features | numbers held, 1,000 | CPU s an epoch | NDCG@10 | RMSE |"
    lines = [
        "# The recommenders", "",
        "Made by `scripts/models.py` from the manifests of finished runs; nothing here is typed. A model of "
        "`unseen users` scores histories of people whom training never saw; `features` are those of "
        "`data.item_features` and `data.user_features`.", "",
        *told(scores, "NDCG@10"), *told(ratings, "RMSE"), *told(cost, "CPU seconds an epoch, numbers held"),
        head, "|" + " --- |" * (head.count("|") - 1),
    ]  # fmt: skip
    return "\n".join([*lines, *(line(row, scores, ratings, cost) for row in rows)]) + "\n"


def line(row: Row, scores, ratings, cost) -> str:
    """A row of the table."""
    cells = [
        f"`{row.name}`", row.paper, row.view, "yes" if row.unseen else "", row.features,
        thousands(cost.get(row.name, []) or scores.get(row.name, [])), seconds_an_epoch(cost.get(row.name, [])),
        mean(scores.get(row.name, []), "test/ndcg@10"), mean(ratings.get(row.name, []), "test/rmse"),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def grown(text: str, rows: list[Row], scores, ratings, cost) -> str:
    """A page with the rows of the models in `scores` written anew, and the protocol that these were measured by."""
    own = {row.name: line(row, scores, ratings, cost) for row in rows if row.name in scores}
    before = text.rstrip("\n").split("\n")
    at = next(place for place, one in enumerate(before) if one.startswith("| model |"))
    table = {one.split("`")[1]: one for one in before[at + 2 :]} | own
    names = ", ".join(f"`{name}`" for name in own)
    head = [one for one in before[:at] if not one.startswith(f"**NDCG@10 of {names}**")]
    head += told(scores, f"NDCG@10 of {names}")
    order = [row.name for row in rows if row.name in table]
    page = "\n".join([*head, *before[at : at + 2], *(table[name] for name in order)]) + "\n"
    return re.sub(r"\n{3,}", "\n\n", page)  # a line that went leaves a blank one behind


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, metavar="SCORES")
    parser.add_argument("--ratings", type=Path, nargs=1, default=[], metavar="SWEEP")
    parser.add_argument("--cost", type=Path, nargs="+", default=[], metavar="SWEEP")
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "models.md", metavar="FILE")
    arguments = parser.parse_args(words)
    from marquee.errors import MarqueeError
    from marquee.files import write_text

    try:
        sweeps = [by_model(folders) for folders in ([arguments.scores], arguments.ratings, arguments.cost)]
    except MarqueeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.add:
        text = grown(arguments.output.read_text(encoding="utf-8"), models(), *sweeps)
    else:
        text = page(models(), *sweeps)
    write_text(arguments.output, text)
    print(f"wrote {shlex.quote(str(arguments.output))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
