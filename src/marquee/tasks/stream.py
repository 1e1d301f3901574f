"""Test, then train: a model meets the windows of a stream one after the other, each of which it has to foresee."""

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.stream import Stream as Windows
from marquee.data.interactions.views import RankingBatch
from marquee.errors import ConfigError
from marquee.files import replacing, write_text
from marquee.models.base import READ_HISTORIES, Recommender
from marquee.models.tables import Tables
from marquee.seeding import numpy_generator
from marquee.tasks.foreseeing import LEFT, Constant, Events, events_of, judge
from marquee.tasks.loop import MakeOptimizer, Schedule
from marquee.tasks.recommendation import Recommendation

OLD = 2000  # events that forgetting is measured on after each window


class Stream(Recommendation):
    """Each item that a user meets in a window is to be foreseen from what that user had met before.

    Dawid 1984, "Statistical theory: the prequential approach": first a window tests the model, then it trains it.
    Ranked are the items that the stream has had so far; what a window brings anew is left out of targets and histories,
    and counted (as in Mi et al. 2020, ADER). An event without any known item before it is no target.

    `trainer.max_epochs` are the epochs of each window. Weights, and the optimiser's state, go on from window to window.
    Vectors of items that no window has had yet are put back to where they began before each window: as negatives of
    others they would be pushed away before anyone has met them.

    method     what trains when window t has been tested: fine_tune, its rows; replay, its rows and `exemplars` users of
               earlier windows drawn at random; joint, all rows so far; refit, all rows so far, from scratch; static,
               nothing but window 0
    exemplars  users (sessions) that `replay` draws from the windows before, anew for each
    warm_up    epochs of window 0, from which everything begins; None: as many as of the others
    ks         cut-offs of the metrics
    monitor    the metric that the tables tell
    mask_seen  leave the items of the history out of the ranking, and out of the targets

    `test/...` are means over all events, `test/..._of_windows` means over the windows, which is what papers state. The
    folder of a run has `windows.csv`: of each window the metric; on those before, by users who are held out (`old`);
    that of popularity so far; what the oracle reaches and the regret, where the truth is known; what was trained.

    Raises ConfigError where the split is no stream, and for a model that knows users by id only.
    """

    unit = "event"
    measured = ("ks", "mask_seen")
    measures_more = ()
    prequential = True

    def __init__(
        self,
        model: Recommender,
        data: InteractionData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        method: Literal["fine_tune", "replay", "joint", "refit", "static"] = "fine_tune",
        exemplars: Annotated[int, Ge(1)] = 30_000,
        warm_up: Annotated[int, Ge(1)] | None = None,
        ks: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [10, 20],  # noqa: B006  (never mutated)
        monitor: str = "recall@20",
        mask_seen: bool = False,
    ):
        if not isinstance(data.split, Windows):
            raise ConfigError("task=stream goes through the windows of split=stream.\n  fix: split=stream")
        if not model.scores_unseen_users:
            raise ConfigError(
                f"model: {type(model).__name__} knows users by id only, and a window has users whom training never "
                f"saw.\n  fix: a model that reads histories: {READ_HISTORIES}"
            )
        super().__init__(model, data, optimizer, scheduler, seed, ks=ks, monitor=monitor, mask_seen=mask_seen)
        self.method, self.exemplars = method, exemplars
        self.warm_up = None if model.learns_in_fit and model.max_epochs is not None else warm_up
        self.windows = data.split.numbered(data.store)
        self.apart = data.split.apart(data.store)
        self.fingerprints = data.split.fingerprints(data.store, data.fingerprint)
        self.passes = 1 if method == "static" else len(self.fingerprints) - 1
        self.rows: list[dict[str, Any]] = []
        self.units: list[dict[str, np.ndarray]] = []
        self._began = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._window = data
        self._known = torch.zeros(data.spec.n_items, dtype=torch.bool)
        self._spent = time.process_time()

    def _judge_unseen_users(self, part: Part) -> None:
        """Nothing to say: that a window has new users is what a stream is."""

    # Training: what each epoch sees ------------------------------------------------------------------------------

    def training_data(self, epoch: int) -> InteractionData:
        """The data whose train part is what the epoch's window trains on."""
        window, place, _ = self.place(epoch)
        if place == 0:
            self._begin(window)
        self._window = self._trains_on(window)
        return self._window

    def total_epochs(self, each: int) -> int:
        self.epochs_each = each
        return (self.warm_up or each) + each * (self.passes - 1)

    def place(self, epoch: int) -> tuple[int, int, int]:
        """The window that an epoch trains on, the epoch's place among those of the window, and how many these are."""
        first = self.warm_up or self.epochs_each
        if epoch < first:
            return 0, epoch, first
        window, place = divmod(epoch - first, self.epochs_each)
        return window + 1, place, self.epochs_each

    def _trains_on(self, window: int) -> InteractionData:
        own, free = self.windows == window, ~self.apart
        if self.method in ("joint", "refit"):
            rows = free & (self.windows <= window)
        elif self.method == "replay" and window:
            before = free & (self.windows < window)
            users = np.unique(self.data.store.users[before])
            generator = numpy_generator(self.seed, "replay", window)
            drawn = generator.choice(users, min(self.exemplars, len(users)), replace=False)
            chosen = np.zeros(self.data.store.n_users, dtype=bool)
            chosen[drawn] = True
            rows = (own & free) | (before & chosen[self.data.store.users])
        else:
            rows = own & free
        data = copy(self.data)
        data.parts = {**self.data.parts, "train": self.data.store.take(rows)}
        return data

    @torch.no_grad()
    def _begin(self, window: int) -> None:
        """What changes between two windows: all weights (refit), or the vectors of items that nobody has met yet."""
        self._spent = time.process_time()
        state = self.model.state_dict()
        if self.method == "refit":
            for name, tensor in state.items():
                tensor.copy_(self._began[name])
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()
            return
        if window == 0 or self.model.learns_in_fit or self.make_model is None:
            return
        unmet = (~self.met(window)).nonzero()[:, 0]
        for name, dimensions in Tables(self.make_model, self.data.spec).dimensions.items():
            for dimension, kind in dimensions:
                if kind != "users" and len(unmet):
                    places = (unmet + self.data.spec.n_users * (kind == "both")).to(state[name].device)
                    state[name].index_copy_(
                        dimension, places, self._began[name].to(state[name]).index_select(dimension, places)
                    )

    def met(self, window: int) -> Tensor:
        """Which items the stream has had before a window, bool [n_items]: the same whatever the method trains on."""
        items = self.data.store.items[(self.windows < window) & ~self.apart]
        found = torch.zeros(self.data.spec.n_items, dtype=torch.bool)
        found[torch.from_numpy(items).long()] = True
        return found

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        window, place, epochs = self.place(self.current_epoch)
        if place + 1 < epochs:
            return
        spent = time.process_time() - self._spent
        self.model.eval()
        for tested in range(window + 1, len(self.fingerprints) if self.method == "static" else window + 2):
            self._meet(tested, spent if tested == window + 1 else 0.0)
        self.model.train()

    # Testing: a window before it trains ---------------------------------------------------------------------------

    @torch.no_grad()
    def _meet(self, window: int, spent: float) -> None:
        """Judge the model on a window that it has not seen, and note all that the table has of it."""
        known = self.met(window)
        events, left = self._events(self.windows <= window, known, self.windows == window)
        metrics, units = self.judge(self.model, events, known)
        row: dict[str, Any] = {
            "window": window, "fingerprint": self.fingerprints[window], "events": len(units),
            **{f"left_out_{why}": int(left[why]) for why in LEFT},
            "trained_rows": len(self._window.parts["train"]), "items_met": int(known.sum()), **metrics,
        }  # fmt: skip
        old, _ = self._events(self.windows < window, known, (self.windows < window - 1) & self.apart)
        if len(old.places):
            few = numpy_generator(self.seed, "old", window).permutation(len(old.places))[:OLD]
            row["old"] = self.judge(self.model, Events(old.places[few], old.starts[few], old.rows, old.items), known)[
                0
            ][self.monitor]
        counts = np.bincount(self.data.store.items[(self.windows < window) & ~self.apart], minlength=len(known))
        row["popular"] = self.judge(Constant(torch.from_numpy(counts).float()), events, known)[0][self.monitor]
        if (oracle := self.data.oracle()) is not None:
            row["oracle"] = self.judge(oracle, events, known)[0][self.monitor]
            row["regret"] = row["oracle"] - row[self.monitor]
        row["cpu_s"] = round(spent, 2)
        self.rows.append(row)
        columns = {name: units[name].to_numpy(np.float32, copy=True) for name in row if name in units and "@" in name}
        places = {"event": units["event"].to_numpy(copy=True), "window": np.full(len(units), window)}
        self.units.append(places | columns)

    def _events(self, seen: np.ndarray, known: Tensor, wanted: np.ndarray) -> tuple[Events, dict[str, int]]:
        return events_of(self.data.store, seen, known, wanted)

    def judge(self, scorer: Any, events: Events, known: Tensor) -> tuple[dict[str, float], pd.DataFrame]:
        """Metrics and a row an event of a scorer: the model, the counts so far, or the oracle."""
        device = next((tensor.device for tensor in self.model.state_dict().values()), torch.device("cpu"))
        return judge(scorer, events, self.data.store, known, self.ks, self.mask_seen, device)

    # What is left of it ------------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Make the test's results of those of all windows."""
        table = {name: np.concatenate([units[name] for units in self.units]) for name in self.units[0]}
        units = pd.DataFrame(table).sort_values("event", ignore_index=True)
        names = [name for name in units if "@" in name]
        metrics = {name: float(units[name].astype("float64").mean()) for name in names}
        metrics |= {f"{name}_of_windows": float(np.mean([row[name] for row in self.rows])) for name in names}
        self.results["test"] = metrics, units[["event", "window", *names]]

    def references(self) -> dict[str, Any]:
        """Popularity so far and the oracle, as means over the windows."""

        def mean(name: str) -> dict[str, float]:
            return {f"{self.monitor}_of_windows": float(np.mean([row[name] for row in self.rows]))}

        oracle = mean("oracle") if "oracle" in self.rows[0] else None
        return {"baselines": {"baseline/popular": mean("popular")}, "oracle": oracle}

    def write_tables(self, folder: Path) -> None:
        """`windows.csv` and `windows.json`: a row a window."""
        table = pd.DataFrame(self.rows)
        with replacing(folder / "windows.csv") as file:
            table.to_csv(file, index=False)
        write_text(folder / "windows.json", table.to_json(orient="records", indent=1))

    def told(self) -> list[str]:
        """The windows as lines for a terminal."""
        there = [name for name in ("old", "popular", "oracle", "regret") if any(name in row for row in self.rows)]
        columns = ["window", "events", self.monitor, *there, "trained_rows", "cpu_s"]
        rows = [[_cell(row.get(column)) for column in columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
                 for line in [columns, *rows]]  # fmt: skip
        return ["", "windows, each tested before it trained; old: users held out of the windows before", *lines]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        units = [{name: torch.from_numpy(values) for name, values in units.items()} for units in self.units]
        checkpoint["stream"] = {"rows": self.rows, "units": units}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if "stream" in checkpoint:
            self.rows = checkpoint["stream"]["rows"]
            self.units = [{name: values.numpy() for name, values in units.items()}
                          for units in checkpoint["stream"]["units"]]  # fmt: skip

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[RankingBatch]:
        return iter(())  # a window is judged when its turn has come

    @classmethod
    def metrics_of(cls, settings: Any) -> list[str]:
        names = [f"{name}@{k}" for k in settings.get("ks") or () for name in ("recall", "mrr", "ndcg")]
        return names + [f"{name}_of_windows" for name in names]

    def shown(self) -> list[str]:
        return [f"{self.monitor}_of_windows", f"mrr@{self.monitor.rpartition('@')[2]}_of_windows"]

    def protocol(self) -> str:
        seen = "masked" if self.mask_seen else "not masked"
        windows = f"{len(self.fingerprints) - 1} windows each tested before it trains"
        return f"{windows}, ranking the items met so far, seen items {seen}"

    def requests(self, predictor: Any, n: int) -> Sequence[Callable[[], Any]]:
        return [lambda user=user: predictor.recommend(users=[user], k=10) for user in predictor.users[:n]]

    def suggestions(self) -> tuple[str, str]:
        return super().suggestions()[0], "task.method=fine_tune,replay,joint"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
