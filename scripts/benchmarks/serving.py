"""Ranking everything for everybody, the closed form, and predictions from a finished run."""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Benchmark, Measured, cpu_seconds, median_of
from benchmarks.workspace import Kind, Workspace

REVIEW = "A slow start, but the last act is wonderful, and the leads carry every scene they are in. " * 12


def full_ranking(space: Workspace) -> Measured:
    """All metrics for all users, from batches to the table, without the time that the model takes to score."""
    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=mf/bpr")
    task = prepare_task(config, prepare_data(config)).eval()
    seconds = []
    for _ in range(space.runs + 1):
        scorer = TimedScorer(task.model)
        start = cpu_seconds()
        task.evaluate(scorer, "test")
        seconds.append(cpu_seconds() - start - scorer.seconds)
    return Measured(statistics.median(seconds[1:]), synthetic=space.source("ratings").synthetic)


class TimedScorer:
    """Scores as the model does and knows how long that took."""

    def __init__(self, model: Any):
        self.model = model
        self.seconds = 0.0

    def score(self, users: Any, histories: Any) -> Any:
        start = cpu_seconds()
        scores = self.model.score(users, histories)
        self.seconds += cpu_seconds() - start
        return scores


def ease_fit(space: Workspace) -> Measured:
    """From the training interactions to the weights."""
    import torch

    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=linear/ease")
    data = prepare_data(config)
    model = prepare_task(config, data).model

    @torch.no_grad()
    def fit() -> None:
        for batch in model.view.train_batches(data, 1, 0):
            model.fit(batch)

    return Measured(median_of(3, fit), synthetic=space.source("ratings").synthetic)


def recommend_all(space: Workspace) -> Measured:
    predictor = _trained(space, "ratings", "model=mf/bpr")
    predictor.recommend(k=10)
    seconds = median_of(space.runs, lambda: predictor.recommend(k=100))
    return Measured(seconds, synthetic=space.source("ratings").synthetic)


def latency(kind: Kind, model: str, request: Callable[[Any, Workspace], Callable[[], Any]]):
    """The median wall-clock milliseconds of one request to a loaded predictor."""

    def run(space: Workspace) -> Measured:
        ask = request(_trained(space, kind, f"model={model}"), space)
        milliseconds = []
        for _ in range(33):
            start = time.perf_counter()
            ask()
            milliseconds.append(1000 * (time.perf_counter() - start))
        return Measured(statistics.median(milliseconds[3:]), synthetic=space.source(kind).synthetic)

    return run


def one_text(predictor: Any, space: Workspace) -> Callable[[], Any]:
    return lambda: predictor.predict([REVIEW])


def one_poster(predictor: Any, space: Workspace) -> Callable[[], Any]:
    """A JPEG file of a poster's size."""
    import numpy as np
    from PIL import Image

    file = space.folder / "one.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (19, 13, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((102, 150)).save(file, quality=85)
    return lambda: predictor.predict([file])


def one_history(predictor: Any, space: Workspace) -> Callable[[], Any]:
    history = predictor.items["item_id"].tolist()[:50]
    return lambda: predictor.recommend(histories=[history], k=10)


def _trained(space: Workspace, kind: Kind, *words: str) -> Any:
    """The predictor of a run of a few batches: what it says is worth nothing, what it costs is real."""
    from marquee.apply.predictor import load
    from marquee.runs.train import train

    with contextlib.redirect_stdout(io.StringIO()):
        manifest = train(space.config(kind, "trainer=smoke", *words))
    return load(manifest["id"], space.folder / "outputs")


BENCHMARKS = [
    Benchmark("full_ranking_ml1m", "ours", 0.5, "CPU s", full_ranking),
    Benchmark("ease_fit_ml1m", "ours", 4, "CPU s", ease_fit),
    Benchmark("recommend_all_6040_top100", "ours", 0.6, "CPU s", recommend_all),
    Benchmark("predict_lstm", "ours", 50, "ms", latency("reviews", "rnn/lstm", one_text)),
    Benchmark("predict_poster_cnn", "ours", 50, "ms", latency("posters", "cnn/poster", one_poster)),
    Benchmark("predict_sasrec", "ours", 50, "ms", latency("sequences", "transformer/sasrec", one_history)),
]
