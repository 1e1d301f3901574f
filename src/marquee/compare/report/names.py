"""Names as the field writes them: metrics, costs, models."""

import re
from collections.abc import Sequence

METRICS = {
    "ndcg": "NDCG", "hit_rate": "HR", "recall": "Recall", "precision": "Precision", "f1": "F1", "mrr": "MRR",
    "map": "MAP", "coverage": "Coverage", "mean_popularity": "Mean popularity", "accuracy": "Accuracy",
    "auroc": "AUROC", "log_loss": "Log loss", "calibration_error": "Calibration error", "rmse": "RMSE", "mae": "MAE",
    "f1_macro": "Macro F1", "macro_f1": "Macro F1", "loss": "Loss",
}  # fmt: skip

# What a configuration costs: field or key -> (heading, its unit as one writes it behind a number).
COSTS = {
    "parameters": ("Parameters", ""),
    "fit_seconds": ("Training time", "s"),
    "best_epoch": ("Epochs to best", ""),
    "latency_ms": ("Inference latency", "ms"),
    "batch_latency_ms": ("Inference latency among many", "ms"),
    "peak_memory_mb": ("Peak memory", "MB"),
    "size_mb": ("Size", "MB"),
    "energy_j": ("Energy", "J"),
}


def metric_title(metric: str) -> str:
    """`ndcg@10` is NDCG@10; a metric that is not listed keeps its name, with spaces."""
    name, at, cut = metric.partition("@")
    return METRICS.get(name, name.replace("_", " ")) + at + cut


def cost_title(cost: str) -> str:
    """`fit_seconds` is Training time (s)."""
    heading, unit = COSTS[cost]
    return f"{heading} ({unit})" if unit else heading


def setting_title(key: str) -> str:
    """A key in full; that of a class without its `_target_`."""
    return key.removesuffix("._target_")


def brief_setting(key: str, value: object) -> str:
    """A value for a table: a class by its own name, a missing or null value as a dash."""
    if value is None:
        return "-"
    if key.endswith("_target_") and isinstance(value, str):
        return value.rpartition(".")[2]
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def brief_labels(labels: Sequence[str]) -> dict[str, str]:
    """{label: the same with numbers of three digits}, where these still tell them apart."""
    brief = [re.sub(r"\d+\.\d+(e[+-]?\d+)?", lambda found: f"{float(found[0]):.3g}", label) for label in labels]
    return dict(zip(labels, brief if len(set(brief)) == len(labels) else labels, strict=True))
