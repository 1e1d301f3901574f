"""Which metrics are better when they are smaller, and of which neither can be said. Imports nothing heavy."""

from typing import Literal

LOWER = ("log_loss", "calibration_error", "rmse", "mae", "perplexity", "loss")
NEITHER = ("mean_popularity",)


def direction(metric: str) -> Literal["max", "min"] | None:
    """`max` or `min`, what is better of a metric (`ndcg@10`); None where neither is. A name not listed is `max`."""
    name = metric.partition("@")[0]
    return None if name in NEITHER else "min" if name in LOWER else "max"
