"""Which metrics are better when they are larger or smaller. Imports nothing heavy."""

import re
from collections.abc import Mapping
from typing import Literal

HIGHER = (
    "ndcg", "hit_rate", "recall", "precision", "f1", "mrr", "map", "coverage", "accuracy", "auroc", "average_precision",
    "recall_min", "ndcg_fullk", "auc", "entropy", "serendipity", "diversity", "accuracy_covered",
    "in_scope_accuracy", "out_of_scope_recall", "out_of_scope_precision", "out_of_scope_f1",
)  # fmt: skip
LOWER = (
    "log_loss", "calibration_error", "rmse", "mae", "perplexity", "loss", "gini", "miscalibration", "cost",
    "risk_coverage_area", "false_positive_rate", "false_negative_rate",
)  # fmt: skip
NEITHER = ("mean_popularity", "novelty", "tail_share", "popularity_lift", "distinct_1", "distinct_2",
           "distinct_3", "unknown_words", "longest_copy", "reading_speed")  # fmt: skip
CANDIDATES = re.compile(r"_(uniform|popular|given)\d*$")  # what a metric's name says of what was ranked


def direction(metric: str, own: Mapping[str, str] | None = None) -> Literal["max", "min"] | None:
    """`max` or `min`, what is better of a metric (`ndcg@10`, `f1_macro`); None where neither is, or nobody says.

    `own` is what a task says of its metrics (`Task.directions`), by the whole name or by what stands before the @.
    """
    name = CANDIDATES.sub("", metric.partition("@")[0].partition("[")[0])
    if name.startswith("gap_"):
        return "min"
    said = (own or {}).get(metric) or (own or {}).get(name)
    if said in ("max", "min"):
        return said
    name = name.removesuffix("_macro").removesuffix("_micro")
    return "max" if name in HIGHER else "min" if name in LOWER else None


def neither(metric: str) -> bool:
    """Whether neither more nor less of a metric is better, as opposed to not being known."""
    return CANDIDATES.sub("", metric.partition("@")[0]) in NEITHER
