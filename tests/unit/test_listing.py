"""ls, show and diff: whole words in a pipe, eighty columns at a terminal."""

import json
import re
import sys

import pytest

from marquee.runs.listing import compare, diff_runs, flat, list_runs, show_run
from marquee.runs.record import Run
from marquee.runs.terminal import table


@pytest.fixture
def pair(tmp_path):
    runs = []
    for number in (1, 2):
        config = {
            "seed": number,
            "model": {"_target_": "marquee.models.mf.bpr.BPR", "view": {"batch_size": 8 * number}},
        }
        content = {
            "config": config,
            "seed": number,
            "overrides": [f"seed={number}"],
            "code": {"version": "0.1.0", "commit": "a" * 40},
        }
        run = Run.create(tmp_path, f"{number}" * 64, "world-ratings-bpr", content)
        metrics = {"test/ndcg@10": 0.1 * number, "test/recall@10": 0.25}
        baselines = {"baseline/popular": {"ndcg@10": 0.05, "recall@10": 0.1}}
        run.finish("finished", metrics=metrics, baselines=baselines, oracle={"ndcg@10": 0.9}, monitor="ndcg@10")
        runs.append(run)
    return tmp_path, *runs


def test_ls_shows_each_run_with_the_metric_its_task_watched(pair, capsys):
    output, *_ = pair
    list_runs(output)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "11111111-world-ratings-bpr" in lines[1]
    assert "ndcg@10 0.1000" in lines[1]


def test_ls_filters_and_speaks_json(pair, capsys):
    output, *_ = pair
    list_runs(output, last=1, as_json=True)
    assert [run["seed"] for run in json.loads(capsys.readouterr().out)] == [2]
    list_runs(output, status="failed")
    assert "No failed runs" in capsys.readouterr().out


def test_show_puts_metrics_beside_baselines_and_oracle(pair, capsys):
    show_run(pair[1].folder)
    text = capsys.readouterr().out
    assert "marquee train seed=1" in text
    line = next(line for line in text.splitlines() if line.startswith("ndcg@10"))
    assert line.split() == ["ndcg@10", "0.1000", "0.0500", "0.9000"]
    assert "model.view.batch_size" in text
    show_run(pair[1].folder, as_json=True)
    assert json.loads(capsys.readouterr().out)["seed"] == 1


def test_diff_names_changed_keys_and_metric_deltas(pair, capsys):
    difference = compare(pair[1].manifest, pair[2].manifest)
    assert difference["config"] == {"seed": [1, 2], "model.view.batch_size": [8, 16]}
    assert difference["code"] == {}
    assert difference["metrics"]["test/recall@10"] == [0.25, 0.25]
    diff_runs(pair[1].folder, pair[2].folder)
    text = capsys.readouterr().out
    assert "+0.1000" in text
    assert "model.view.batch_size" in text


def test_tables_fit_eighty_columns_at_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table(["run", "metric"], [["x" * 120, "0.5"], ["short", "0.25"]], numbers=True)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("x") for line in lines) == 120, "nothing is cut off"


def test_flat_keeps_lists_and_empty_mappings_as_values():
    assert flat({"a": {"b": [1, 2], "c": {}}, "d": None}) == {"a.b": [1, 2], "a.c": {}, "d": None}
