"""Ranking everything for everybody, the closed form, and predictions from a finished run."""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.workspace import Kind, Workspace

SASREC = "transformer/sasrec"
REVIEW = "A slow start, but the last act is wonderful, and the leads carry every scene they are in. " * 12


def full_ranking(space: Workspace) -> Measured:
    """All metrics for all users, from batches to the table, without the time that the model takes to score.

    Beside it: the seen items masked and one bare `topk`, on scores that are ready.
    """
    import torch

    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=mf/bpr")
    task = prepare_task(config, prepare_data(config)).eval()
    with torch.no_grad():
        ready = [
            (task.scores(task.model, batch), batch.histories.rows(), batch.histories.items)
            for batch in task.evaluation_batches("test")
        ]
    ours, theirs = [], []
    for _ in range(space.runs + 1):
        scorer = TimedScorer(task.model)
        start = cpu_seconds()
        task.evaluate(scorer, "test")
        ours.append(cpu_seconds() - start - scorer.seconds)
        start = cpu_seconds()
        for scores, rows, items in ready:
            masked = scores.clone()
            masked[rows, items] = -torch.inf
            masked.topk(20)
        theirs.append(cpu_seconds() - start)
    return Measured(statistics.median(ours[1:]), statistics.median(theirs[1:]), space.source("ratings").synthetic)


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
    """From the training interactions to the weights; beside it the bare product, Cholesky and inverse."""
    import torch

    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("ratings", "model=linear/ease")
    data = prepare_data(config)
    model = prepare_task(config, data).model
    (batch,) = model.view.train_batches(data, 1, 0)
    dense = torch.zeros(data.spec.n_users, data.spec.n_items)
    dense[batch.users, batch.items] = 1

    @torch.no_grad()
    def fit() -> None:
        for batch in model.view.train_batches(data, 1, 0):
            model.fit(batch)

    def bare() -> None:
        gram = dense.T @ dense
        gram.diagonal().add_(model.l2)
        torch.cholesky_inverse(torch.linalg.cholesky(gram))

    return Measured(*in_turns(space.of(3, 3, 1), fit, bare), synthetic=space.source("ratings").synthetic)


def recommend_all(space: Workspace) -> Measured:
    """Every user's 100 best; beside it one bare product of vectors and `topk`."""
    predictor = trained(space, "ratings", "model=mf/bpr")
    predictor.recommend(k=10)
    users, items = (table.weight.detach() for table in (predictor.model.users, predictor.model.items))
    found = in_turns(space.runs, lambda: predictor.recommend(k=100), lambda: (users @ items.T).topk(100))
    return Measured(*found, synthetic=space.source("ratings").synthetic)


def latency(kind: Kind, model: str, request: Callable[[Any, Workspace], Callable[[], Any]]):
    """The median milliseconds of one request to a loaded predictor; beside it a bare forward pass on a ready batch."""

    def run(space: Workspace) -> Measured:
        import torch

        predictor = trained(space, kind, f"model={model}")
        ask, inputs = request(predictor, space), []
        method = "forward" if hasattr(predictor.model, "classifier") or kind == "reviews" else "score"
        own = getattr(predictor.model, method)
        setattr(predictor.model, method, lambda *given: (inputs.append(given), own(*given))[1])
        ask()
        delattr(predictor.model, method)

        @torch.no_grad()
        def bare() -> None:
            own(*inputs[0])

        found = in_turns(space.of(30, 30, 1), ask, bare, clock=time.perf_counter)
        return Measured(*(1000 * seconds for seconds in found), synthetic=space.source(kind).synthetic)

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


def trained(space: Workspace, kind: Kind, *words: str) -> Any:
    """The predictor of a run of a few batches: what it says is worth nothing, what it costs is real."""
    from marquee.apply.predictor import load
    from marquee.runs.train import train

    with contextlib.redirect_stdout(io.StringIO()):
        manifest = train(space.config(kind, "trainer=smoke", *words))
    return load(manifest["id"], space.folder / "outputs")


BENCHMARKS = [
    Benchmark("full_ranking_ml1m", "ratio", 3, "CPU s", "mask and topk", full_ranking),
    Benchmark("ease_fit_ml1m", "ratio", 1.25, "CPU s", "product and Cholesky", ease_fit),
    Benchmark("recommend_all_6040_top100", "ratio", 2, "CPU s", "product and topk", recommend_all),
    Benchmark("predict_lstm", "ratio", 1.5, "ms", "forward pass", latency("reviews", "rnn/lstm", one_text)),
    Benchmark("predict_poster_cnn", "ratio", 2, "ms", "forward pass", latency("posters", "cnn/poster", one_poster)),
    Benchmark("predict_sasrec", "ratio", 8, "ms", "forward pass", latency("sequences", SASREC, one_history)),
]
