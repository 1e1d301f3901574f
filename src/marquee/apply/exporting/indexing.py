"""Build the index of an exported recommender, and measure what it loses: neighbours, and the run's test metric."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.apply.exporting.graphs import Graph
from marquee.apply.exporting.onnx_file import write_query
from marquee.apply.exporting.parity import task_of
from marquee.apply.updating.judging import Projected
from marquee.data.interactions.histories import Histories
from marquee.errors import ConfigError
from marquee.inference.portable.artefact import runtime_of
from marquee.inference.portable.index import INDEX, QUERY, TOLD, ItemIndex, faiss_of
from marquee.inference.portable.recommender import PortableRecommender
from marquee.inference.predictor import Predictor
from marquee.runs.record import Run, now

RECALL, K = 0.99, 100  # the share of the exact K best that must be found, mean over the users of the test
USERS = 1000  # of the test, that recall is measured on


def add_index(
    graph: Graph, predictor: Predictor, artefact: Predictor, made: Path, run: Run, least: int
) -> dict[str, Any]:
    """Write the index into the export's folder, if it is good enough; what is told of it in export.json.

    least  items from which on there is an index at all

    Raises ConfigError for a model whose scores are no products of vectors.
    """
    if not isinstance(artefact, PortableRecommender) or graph.items is None:
        raise ConfigError(
            f"--index: the scores of {type(predictor.model).__name__} are no products of vectors, which an index "
            "needs. Leave --index out: all items are scored."
        )
    n = len(graph.items)
    if n < least:
        return {
            "used": False,
            "told": f"not made: {n:,} items are searched exactly in no more time (--index-from {least})",
        }
    faiss = faiss_of()
    vectors = np.ascontiguousarray(graph.items.detach().float().numpy())
    lists = max(1, min(round(4 * math.sqrt(n)), n // 39))  # faiss asks for 39 points a centre
    searcher = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT
    )
    searcher.train(vectors)
    searcher.add(vectors)
    write_query(graph, made / QUERY)
    index = ItemIndex(searcher, runtime_of().InferenceSession(str(made / QUERY), providers=["CPUExecutionProvider"]))
    task, project = task_of(run.folder, run.manifest, predictor.model)
    queries = _queries(task, artefact, index, project)
    exact = queries @ vectors.T
    k = min(K, n)
    wanted = np.argpartition(-exact, k - 1, axis=1)[:, :k]
    recall = 0.0
    for probes in _doubling(lists):
        searcher.nprobe = probes
        found = searcher.search(queries, k)[1]
        recall = float(np.mean([len(np.intersect1d(one, two)) / k for one, two in zip(wanted, found)]))
        if recall >= RECALL:
            break
    told: dict[str, Any] = {"recall": recall, "k": k, "lists": lists, "nprobe": searcher.nprobe, "items": n,
                            "users_measured": len(queries)}  # fmt: skip
    if recall < RECALL or (searcher.nprobe >= lists > 1):
        (made / QUERY).unlink()
        probed = f"{searcher.nprobe} of {lists} lists"
        return {**told, "used": False, "told": f"not used: recall@{k} {recall:.4f} with {probed}; all items are scored"}
    with torch.no_grad():
        before = task.evaluate(project(_Exact(artefact)), "test")[0][task.monitor]
        after = task.evaluate(project(_Indexed(artefact, index, max(task.ks))), "test")[0][task.monitor]
    told |= {"metric": task.monitor, "exact": before, "indexed": after, "loss": before - after}
    faiss.write_index(searcher, str(made / INDEX))
    content = {**told, "run": run.manifest["id"], "fingerprint": run.manifest["fingerprint"], "at": now()}
    (made / TOLD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return {**told, "used": True, "told": f"recall@{k} {recall:.4f} with {searcher.nprobe} of {lists} lists; test "
                                         f"{task.monitor} {before:.6f} -> {after:.6f}"}  # fmt: skip


def _doubling(lists: int) -> list[int]:
    return [2**power for power in range(lists.bit_length()) if 2**power < lists] + [lists]


def _queries(task: Any, artefact: PortableRecommender, index: ItemIndex, project: Callable[[Any], Any]) -> np.ndarray:
    """Vectors [users, dim] of the first users of the test."""
    found, n, seen = [], 0, project(_Exact(artefact))
    for batch in task.evaluation_batches("test"):
        own = (batch.users, batch.histories)
        asked = seen.asked(*own) if isinstance(seen, Projected) else own
        found.append(index.vectors(artefact.feeds(*_arrays(*asked))))
        n += len(found[-1])
        if n >= USERS:
            break
    return np.concatenate(found)[:USERS]


def _arrays(users: Tensor, histories: Histories) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    times = None if histories.times is None else histories.times.numpy()
    return users.numpy(), histories.items.numpy(), histories.offsets.numpy(), times


class _Exact:
    """Scores of all items, from the artefact."""

    def __init__(self, artefact: PortableRecommender):
        self.artefact = artefact

    def score(self, users: Tensor, histories: Histories) -> Tensor:
        return torch.from_numpy(np.array(self.artefact.scores(*_arrays(users, histories))))


class _Indexed(_Exact):
    """Likewise, but what the index does not find for a list of `k` items lies below all others."""

    def __init__(self, artefact: PortableRecommender, index: ItemIndex, k: int):
        super().__init__(artefact)
        self.index, self.k = index, k

    def score(self, users: Tensor, histories: Histories) -> Tensor:
        scores = super().score(users, histories)
        arrays = _arrays(users, histories)
        items, best, _ = self.index.best(self.artefact.feeds(*arrays), self.k, arrays[1], arrays[2])
        rows = np.broadcast_to(np.arange(len(items))[:, None], items.shape)[np.isfinite(best)]
        kept = torch.full_like(scores, float(scores.min()) - 1)
        kept[rows, items[np.isfinite(best)]] = scores[rows, items[np.isfinite(best)]]
        return kept
