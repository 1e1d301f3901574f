"""Data from its raw files to the first training batch, and the same once it is prepared in the cache."""

from collections.abc import Callable

from benchmarks.measure import Benchmark, Measured, median_of
from benchmarks.workspace import Kind, Workspace


def prepare(space: Workspace, kind: Kind, *words: str) -> Callable[[], object]:
    """An action: set the data up, as a run does, and make the first batch of the model's view."""
    from marquee.runs.train import prepare_data

    config = space.config(kind, *words)
    view = _view(config)

    def action() -> object:
        data = prepare_data(config)
        return next(iter(view.train_batches(data, 1, 0)))

    return action


def from_raw(kind: Kind, *words: str) -> Callable[[Workspace], Measured]:
    def run(space: Workspace) -> Measured:
        action = prepare(space, kind, *words)
        seconds = median_of(3, action, before=lambda: space.empty_cache(kind))
        return Measured(seconds, synthetic=space.source(kind).synthetic)

    return run


def from_cache(kind: Kind, *words: str) -> Callable[[Workspace], Measured]:
    def run(space: Workspace) -> Measured:
        action = prepare(space, kind, *words)
        action()  # fills the cache if no benchmark has done so
        return Measured(median_of(space.runs, action), synthetic=space.source(kind).synthetic)

    return run


def _view(config: dict) -> object:
    from marquee.config.build import build

    return build(config["model"]["view"])


BENCHMARKS = [
    Benchmark("ml1m_raw", "ours", 3, "CPU s", from_raw("ratings", "model=mf/bpr")),
    Benchmark("ml1m_cache", "ours", 0.3, "CPU s", from_cache("ratings", "model=mf/bpr")),
    Benchmark("imdb_raw", "ours", 30, "CPU s", from_raw("reviews", "model=rnn/lstm")),
    Benchmark("imdb_cache", "ours", 1, "CPU s", from_cache("reviews", "model=rnn/lstm")),
    Benchmark("posters_decode", "ours", 30, "CPU s", from_raw("posters", "model=cnn/poster")),
    Benchmark("posters_cache", "ours", 0.5, "CPU s", from_cache("posters", "model=cnn/poster")),
]
