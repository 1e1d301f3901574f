"""One experiment from configuration to record. This is the only file that knows Lightning's Trainer."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from marquee.config.build import build, paths
from marquee.config.targets import resolve, signature
from marquee.data.dataset import DataSet
from marquee.errors import ConfigError
from marquee.files import replacing, sync
from marquee.models.base import Model
from marquee.runs.checkpoint import Checkpoint, load_weights, refuse_unfit
from marquee.runs.code import code_identity
from marquee.runs.content import with_content
from marquee.runs.cost import EnergyMeter, cost
from marquee.runs.loaders import EvaluationLoader, TrainLoader, nothing_between_steps
from marquee.runs.lock import release
from marquee.runs.members import with_members
from marquee.runs.opening import open_run, take_over
from marquee.runs.precision import refuse_unfit_precision, remarks
from marquee.runs.progress import Progress
from marquee.runs.record import Run
from marquee.runs.recording import Undrawn, recording
from marquee.runs.schedules import planned
from marquee.runs.summary import print_summary
from marquee.runs.trainable import refuse_unfit_gradients, refuse_untrainable, validated
from marquee.seeding import derive
from marquee.tasks.base import Task
from marquee.tasks.loop import Schedule
from marquee.tracking.curves import Curves

log = logging.getLogger("marquee")

Config = dict[str, Any]


def train(
    config: Config,
    overrides: Sequence[str] = (),
    resume: Path | None = None,
    *,
    opened: Callable[[Run], None] | None = None,
    code: Config | None = None,
    once: bool = False,
) -> dict[str, Any]:
    """Run one checked, fully resolved configuration.

    resume  the folder of an unfinished run to continue
    opened  is told of the run's folder as soon as it stands
    code    the identity of the code (`code_identity`) where this process has imported it some time ago
    once    make no run where one of the same fingerprint is finished or under way

    The run's folder is held from before the first look into it to the end, so that no other process works on it.
    Returns the manifest. Raises ConfigError, DataError or JobError; the manifest of a run that had started says so.
    Taken, a ConfigError, means that another process is at it.
    """
    folders = [] if resume is None else [resume]
    if resume is not None:
        take_over(resume)

    def begun(run: Run) -> None:
        folders.append(run.folder)
        if opened is not None:
            opened(run)

    try:
        return _train(config, overrides, resume, begun, code or code_identity(config), once)
    finally:
        for folder in folders:
            release(folder)


def _train(
    config: Config,
    overrides: Sequence[str],
    resume: Path | None,
    opened: Callable[[Run], None],
    code: Config,
    once: bool,
) -> dict[str, Any]:
    started = time.monotonic()
    config = with_content(config)
    data = prepare_data(config)
    config = with_members(config, data.fingerprint, data.split_fingerprint)
    task = prepare_task(config, data)
    if resume is not None:
        refuse_unfit(task, resume / "checkpoints" / "last.ckpt")
    durations = {"prepare": time.monotonic() - started}
    run = open_run(config, overrides, data, task, resume, code, once)
    opened(run)
    with recording(run, config) as loggers:
        log.info("data: %s", ", ".join(f"{name} {value}" for name, value in data.report.items()))
        trainer, checkpoint = prepare_trainer(config, task, run, loggers)
        for remark in [*remarks(config["trainer"], task.model), *data.remarks, *task.model.remarks, *task.remarks]:
            log.warning(remark)  # which goes into the run's own file
            if trainer.is_global_zero:
                print(f"note: {remark}", file=sys.stderr)
        if not validated(config, task):
            log.warning("no validation: all %s epochs are trained and the last is kept", trainer.max_epochs)
        with EnergyMeter(cuda_devices(trainer)) as energy:
            spent = time.process_time()
            durations["fit"] = _timed(fit, trainer, task, checkpoint, resume is not None)
            spent = time.process_time() - spent
        durations["fit"] += fitted_before(trainer) + task.model.seconds_before
        durations["test"] = _timed(test, trainer, task, checkpoint)
        if trainer.is_global_zero:
            references: dict[str, Any] = {}
            durations["baselines"] = _timed(lambda: references.update(evaluate_references(task)))
            fit_cpu = None if resume is not None else round(spent, 3)  # of the part before nobody knows
            record(run, config, task, trainer, checkpoint, references, durations, energy, fit_cpu)
            if config.get("plots", True):
                draw(run, task, checkpoint)
    if trainer.is_global_zero and run.manifest["status"] == "finished":
        print_summary(run, task.suggestions())
        for line in task.told():
            print(line)
    return run.manifest


def prepare_data(config: Config) -> DataSet:
    """Locate, verify, prepare and split the data."""
    data: DataSet = build(config["data"])
    data.setup(build(config["split"]), paths(config["paths"]))
    return data


def prepare_task(config: Config, data: DataSet, model: Model | None = None, trains_on: DataSet | None = None) -> Task:
    """The model, initialised from the seed and shown the data, inside its task; one that is given is taken as it is.

    trains_on  the data with another train part, where not all of it is trained on
    """
    fresh = model is None
    if fresh:
        torch.manual_seed(derive(config["seed"], "init"))
        try:
            model = build(config["model"], data.spec)
        except ValueError as error:
            raise ConfigError(f"model: {error}") from error
    refuse_unfit_gradients(config, model)
    refuse_unfit_precision(config["trainer"])
    if fresh:
        model.prepare(data)

    def scheduler(optimizer: torch.optim.Optimizer) -> Schedule:
        node = dict(config["scheduler"])
        every = node.pop("interval", "epoch")
        extra = {"mode": task.mode} if node["_target_"].endswith("ReduceLROnPlateau") else {}
        asks = "total" in signature(resolve(node["_target_"])).supplied
        length = [planned(config["trainer"], model.view.steps(task.trains_on), every)] if asks else []
        return Schedule(build(node | extra, optimizer, *length), every)

    node = config["optimizer"]
    optimizer = (
        partial(build, node) if "_target_" in node else {name: partial(build, own) for name, own in node.items()}
    )
    chosen = scheduler if config.get("scheduler") else None
    task: Task = build(config["task"], model, data, optimizer, chosen, config["seed"])
    task.make_model = partial(build, config["model"])
    if trains_on is not None:
        task.trains_on = trains_on
    refuse_untrainable(config, task)
    return task


def prepare_trainer(config: Config, task: Task, run: Run, loggers: list[Any]) -> tuple[pl.Trainer, Checkpoint]:
    """The Trainer with the run's callbacks; a closed form gets one process and its one epoch."""
    nodes, settings = config["callbacks"], dict(config["trainer"])
    monitor = f"validation/{task.monitor}"
    checkpoint: Checkpoint = build(nodes["checkpoint"], run.folder / "checkpoints", monitor, task.mode)
    callbacks: list[pl.Callback] = [checkpoint]
    watched = task.model.max_epochs is None and validated(config, task)
    if "early_stopping" in nodes and watched:
        callbacks.append(build({"monitor": monitor, "mode": task.mode, **nodes["early_stopping"]}))
    known = {"checkpoint", "early_stopping"}
    callbacks += [build(node) for name, node in nodes.items() if name not in known]
    if settings.pop("enable_progress_bar", True):
        callbacks.append(Progress(task.monitor))
    if task.model.max_epochs is not None:
        settings.update(max_epochs=task.model.max_epochs)
    if settings.get("max_epochs") is not None:
        settings.update(max_epochs=task.total_epochs(settings["max_epochs"]))
    if task.model.learns_in_fit:
        settings.update(devices=1, strategy="auto", precision=32, gradient_clip_val=None, accumulate_grad_batches=1)
    # What each process collects would be its own, and a checkpoint holds one; nor is a window tested in parts.
    if task.model.view.wants_policy or task.prequential:
        settings.update(devices=1, strategy="auto")
    if task.learners and settings.get("strategy") == "ddp":  # whoever has no turn is without a gradient
        settings["strategy"] = "ddp_find_unused_parameters_true"
    if task.learners and settings.get("accumulate_grad_batches", 1) != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches={settings['accumulate_grad_batches']}: {type(task).__name__} makes its "
            "own steps, one after each batch.\n  fix: trainer.accumulate_grad_batches=1, and larger batches"
        )
    if not task.automatic_optimization:  # Lightning clips and accumulates only where it makes the steps
        limit, kind = settings.pop("gradient_clip_val", None), settings.pop("gradient_clip_algorithm", None)
        task.clip = {"gradient_clip_val": limit, "gradient_clip_algorithm": kind or "norm"} if limit else {}
    _quiet_lightning()
    # Filling fresh memory with NaN would only find bugs of torch's own, at the price of a pass over each tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
    first = not int(os.environ.get("LOCAL_RANK", 0))
    own = {
        "callbacks": callbacks,
        "logger": [Curves(run.folder / "metrics.csv"), *loggers] if first else [],
        "default_root_dir": str(run.folder),
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
    }
    trainer = build(settings | own)
    if task.model.steps_at_once > 1 and trainer.world_size == 1 and nothing_between_steps(config, settings):
        task.join(task.model.steps_at_once)
    return trainer, checkpoint


def fit(trainer: pl.Trainer, task: Task, checkpoint: Checkpoint, resume: bool) -> None:
    """Train; when resuming, continue from the last checkpoint if there is one."""
    rank, world = trainer.global_rank, trainer.world_size
    progress = trainer.fit_loop.epoch_progress.current
    batches = TrainLoader(task, lambda: progress.processed, rank, world)
    validation = EvaluationLoader(task, "validation", rank, world) if task.data.validates else None
    start = checkpoint.last_path if resume and checkpoint.last_path.exists() else None
    trainer.fit(task, batches, validation, ckpt_path=start, weights_only=True)


def fitted_before(trainer: pl.Trainer) -> float:
    """The seconds that the epochs which a resumed run kept had taken; the curves know."""
    return sum(logger.before for logger in trainer.loggers if isinstance(logger, Curves))


def cuda_devices(trainer: pl.Trainer) -> tuple[int, ...]:
    """The numbers of the CUDA cards that this run uses on this machine."""
    devices = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    return tuple(device.index or 0 for device in devices if device.type == "cuda")


def test(trainer: pl.Trainer, task: Task, checkpoint: Checkpoint) -> None:
    """Test metrics, from the best checkpoint; of a task that has tested itself, those that it has."""
    if task.prequential:
        task.eval()
        task.gather()
        return
    load_best(task, checkpoint)
    task.eval()
    task.settle()
    loader = EvaluationLoader(task, "test", trainer.global_rank, trainer.world_size)
    trainer.test(task, loader, verbose=False)


def load_best(task: Task, checkpoint: Checkpoint) -> None:
    """Put the weights that were best on validation into the task."""
    if checkpoint.best_path.exists():
        load_weights(task, checkpoint.best_path)


def evaluate_references(task: Task) -> dict[str, Any]:
    """The baselines and, where the truth is known, the oracle, by the same evaluator on the same split."""
    task.eval()
    if task.prequential:
        return task.references()
    baselines = {name: task.evaluate(scorer, "test")[0] for name, scorer in task.baselines().items()}
    oracle = task.oracle()
    return {"baselines": baselines, "oracle": task.evaluate(oracle, "test")[0] if oracle is not None else None}


def record(
    run: Run,
    config: Config,
    task: Task,
    trainer: pl.Trainer,
    checkpoint: Checkpoint,
    references: dict[str, Any],
    durations: dict[str, float],
    energy: EnergyMeter,
    fit_cpu: float | None,
) -> None:
    """Everything that a finished run leaves: metrics, per-unit table, inference artefacts, cost, manifest."""
    from marquee.data.cache import file_sha256
    from marquee.inference.artefacts import save_model
    from marquee.inference.golden import write_golden

    metrics, units = task.results["test"]
    with replacing(run.folder / "per_unit.parquet") as file:
        units.to_parquet(file)
    task.write_tables(run.folder)
    found = task.found()
    save_model(run.folder / "inference", config["model"], task.model, task.data, task.predictor(), task.serves())
    write_golden(run.folder / "inference")
    sync(run.folder / "inference")  # before the manifest says that the run is finished
    flat = {f"test/{name}": value for name, value in metrics.items()}
    if checkpoint.best is not None:
        flat[f"validation/{task.monitor}"] = checkpoint.best
    run.update(
        metrics=flat,
        n_units=len(units),
        epochs=trainer.current_epoch,
        best_epoch=checkpoint.best_epoch,
        durations={name: round(seconds, 3) for name, seconds in durations.items()},
        cost={
            **cost(run.folder / "inference", task, energy, bool(cuda_devices(trainer))),
            "fit_cpu_s": fit_cpu,
        },
        checkpoint={
            "path": "checkpoints/best.ckpt",
            "kept": "best on validation" if checkpoint.best is not None else "last, without validation",
            "sha256": file_sha256(checkpoint.best_path),
            "weights_sha256": file_sha256(run.folder / "inference" / "model.safetensors"),
        },
        **found,
        **references,
    )


def draw(run: Run, task: Task, checkpoint: Checkpoint) -> None:
    """The run's `plots/`. What goes wrong there is logged, and costs a finished run nothing."""
    started = time.monotonic()
    try:
        task.draw(run.folder, checkpoint.best_epoch)
    except ImportError as error:
        log.info("no figures: %s. They need packages that come with pip install 'marquee[report]'", error)
    except Exception:
        log.warning("the plots are not complete", exc_info=True)
    except (KeyboardInterrupt, SystemExit):
        raise Undrawn from None
    run.update(durations={**run.manifest["durations"], "plots": round(time.monotonic() - started, 3)})


def _timed(action: Callable[..., Any], *arguments: Any) -> float:
    started = time.monotonic()
    action(*arguments)
    return time.monotonic() - started


def _quiet_lightning() -> None:
    """Lightning's remarks on devices, loaders and tips are for authors of loops, not for users of Marquee."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
