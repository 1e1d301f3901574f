"""Exported models beside torch, one input at a time, and batch scoring beside a loop by hand."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.serving import SASREC, trained
from benchmarks.workspace import Kind, Workspace

LENGTH = 200  # words of a text


def graph_latency(kind: Kind, model: str, inputs: Callable[[Any], dict[str, Any]]):
    """The median milliseconds of one input through the ONNX graph; beside it the same network in torch."""

    def run(space: Workspace) -> Measured:
        import torch

        from marquee.apply.exporting.graphs import graph_of
        from marquee.apply.exporting.onnx_file import write_onnx
        from marquee.inference.portable.artefact import Artefact

        predictor = trained(space, kind, f"model={model}")
        graph = graph_of(predictor.model, predictor.spec, "run")
        folder = space.folder / f"onnx-{kind}"
        (folder / "inference").mkdir(parents=True, exist_ok=True)
        told = {"run": "run", "fingerprint": "none", "settings": {}}
        artefact = Artefact(write_onnx(graph, folder / "inference", folder, told, int8=False))
        given = inputs(predictor)
        arrays = {name: tensor.numpy() for name, tensor in given.items()}
        network = PLAIN[graph.kind](predictor.model)

        @torch.no_grad()
        def torchs() -> None:
            network(*given.values())

        found = in_turns(space.of(30, 30, 1), lambda: artefact.run(**arrays), torchs, clock=time.perf_counter)
        return Measured(*(1000 * seconds for seconds in found), synthetic=space.source(kind).synthetic)

    return run


def _scores(model: Any) -> Callable:
    return lambda items, lengths: model.newest(items, lengths) @ model.output().T


def _texts(model: Any) -> Callable:
    from marquee.data.text.views import TextBatch

    return lambda tokens, lengths: model(TextBatch(tokens, lengths, lengths, lengths))


def _images(model: Any) -> Callable:
    from marquee.data.images.views import ImageBatch

    return lambda images: model(ImageBatch(images, images, images))


PLAIN: dict[str, Callable[[Any], Callable]] = {"recommender": _scores, "text": _texts, "image": _images}


def one_history(predictor: Any) -> dict[str, Any]:
    import torch

    n = min(50, predictor.model.reads)
    return {"items": torch.arange(n)[None] % predictor.spec.n_items, "lengths": torch.tensor([n])}


def one_text(predictor: Any) -> dict[str, Any]:
    import torch

    return {"tokens": torch.arange(LENGTH)[None] % predictor.spec.vocab_size, "lengths": torch.tensor([LENGTH])}


def one_image(predictor: Any) -> dict[str, Any]:
    import torch

    spec = predictor.spec
    return {"images": torch.zeros(1, spec.channels, spec.height, spec.width, dtype=torch.uint8)}


def _score(space: Workspace) -> tuple[Callable[[], None], Callable[[], None], int]:
    """Every user's ten best into Parquet, by `marquee score` and by hand; how many scores that takes."""
    import pandas as pd
    import torch

    from marquee.apply.scoring.parts import score
    from marquee.runs.finding import find_run

    predictor = trained(space, "ratings", "model=mf/bpr")
    folder, out = find_run("latest", space.folder / "outputs"), space.folder / "scored"
    users, items = (table.weight.detach() for table in (predictor.model.users, predictor.model.items))
    known = predictor.known

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        score(folder, None, out, 10, "local")

    @torch.no_grad()
    def by_hand() -> None:
        parts, size = [], max(1, 2_000_000 // len(items))
        for start in range(0, len(users), size):
            scores = users[start : start + size] @ items.T
            offsets = torch.from_numpy(known.offsets[start : start + size + 1])
            seen = torch.from_numpy(known.items[int(offsets[0]) : int(offsets[-1])]).long()
            rows = torch.repeat_interleave(torch.arange(len(scores)), offsets.diff())
            scores[rows, seen] = -torch.inf
            best, index = scores.topk(10)
            ids = known.item_ids[index.numpy()]
            own = predictor.users[start : start + size]
            parts.append(pd.DataFrame({"user": own, "items": list(ids), "scores": list(best.numpy())}))
        pd.concat(parts).to_parquet(Path(space.folder / "by_hand.parquet"), index=False)

    return ours, by_hand, len(users) * len(items)


def score_overhead(space: Workspace) -> Measured:
    """CPU seconds to score everybody, with the part in its place."""
    ours, by_hand, _ = _score(space)
    ours()  # the run is loaded once a process
    return Measured(*in_turns(space.runs, ours, by_hand), synthetic=space.source("ratings").synthetic)


def score_throughput(space: Workspace) -> Measured:
    """CPU seconds a million scores: 0.05 are 20 million scores a core-second."""
    ours, _, cells = _score(space)
    ours()
    times = []
    for _ in range(space.runs):
        start = cpu_seconds()
        ours()
        times.append(cpu_seconds() - start)
    return Measured(sorted(times)[len(times) // 2] / (cells / 1e6), synthetic=space.source("ratings").synthetic)


BENCHMARKS = [
    Benchmark("onnx_lstm", "ratio", 1, "ms", "torch", graph_latency("reviews", "rnn/lstm", one_text)),
    Benchmark("onnx_sasrec", "ratio", 1, "ms", "torch", graph_latency("sequences", SASREC, one_history)),
    Benchmark("onnx_poster_cnn", "ratio", 1, "ms", "torch", graph_latency("posters", "cnn/poster", one_image)),
    Benchmark("score_6040", "ratio", 1.25, "CPU s", "loop by hand", score_overhead),
    Benchmark("score_million", "ours", 0.05, "CPU s", "", score_throughput),
]
