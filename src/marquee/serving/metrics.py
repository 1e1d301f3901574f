"""What a service counts, in a registry of its own, for `/metrics`."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Requests, batches, the queue, reloads and the shadow."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int], working: Callable[[], int]):
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("marquee_requests", "Requests answered.", ["endpoint", "status"], **own)
        self.seconds = Histogram(
            "marquee_request_seconds", "From request to answer.", ["endpoint"], buckets=SECONDS, **own
        )
        self.rows = Histogram("marquee_batch_rows", "Rows that the model was given at once.", buckets=ROWS, **own)
        self.waiting = Gauge("marquee_queue", "Requests that wait for the model.", **own)
        self.waiting.set_function(waiting)
        self.working = Gauge("marquee_working", "Requests that have arrived and are not answered.", **own)
        self.working.set_function(working)
        self.ready = Gauge("marquee_ready", "1 where the golden requests came out as at training.", **own)
        self.run = Gauge("marquee_run", "1 for the run that is served.", ["run", "fingerprint", "model"], **own)
        self.reloads = Counter("marquee_reloads", "Newer runs that were taken over, refused or failed.",
                               ["outcome"], **own)  # fmt: skip
        self.overlap = Histogram(
            "marquee_shadow_overlap", "Share of the recommended items that the shadow recommends, too.", ["k"],
            buckets=[tenth / 10 for tenth in range(11)], **own,
        )  # fmt: skip
        self.shadowed = Counter("marquee_shadow_requests", "Requests that the shadow was asked, by what came of it.",
                                ["outcome"], **own)  # fmt: skip

    def serves(self, run: str, fingerprint: str, model: str) -> None:
        self.run.clear()
        self.run.labels(run, fingerprint, model).set(1)

    def text(self) -> bytes:
        return generate_latest(self.registry)
