"""Which direction of a metric is the better one."""

import subprocess
import sys

import pytest

from marquee.metrics.direction import direction


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("ndcg@10", "max"), ("accuracy", "max"), ("a_metric_of_a_plugin", None), ("log_loss", "min"),
        ("rmse", "min"), ("loss", "min"), ("mean_popularity@20", None),
    ],
)  # fmt: skip
def test_the_name_of_a_metric_says_what_is_better(metric, better):
    assert direction(metric) == better


def test_asking_for_a_direction_imports_no_torch():
    script = "import sys, marquee.metrics.direction; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
