"""The parity certificate: the run's test, evaluated through the artefact beside the model itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.apply.updating.judging import Projected, judge
from marquee.apply.updating.lineage import lineage_of
from marquee.compare.statistics import ALPHA, FLIPS, sign_flips
from marquee.compare.units import COLUMNS
from marquee.data.interactions.histories import Histories
from marquee.errors import ConfigError, JobError
from marquee.inference.portable.classifier import PortableImages, PortableTexts
from marquee.inference.portable.recommender import PortableRecommender
from marquee.inference.portable.writer import PortableWriter
from marquee.inference.predictor import Predictor
from marquee.models.base import Model
from marquee.runs.record import Run
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task

SAME = 1e-6  # of a unit's value, so that what rounding does to a likelihood is no change
NOISE = 1e-5  # a smaller difference of means is that of rounding, however sure it is


def task_of(run: Run, model: Model) -> Task:
    """The run's task on its data, set up again as its manifest says, with its trained model.

    A run that `update` or `forget` made is judged as it was then: on its first ancestor's test, without who is
    forgotten, by a model that may know more users and items (see `Projected`). Raises ConfigError or DataError where
    the data is not what the run was trained on.
    """
    from marquee.runs.content import with_content
    from marquee.runs.train import prepare_data, prepare_task

    manifest = run.manifest
    config = with_content(manifest["config"])
    if manifest.get("update"):
        lineage = lineage_of(run.folder)
        judged, _ = lineage.judged()
        return judge(config, model, lineage.now(), judged, None)
    data = prepare_data(config)
    for name, found in (("data", data.fingerprint), ("split", data.split_fingerprint)):
        if (wanted := (manifest[name] or {}).get("fingerprint")) != found:
            raise ConfigError(
                f"{manifest['id']}: the {name} is not what this run was tested on (fingerprint {found[:16]}, recorded "
                f"{str(wanted)[:16]}), so its test cannot be run through the artefact."
            )
    task = prepare_task(config, data)
    task.model.load_state_dict(model.state_dict())
    task.eval()
    task.settle()
    return task


def certificate(task: Task, artefact: Predictor, manifest: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """What the test says of the artefact, as JSON values.

    `passed` is false where the monitored metric is worse by more than `tolerance`, or worse beyond doubt (a paired
    test at 5 %, for differences that rounding does not explain), and where the model itself is further than that from
    what the run recorded: then this is another test.
    """
    scorer = asked_as(task.model, scorer_of(artefact))
    task.evaluated = "test"
    evaluators, largest, changed_scores, cells = (task.evaluator(), task.evaluator()), 0.0, 0, 0
    with torch.no_grad():
        for batch in task.evaluation_batches("test"):
            own, other = task.scores(task.model, batch), task.scores(scorer, batch)
            finite = own.isfinite() & other.isfinite()
            difference = (own - other).abs()[finite]
            largest = max(largest, float(difference.max()) if len(difference) else 0.0)
            changed_scores += int((own.isfinite() != other.isfinite()).sum())
            cells += own.numel()
            for evaluator, scores in zip(evaluators, (own, other), strict=True):
                evaluator.update(scores, batch)
    (before, units), (after, others) = (one.compute([one.state()]) for one in evaluators)
    metric = task.monitor
    sign = -1.0 if task.mode == "min" else 1.0
    drop = sign * (before[metric] - after[metric])
    column = COLUMNS.get(metric, metric)
    changed, p = None, None
    if column in units:
        values = np.stack([units[column].to_numpy(), others[column].to_numpy()], axis=1).astype(np.float64)
        changed = int((np.abs(values[:, 0] - values[:, 1]) > SAME).sum())
        rng = numpy_generator(manifest["seed"] or 0, "parity")
        p = float(sign_flips(values, np.array([[0, 1]]), FLIPS, rng)[0][0]) if changed else 1.0
    worse = not drop <= tolerance or (drop > NOISE and p is not None and p < ALPHA)  # NaN is worse than any number
    recorded = (manifest["metrics"] or {}).get(f"test/{metric}")
    again = recorded is None or abs(recorded - before[metric]) <= max(tolerance, NOISE)
    return {
        "run": manifest["id"], "fingerprint": manifest["fingerprint"], "unit": task.unit, "n_units": len(units),
        "metric": metric, "recorded": recorded, "before": before[metric], "after": after[metric],
        "difference": after[metric] - before[metric], "tolerance": tolerance, "changed_units": changed, "p": p,
        "max_score_difference": largest, "scores_compared": cells, "scores_not_finite_in_one": changed_scores,
        "metrics": {name: [before[name], after[name]] for name in before if name in after},
        "passed": again and not worse,
    }  # fmt: skip


def refuse_worse(found: Mapping[str, Any], what: str, force: bool) -> None:
    """Raise JobError where a certificate is not passed and nobody insists."""
    if found["passed"] or force:
        return
    recorded, before = found["recorded"], found["before"]
    if recorded is not None and abs(recorded - before) > max(found["tolerance"], NOISE):
        raise JobError(
            f"{found['run']}: its own test gives {found['metric']} {before:.4f} here, and {recorded:.4f} was recorded "
            f"(tolerance {found['tolerance']:g}), so nothing can be certified. Nothing was written.\n"
            "  fix: export where it was trained, a larger --tolerance, or --force"
        )
    p = f", p = {found['p']:.4f}" if found["p"] is not None else ""
    raise JobError(
        f"{what} is not the run that was measured: test {found['metric']} {found['before']:.4f} became "
        f"{found['after']:.4f} ({found['changed_units']} of {found['n_units']} {found['unit']}s changed{p}; tolerance "
        f"{found['tolerance']:g}). Nothing was written.\n  fix: leave --int8 out, a larger --tolerance, or --force"
    )


# What scores as a model does, in the task, by an artefact ------------------------------------------------------------


def scorer_of(predictor: Predictor) -> Any:
    """What `Task.scores` takes in place of the model."""
    if isinstance(predictor, PortableRecommender):
        return _Scores(predictor)
    if isinstance(predictor, PortableTexts):
        return lambda batch: torch.from_numpy(predictor.logits(batch.tokens.numpy(), batch.lengths.numpy()))
    if isinstance(predictor, PortableImages):
        return lambda batch: torch.from_numpy(predictor.logits(batch.images.numpy()))
    if isinstance(predictor, PortableWriter):
        return _Likelihood(predictor)
    return predictor.model  # of the weights as they were written


def asked_as(model: Model, scorer: Any) -> Any:
    """A scorer that is asked for the users and items that a task's model is asked for."""
    return _Projected(scorer, model) if isinstance(model, Projected) else scorer


def own_names(model: Model, users: Tensor | None, histories: Histories) -> tuple[Tensor | None, Histories]:
    """Users and histories of a test by the numbers that the run's own model knows them by."""
    return model.asked(users, histories) if isinstance(model, Projected) else (users, histories)


class _Projected:
    """Scores as `Projected` does, of what the artefact knows."""

    def __init__(self, scorer: Any, model: Projected):
        self.scorer, self.model = scorer, model

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.scorer.score(*self.model.asked(users, histories)).index_select(1, self.model.items)

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        users, histories = self.model.asked(users, histories)
        return self.scorer.predict(users, self.model.items[items], histories)


class _Scores:
    """Scores items, as `Recommender.score` does."""

    def __init__(self, predictor: PortableRecommender):
        self.predictor = predictor

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        times = None if histories.times is None else histories.times.numpy()
        ids = None if users is None else users.numpy()
        found = self.predictor.scores(ids, histories.items.numpy(), histories.offsets.numpy(), times)
        return torch.from_numpy(np.ascontiguousarray(found))


class _Likelihood:
    """log P of targets, as `LanguageModel.log_likelihood` has it."""

    def __init__(self, predictor: PortableWriter):
        self.steps = predictor.steps

    def log_likelihood(self, batch: Any) -> Tensor:
        logits = torch.from_numpy(self.steps.read(batch.inputs.numpy(), self.steps.start(len(batch.inputs))))
        return logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0].float()
