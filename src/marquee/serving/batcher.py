"""One thread that owns the model, and the queue before it: requests that wait are answered together."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from marquee.serving.refusals import Refusal

log = logging.getLogger("marquee")


@dataclass(eq=False)
class Job:
    """A request on its way: what is asked for (`kind`, `content`), by how many `rows`, and who waits for it."""

    kind: str
    content: Any
    rows: int
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    deadline: float


class Batcher:
    """Hands jobs to one thread, as many together as have come.

    answer    called in that thread with jobs of one kind; returns a result or an exception for each
    expected  how many requests the service is working on: only if there are more than have come is it waited for them
    rows      of a batch at most; a job with more is a batch of its own
    wait      seconds that the first job of a batch waits for others, at most
    queue     jobs that wait at most
    timeout   seconds after which a job is given up
    told      called with the number of rows of each batch
    """

    def __init__(
        self,
        answer: Callable[[str, Sequence[Any]], Sequence[Any]],
        expected: Callable[[], int],
        rows: int,
        wait: float,
        queue: int,
        timeout: float,
        told: Callable[[int], None] = lambda rows: None,
    ):
        self._answer, self._expected, self._told = answer, expected, told
        self.rows, self.wait, self.queue, self.timeout = rows, wait, queue, timeout
        self._jobs: deque[Job] = deque()
        self._waiting = 0  # rows of all jobs
        self._arrived = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    async def ask(self, kind: str, content: Any, rows: int = 1) -> Any:
        """The result of one job. Raises Refusal where the queue is full or time is up, and what answering raised."""
        loop = asyncio.get_running_loop()
        job = Job(kind, content, rows, loop.create_future(), loop, time.monotonic() + self.timeout)
        with self._arrived:
            if self._stopped:
                raise Refusal(503, "stopping", "The service is being stopped.", retry=5)
            if len(self._jobs) >= self.queue:  # by then some may have been given up
                self._keep([job for job in self._jobs if not self._late(job)])
            if len(self._jobs) >= self.queue:
                raise Refusal(429, "busy", f"{self.queue} requests are waiting already; come back later.", retry=1)
            self._jobs.append(job)
            self._waiting += rows
            self._arrived.notify()
        # Not asyncio.wait_for, which begins a task for each request: a tenth of what a request costs.
        given_up = loop.call_later(self.timeout, self._give_up, job.future)
        try:
            return await job.future
        finally:
            given_up.cancel()

    def _give_up(self, future: "asyncio.Future[Any]") -> None:
        if not future.done():
            future.set_exception(Refusal(503, "timeout", f"No answer within {self.timeout:g} seconds.", retry=5))

    def stop(self) -> None:
        """Answer what waits, then end the thread."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify()
        self._thread.join(self.timeout)

    def _work(self) -> None:
        while batch := self._next():
            self._told(sum(job.rows for job in batch))
            try:
                results = self._answer(batch[0].kind, [job.content for job in batch])
            except Exception as error:
                log.exception("a batch failed")
                results = [error] * len(batch)
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future, Any]]] = {}
            for job, result in zip(batch, results, strict=True):
                by_loop.setdefault(job.loop, []).append((job.future, result))
            for loop, pairs in by_loop.items():
                try:
                    loop.call_soon_threadsafe(_settle, pairs)
                except RuntimeError:  # whoever asked is gone, and so is its loop
                    log.debug("answers that nobody waits for")

    def _next(self) -> list[Job]:
        """The next batch: the oldest job and others of its kind; nothing when all is done and the service stops."""
        with self._arrived:
            while True:
                self._keep([job for job in self._jobs if not self._late(job)])
                if self._jobs:
                    break
                if self._stopped:
                    return []
                self._arrived.wait()
            until = time.monotonic() + self.wait
            while self._waiting < self.rows and self._expected() > len(self._jobs) and not self._stopped:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._arrived.wait(left)
            return self._taken()

    @staticmethod
    def _late(job: Job) -> bool:
        """Whether nobody waits for it any more."""
        return job.future.done() or job.deadline <= time.monotonic()

    def _taken(self) -> list[Job]:
        taken: list[Job] = []
        kept: list[Job] = []
        rows = 0
        for job in self._jobs:
            if not taken or (job.kind == taken[0].kind and rows + job.rows <= self.rows):
                taken.append(job)
                rows += job.rows
            else:
                kept.append(job)
        self._keep(kept)
        return taken

    def _keep(self, jobs: Sequence[Job]) -> None:
        self._jobs = deque(jobs)
        self._waiting = sum(job.rows for job in jobs)


def _settle(pairs: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in pairs:
        if future.done():  # given up in the meantime
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
