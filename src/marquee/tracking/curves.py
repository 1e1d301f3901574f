"""`metrics.csv`: the curves of a run, one row an epoch, written in every run whatever tracker is chosen."""

import csv
import time
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from marquee.files import replacing


class Curves(Logger):
    """Columns appear as metrics do. After a resume, rows of epochs that are trained again give way to the new ones.

    `seconds` counts from the start of training, without what lay between an interruption and the resume, and `before`
    is what the kept rows had taken.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.started = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))
        self.kept = len(self.rows)
        self.retrain = bool(self.rows)  # until the first new row tells from which epoch on

    @property
    def before(self) -> float:
        """Seconds of the epochs that a resumed run kept from its earlier parts; 0 where there is none."""
        return float(self.rows[self.kept - 1]["seconds"]) if self.kept else 0.0

    @property
    def name(self) -> str:
        return "curves"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The manifest holds the configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        if epoch is None or any(name.startswith("test/") for name in values):
            return
        epoch = int(epoch)
        if self.retrain:
            self.rows = [row for row in self.rows if int(row["epoch"]) < epoch]
            self.kept = len(self.rows)
            self.retrain = False
        if not self.rows or int(self.rows[-1]["epoch"]) != epoch:
            self.rows.append({"epoch": epoch})
        # Validation and training report the same epoch one after the other: one row holds both.
        seconds = round(self.before + time.monotonic() - self.started, 3)
        self.rows[-1].update({"step": step, "seconds": seconds, **values})
        self._write()

    def _write(self) -> None:
        columns = ["epoch", "step", "seconds"]
        columns += sorted({name for row in self.rows for name in row} - set(columns))
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
