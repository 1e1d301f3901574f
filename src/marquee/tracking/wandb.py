"""Weights & Biases: offline by default, so that no account, prompt or network stands between a user and a run."""

import hashlib
import os
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pytorch_lightning.loggers import WandbLogger

from marquee.runs.manifest import Run
from marquee.tracking.tracker import Tracker


class WandbTracker(Tracker):
    """One W&B run a run: resolved configuration, model family as job type, tags, curves, final summary.

    The W&B run id is a function of the run's fingerprint and folder, so resuming continues the same W&B run and two
    runs never share one.
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

    def open(self, run: Run) -> WandbLogger:
        import wandb

        config = run.manifest["config"]
        family = run.manifest["model"].split("/")[0]
        # Offline nothing may be looked up or sent: not the machine's statistics, not the console, not the code.
        settings = wandb.Settings(
            silent=True, console="off", x_disable_stats=True, x_disable_meta=True, init_timeout=60
        )
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            job_type=family,
            name=run.folder.name,
            id=wandb_id(run.manifest.get("begun_as") or run.manifest["fingerprint"], run.folder.name),
            tags=[family, *config["tags"]],
            config={**config, "fingerprint": run.manifest["fingerprint"], "family": family},
            dir=str(run.folder),
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            settings=settings,
        )
        return WandbLogger(experiment=self._run)

    def finish(self, manifest: dict[str, Any]) -> None:
        if self._run is None:
            return
        summary = {**(manifest.get("metrics") or {}), "status": manifest["status"]}
        references = {**(manifest.get("baselines") or {}), "oracle": manifest.get("oracle") or {}}
        for name, scores in references.items():
            summary.update({f"{name}/{metric}": value for metric, value in scores.items()})
        self._run.summary.update(summary)
        self._run.finish(exit_code=0 if manifest["status"] == "finished" else 1)
        self._run = None


def wandb_id(fingerprint: str, folder: str) -> str:
    """Sixteen letters that stand for this run and no other."""
    return hashlib.sha256(f"{fingerprint}/{folder}".encode()).hexdigest()[:16]
