"""`scripts/benchmark.py` runs one benchmark by name and writes the record that the README quotes."""

import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from ..forked import run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"


def benchmark(*words):
    """`python scripts/benchmark.py WORDS`, in a process that was forked for it."""
    sys.argv, sys.path = [str(SCRIPT), *words], [str(SCRIPT.parent), *sys.path]
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The table and the JSON rows of the cheapest benchmark."""
    file = tmp_path_factory.mktemp("benchmark") / "rows.json"
    words = ["--quick", "--only", "ease_fit_ml1m", "--json", str(file)]
    finished = run(benchmark, *words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads(file.read_text())


def test_each_json_row_has_the_promised_keys(measured):
    _, rows = measured
    assert [set(row) for row in rows] == [{"name", "ours", "reference", "ratio", "target", "unit", "threads"}]


def test_the_name_says_that_a_quick_run_used_small_generated_data(measured):
    _, (row,) = measured
    assert row["name"] == "ease_fit_ml1m (quick, synthetic)"
    assert row["ours"] > 0
    assert row["threads"] == 1


def test_an_absolute_target_has_no_reference(measured):
    _, (row,) = measured
    assert (row["reference"], row["ratio"], row["target"]) == (None, None, "ours <= 4")


def test_the_table_names_the_machine_and_says_whether_the_target_is_met(measured):
    table, _ = measured
    assert "torch" in table.splitlines()[0] and "threads: 1" in table.splitlines()[0]
    assert table.splitlines()[-1].endswith("met")


def test_an_unknown_name_is_refused_with_the_list_of_names():
    finished = run(benchmark, "--only", "speed")
    assert finished.returncode == 2
    assert "bpr_epoch_8192" in finished.stderr
