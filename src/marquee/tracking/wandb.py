"""Weights & Biases: offline by default, so that no account, prompt or network stands between a user and a run."""

import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pytorch_lightning.loggers import WandbLogger

from marquee.config.fingerprint import canonical, without_repetition
from marquee.tracking.tracker import TrackedRun, Tracker

log = logging.getLogger("marquee")

INIT_SECONDS = 30  # to reach the server before a run is tracked offline instead
OFFLINE_SECONDS = 600  # for W&B's own service to begin on this machine, which may be busy
FINISH_SECONDS = 120  # to send what is left at the end


class WandbTracker(Tracker):
    """One W&B run a run: resolved configuration, model family as job type, tags, curves, final summary.

    Seeds, folds and draws of a split are repetitions of one experiment. They share `experiment` in W&B's configuration,
    to group by, and outside a sweep the folds of a cross-validation share the W&B group of that name.

    The W&B run id is a function of the run's fingerprint, folder and first start, so resuming continues the same W&B
    run and two runs never share one. Where the server cannot be reached, or nobody is logged in, an online run is
    tracked offline: `marquee sync` uploads it later.
    """

    def __init__(
        self,
        *,
        mode: Literal["offline", "online", "disabled"] = "offline",
        project: Annotated[str, MinLen(1)] = "marquee",
        entity: str | None = None,
        group: str | None = None,
    ):
        self.mode = mode
        self.project = project
        self.entity = entity
        self.group = group
        self._run: Any = None
        self._folder: Path | None = None

    def open(self, run: TrackedRun) -> WandbLogger:
        import wandb

        self._folder = run.folder

        config = run.manifest["config"]
        family = run.manifest["model"].split("/")[0]
        repetition = repeated(run.manifest)
        own_id = choose_id(run)
        arguments: dict[str, Any] = {
            "project": self.project,
            "entity": self.entity,
            "group": self.group or (repetition["experiment"] if "fold" in repetition else None),
            "job_type": family,
            "name": run.folder.name,
            "id": own_id,
            "tags": [family, *config["tags"]],
            "config": {**config, "fingerprint": run.manifest["fingerprint"], "family": family, **repetition},
            "dir": str(run.folder),
            # Offline nothing may be looked up or sent: not the machine's statistics, not the console, not the code.
            "settings": wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True, init_timeout=INIT_SECONDS
            ),
        }  # fmt: skip
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if self.mode == "online":
            try:
                if not wandb.login(prompt=False, verify=False):
                    raise PermissionError("nobody is logged in (wandb login)")
                resume = None if own_id is None else "allow"
                arguments["settings"].finish_timeout = FINISH_SECONDS
                arguments["settings"].finish_timeout_raises = True
                self._run = wandb.init(**arguments, mode="online", resume=resume)
                return WandbLogger(experiment=self._run)
            except Exception as error:  # a tracker must not cost a run
                reason = str(error).split("\n")[0]
                _warn(f"W&B: {reason}. The run is tracked offline; later: marquee sync {run.folder}")
                wandb.teardown()  # frees the id, which the attempt still holds
                arguments["settings"].finish_timeout = 0
        arguments["settings"].init_timeout = OFFLINE_SECONDS
        self._run = wandb.init(**arguments, mode="disabled" if self.mode == "disabled" else "offline")
        return WandbLogger(experiment=self._run)

    def finish(self, manifest: dict[str, Any]) -> None:
        if self._run is None:
            return
        summary = {**(manifest.get("metrics") or {}), "status": manifest["status"]}
        cost = {name: value for name, value in (manifest.get("cost") or {}).items() if isinstance(value, (int, float))}
        summary.update({f"cost/{name}": value for name, value in cost.items()})
        references = {**(manifest.get("baselines") or {}), "oracle": manifest.get("oracle") or {}}
        for name, scores in references.items():
            summary.update({f"{name}/{metric}": value for metric, value in scores.items()})
        self._run.summary.update(summary)
        if self._folder is not None and (plots := _plots(self._folder / "plots")):
            self._run.log(plots)
        try:
            self._run.finish(exit_code=0 if manifest["status"] in ("finished", "pruned") else 1)
        except TimeoutError:
            folder = os.path.dirname(self._run.dir)
            _warn(f"W&B: not all was sent within {FINISH_SECONDS} s. Later: wandb sync --include-online {folder}")
        self._run = None


def _plots(folder: Path) -> dict[str, Any]:
    """The run's pictures and pages as W&B shows them, by name."""
    import wandb

    found: dict[str, Any] = {f"plots/{file.stem}": wandb.Image(str(file)) for file in sorted(folder.glob("*.png"))}
    found |= {f"plots/{file.stem}": wandb.Html(str(file)) for file in sorted(folder.glob("*.html"))}
    return found


def repeated(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """`experiment`, equal for all repetitions of one, and which this run is: its `fold` and the `draw` of its split."""
    split = manifest["split"]
    content = [without_repetition(manifest["config"], split.get("fold_key")), split.get("pool") or split["fingerprint"]]
    digest = hashlib.sha256(canonical(content).encode()).hexdigest()[:8]
    name = f"{manifest['data']['name']}-{manifest['model'].split('/')[-1]}-{digest}"
    return {"experiment": name, **{key: split[key] for key in ("fold", "draw") if key in split}}


def choose_id(run: TrackedRun, environment: Mapping[str, str] = os.environ) -> str | None:
    """The W&B id of a run: the one it is tracked under already, else one of its own.

    None where W&B's agent has given it an id as a run of a W&B sweep: there no other may be asked for.
    """
    if environment.get("WANDB_SWEEP_ID") and environment.get("WANDB_RUN_ID"):
        return None
    for folder in sorted((run.folder / "wandb").glob("*run-*-*")):
        return folder.name.rpartition("-")[2]
    manifest = run.manifest
    return wandb_id(manifest.get("begun_as") or manifest["fingerprint"], run.folder.name, manifest["started"])


def wandb_id(fingerprint: str, folder: str, started: str) -> str:
    """Sixteen letters that stand for this run and no other, also among runs of the same name on other machines."""
    return hashlib.sha256(f"{fingerprint}/{folder}/{started}".encode()).hexdigest()[:16]


def _warn(message: str) -> None:
    """To the run's log, and to the person, who would otherwise look for the run on the server."""
    log.warning(message)
    print(f"warning: {message}", file=sys.stderr)
