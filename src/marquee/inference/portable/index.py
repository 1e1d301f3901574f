"""Approximate search for the best items of a large catalogue: an inverted file of faiss beside an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marquee.errors import ConfigError, DataError
from marquee.inference.portable.artefact import Artefact, runtime_of, verify

INDEX, QUERY, TOLD = "items.faiss", "query.onnx", "index.json"


class ItemIndex:
    """Finds the items whose vectors have the largest products with a user's.

    searcher  of faiss
    query     a session whose graph puts out users' vectors, given what the model's graph is given
    """

    def __init__(self, searcher: Any, query: Any):
        self.searcher, self.query = searcher, query

    @classmethod
    def beside(cls, artefact: Artefact) -> "ItemIndex | None":
        """The index that lies beside a model; None where there is none, and all items are scored.

        Raises ConfigError where faiss is not installed, DataError for a damaged file.
        """
        folder: Path = artefact.path.parent
        if not (folder / TOLD).is_file():
            return None
        verify(folder, [INDEX, QUERY, TOLD])
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        if told["fingerprint"] != artefact.told["fingerprint"]:
            raise DataError(f"{folder / INDEX} is the index of another run, {told['run']}. Export the run again.")
        faiss = faiss_of()
        try:
            searcher = faiss.read_index(str(folder / INDEX))
            query = runtime_of().InferenceSession(str(folder / QUERY), providers=["CPUExecutionProvider"])
        except Exception as error:  # both packages have exceptions of their own
            raise DataError(f"{folder / INDEX} is damaged ({str(error)[:200]}). Export the run again.") from None
        searcher.nprobe = told["nprobe"]
        return cls(searcher, query)

    def vectors(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Float32 [batch, dim]."""
        return np.ascontiguousarray(self.query.run(None, dict(feeds))[0], dtype=np.float32)

    def best(
        self, feeds: Mapping[str, np.ndarray], k: int, seen: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items and scores [batch, k] without what was seen, and which rows are short of items, bool [batch].

        seen  flat items that are left out, between `offsets`; empty: nothing is
        """
        vectors, n = self.vectors(feeds), len(offsets) - 1
        longest = int(np.diff(offsets).max(initial=0)) if len(seen) else 0
        scores, items = self.searcher.search(vectors, min(k + longest, self.searcher.ntotal))
        keep = items >= 0
        if len(seen):
            width = self.searcher.ntotal
            cells = np.repeat(np.arange(n), np.diff(offsets)) * width + seen
            keep &= ~np.isin(np.arange(n)[:, None] * width + items, cells)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :k]  # kept ones first, in their order
        found = np.take_along_axis(keep, order, axis=1)
        best = np.where(found, np.take_along_axis(scores, order, axis=1), -np.inf)
        return np.where(found, np.take_along_axis(items, order, axis=1), 0), best, ~found.all(axis=1)


def faiss_of() -> Any:
    """The package faiss. Raises ConfigError where it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise ConfigError(
            "An index of items needs faiss, which comes with pip install 'marquee[export,index]'"
        ) from None
    return faiss
