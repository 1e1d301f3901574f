"""Where does the right one stand among several candidates?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator


class RetrievalEvaluator(Evaluator):
    """Recall@k and the mean reciprocal rank of one right candidate, in expectation over ties.

    ks      cut-offs of recall
    suffix  what the metrics' names say of the candidates: `_uniform99`, 99 wrong ones drawn uniformly
    unit    the name of the table's first column

    With `above` candidates scored higher and `equal` scored alike, the right one stands at each of the places above + 1
    ... above + equal + 1 with the same probability.
    """

    def __init__(self, ks: Sequence[int], suffix: str, unit: str = "pair"):
        self.ks, self.suffix, self.unit = tuple(ks), suffix, unit
        self._seen: list[np.ndarray] = []

    def update(self, scores: Tensor, batch: Any) -> None:
        """Take scores [n, candidates]. The batch has the units' numbers `index` [n], the right candidates' columns
        `right` [n], and `same`, bool [n, candidates]: which candidates are that one over again."""
        same = batch.same
        if not bool(scores.isfinite().all()):
            raise JobError(
                "The model gave NaN or infinite scores. Lower the learning rate (optimizer.lr=...), clip gradients "
                "(trainer.gradient_clip_val=1) or use trainer.precision=32."
            )
        of_right = scores.gather(1, batch.right[:, None])
        above = ((scores > of_right) & ~same).sum(dim=1)
        equal = ((scores == of_right) | same).sum(dim=1) - 1
        self._seen.append(np.stack([part.cpu().numpy() for part in (batch.index, above, equal)], axis=1))

    def state(self) -> dict[str, np.ndarray]:
        return {"ranks": np.concatenate(self._seen) if self._seen else np.zeros((0, 3), dtype=np.int64)}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        joined = np.concatenate([state["ranks"] for state in states])
        index, above, equal = joined[np.argsort(joined[:, 0], kind="stable")].T
        columns = {
            f"recall@{k}{self.suffix}": np.clip((k - above) / (equal + 1), 0, 1) for k in self.ks
        } | {f"mrr{self.suffix}": reciprocal(above, equal)}  # fmt: skip
        return {name: float(values.mean()) for name, values in columns.items()}, pd.DataFrame(
            {self.unit: index, **columns}
        )


def reciprocal(above: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """The expected 1 / rank: the mean of 1 / r over r = above + 1 ... above + equal + 1."""
    if not len(above):
        return np.zeros(0)
    sums = np.r_[0, np.cumsum(1 / np.arange(1, int((above + equal).max()) + 2))]
    return (sums[above + equal + 1] - sums[above]) / (equal + 1)
