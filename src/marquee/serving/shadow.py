"""A second run that is asked what the first is asked: how much their lists overlap, off everybody's way."""

import logging
import queue
import threading
from collections.abc import Sequence
from typing import Any

from marquee.errors import MarqueeError
from marquee.serving.answering import recommend
from marquee.serving.metrics import Metrics
from marquee.serving.served import Served, try_golden

CUTOFFS = (1, 5, 10, 20, 50, 100)
WAITING = 64  # batches; what comes on top is not compared

log = logging.getLogger("marquee")


class Shadow:
    """Recommends in a thread of its own, and remembers the overlap@k: |both lists| / |the served list|."""

    def __init__(self, served: Served, metrics: Metrics):
        self.served, self._metrics = served, metrics
        self._sums: dict[str, list[float]] = {}
        self._counts = {"compared": 0, "failed": 0, "dropped": 0}
        self._waiting: queue.Queue[tuple[Sequence[Any], Sequence[Any]]] = queue.Queue(WAITING)
        threading.Thread(target=self._work, name="shadow", daemon=True).start()

    def warm(self) -> None:
        """Try its golden requests; it is asked all the same, but what is wrong is told."""
        try:
            try_golden(self.served)
        except MarqueeError as error:
            self.served.wrong = [str(error)]

    def look(self, questions: Sequence[dict[str, Any]], answers: Sequence[Any]) -> None:
        """Take note of a batch; returns at once."""
        try:
            self._waiting.put_nowait((questions, answers))
        except queue.Full:
            self._count("dropped", len(questions))

    def described(self) -> dict[str, Any]:
        means = {f"overlap@{k}": total / n for k, (total, n) in sorted(self._sums.items())}
        return {"run": self.served.manifest["id"], "fingerprint": self.served.fingerprint, **self._counts, **means,
                "wrong": self.served.wrong}  # fmt: skip

    def _work(self) -> None:
        while True:
            questions, answers = self._waiting.get()
            good = [pair for pair in zip(questions, answers, strict=True) if isinstance(pair[1], list)]
            try:
                own = recommend(self.served, [{**question, "explain": False} for question, _ in good])
            except Exception:
                log.exception("the shadow failed")
                self._count("failed", len(good))
                continue
            for (question, theirs), ours in zip(good, own, strict=True):
                if not isinstance(ours, list):  # a name that it does not know
                    self._count("failed", 1)
                    continue
                self._count("compared", 1)
                k = question["how"]["k"]
                name = str(k) if k in CUTOFFS else "other"
                for one, other in zip(theirs, ours, strict=True):
                    self._note(name, overlap(one["items"], other["items"]))

    def _note(self, name: str, share: float) -> None:
        total = self._sums.setdefault(name, [0.0, 0])
        total[0] += share
        total[1] += 1
        self._metrics.overlap.labels(name).observe(share)

    def _count(self, outcome: str, n: int) -> None:
        self._counts[outcome] += n
        self._metrics.shadowed.labels(outcome).inc(n)


def overlap(items: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> float:
    """The share of a list's items that another list has, too; 1 of an empty list."""
    own = {item["item_id"] for item in items}
    return len(own & {item["item_id"] for item in others}) / len(own) if own else 1.0
