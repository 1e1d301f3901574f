"""The state of a service: which run answers, whether it is ready, and how a newer one takes over."""

import gc
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, MarqueeError
from marquee.inference.recommender import RecommendPredictor
from marquee.runs.finding import find_run
from marquee.serving import answering
from marquee.serving.batcher import Batcher
from marquee.serving.metrics import Metrics
from marquee.serving.refusals import Refusal
from marquee.serving.reloading import newest, refusal, state
from marquee.serving.served import Served, open_served, try_golden
from marquee.serving.settings import Settings
from marquee.serving.shadow import Shadow

log = logging.getLogger("marquee")


class Service:
    """What answers requests: a run, the thread that owns its model, its shadow.

    Raises ConfigError for a run that cannot be served, DataError for a damaged one.

    served    the run that answers; replaced as a whole, so that a batch goes by one of them
    working   requests that have arrived and are not answered
    body      bytes of requests that are held
    stopping  whether nothing more is taken
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.working = self.body = 0
        self.stopping = False
        self._ready = False
        self._turn = threading.Lock()
        self._refused: dict[Path, tuple] = {}  # and the state of their files
        # Who only reloads when told to names one run to begin with.
        run, runs = settings.run, settings.runs
        self.served = self._opened(newest(run, runs)[0] if settings.reload else find_run(run, runs))
        shadow = self._shadow_run() if settings.shadow is not None else None
        self.batcher = Batcher(
            self._answer, lambda: self.working, settings.batch_rows, settings.batch_wait / 1000,
            settings.queue, settings.timeout, lambda rows: self.metrics.rows.observe(rows),
        )  # fmt: skip
        self.metrics = Metrics(lambda: len(self.batcher), lambda: self.working)
        self.shadow = Shadow(shadow, self.metrics) if shadow is not None else None
        self._tell()

    @property
    def ready(self) -> bool:
        return self._ready and not self.stopping

    def warm(self) -> None:
        """Try the golden requests; the service is ready when they come out as at training."""
        if self.shadow is not None:
            self.shadow.warm()
        with self._turn:  # a newer run waits until this one is known to be well
            served = self.served
            try:
                try_golden(served)
            except Exception as error:
                served.wrong = [str(error)]
            for line in served.wrong:
                log.error("%s: %s", served.folder.name, line)
            self._ready = not served.wrong
            self._tell()

    def refuse_unready(self) -> None:
        """Raise Refusal while nothing can be answered."""
        if self.stopping:
            raise Refusal(503, "stopping", "The service is being stopped.", retry=5)
        if not self._ready:
            wrong = self.served.wrong
            told = "; ".join(wrong) if wrong else "the golden requests are being tried"
            raise Refusal(503, "not_ready", f"The run is not ready: {told}.", retry=None if wrong else 1)

    async def ask(self, kind: str, question: dict[str, Any], rows: int = 1) -> tuple[Served, Any]:
        """The run that answered, and its answer. Raises Refusal, or what `refusal_of` makes one of."""
        return await self.batcher.ask(kind, question, rows)

    def _answer(self, kind: str, questions: Sequence[dict[str, Any]]) -> list[Any]:
        served = self.served
        if f"/v1/{kind}" not in served.paths:  # it was another when the request came
            return [Refusal(409, "cannot", f"This run {served.predictor.does}.")] * len(questions)
        answers = answering.answer(served, kind, questions)
        if kind == "recommend" and self.shadow is not None:
            self.shadow.look(questions, answers)
        return [one if isinstance(one, BaseException) else (served, one) for one in answers]

    def stop(self) -> None:
        self.stopping = True
        self.batcher.stop()

    def described(self) -> dict[str, Any]:
        told = {**self.served.described(), "ready": self.ready, "process": os.getpid()}
        return {**told, "shadow": self.shadow.described()} if self.shadow is not None else told

    # Newer runs ------------------------------------------------------------------------------------------------------

    def reload(self, force: bool = False, again: bool = True) -> dict[str, Any]:
        """Take over the newest run that the name means. Returns what came of it: outcome, run, message.

        outcome  same (nothing newer), taken, refused (force helps), failed

        It is loaded and tried beside the one that answers; requests under way keep theirs. Where the newest may not,
        the next newest is looked at; without `again`, those that were refused and are as they were are left out.
        """
        with self._turn:
            try:
                folders = self._newer(again)
            except MarqueeError as error:
                return self._came("failed", None, str(error))
            current = self.served.folder
            if not folders:
                return {"outcome": "same", "run": current.name, "message": f"{current.name} is the newest."}
            tried = []
            for folder in folders:  # the newest that may; with `latest`, others may be of another task
                tried.append(self._tried(current, folder, force or self.settings.force))
                if tried[-1]["outcome"] == "taken":
                    return tried[-1]
            return tried[0]

    def _tried(self, current: Path, folder: Path, force: bool) -> dict[str, Any]:
        before = state(folder)  # not afterwards: what comes while it is looked at is looked at again
        if not force and (why := self._why_not(current, folder)):
            self._refused[folder] = before
            return self._came("refused", folder, f"{folder.name} does not take over: {why}.")
        try:
            served = self._opened(folder)
            try_golden(served)
        except Exception as error:  # whatever is wrong with it, the other goes on
            self._refused[folder] = before
            return self._came("failed", folder, str(error))
        if served.wrong:
            self._refused[folder] = before
            return self._came("failed", folder, f"{folder.name} is not ready: {'; '.join(served.wrong)}")
        self.served = served
        self._ready = True
        if gc.get_freeze_count():  # see server.py
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        self._tell()
        return self._came("taken", folder, f"{folder.name} answers now, in place of {current.name}.")

    def look_for_newer(self) -> None:
        """What happens every `reload_seconds`. A run that was refused is looked at again when its files change."""
        try:
            folders = self._newer(again=False)
        except MarqueeError as error:
            log.warning("no newer run: %s", error)
            return
        if folders:
            self.reload(again=False)

    def _newer(self, again: bool) -> list[Path]:
        """The runs that may take over, the newest first."""
        folders, current = newest(self.settings.run, self.settings.runs), self.served.folder
        if current in folders:
            folders = folders[: folders.index(current)]
        return folders if again else [folder for folder in folders if self._refused.get(folder) != state(folder)]

    def _why_not(self, current: Path, folder: Path) -> str | None:
        try:
            return refusal(current, folder)
        except (MarqueeError, KeyError, TypeError, ValueError, OSError) as error:
            return f"it cannot be compared ({error})"

    def _came(self, outcome: str, folder: Path | None, message: str) -> dict[str, Any]:
        (log.warning if outcome != "taken" else log.info)("reload: %s", message)
        self.metrics.reloads.labels(outcome).inc()
        return {"outcome": outcome, "run": folder.name if folder else None, "message": message}

    def _opened(self, folder: Path) -> Served:
        return open_served(folder, self.settings.recommender, self.settings.catalogue, self.settings.runs)

    def _shadow_run(self) -> Served:
        shadow = open_served(find_run(self.settings.shadow or "", self.settings.runs))
        for served in (self.served, shadow):
            if not isinstance(served.predictor, RecommendPredictor):
                raise ConfigError(
                    f"--shadow: lists of recommendations are compared, and {served.folder.name} "
                    f"{served.predictor.does}.\n  fix: leave --shadow out"
                )
        return shadow

    def _tell(self) -> None:
        manifest = self.served.manifest
        self.metrics.ready.set(int(self.ready))
        self.metrics.serves(manifest["id"], manifest["fingerprint"], manifest.get("model") or "")
