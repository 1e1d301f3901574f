"""`scripts/benchmark.py` runs every benchmark and writes the record that the README quotes."""

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


ABSOLUTE = {
    "bpr_peak_memory", "compare_500_runs_memory", "report_500_runs", "growth_prepare", "growth_prepare_memory",
    "growth_rank_memory", "lstm_reviews", "serve_overhead", "unknown_title_39000", "score_million",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The table and the JSON rows of one step of every benchmark."""
    file = tmp_path_factory.mktemp("benchmark") / "rows.json"
    words = ["--once", "--json", str(file), "--markdown", str(file.with_suffix(".md"))]
    finished = run(benchmark, *words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(file.read_text())
    table = file.with_suffix(".md").read_text(encoding="utf-8")
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == [f"| {row['name']}" for row in rows]
    return finished.stdout, rows


def test_every_benchmark_runs_and_names_itself_as_what_it_is(measured):
    """By hand: the rows that the README shows."""
    _, rows = measured
    names = """
        bpr_epoch_8192 bpr_epoch_2048 sasrec_epoch_50 sasrec_epoch_200 sasrec_sampled_50 gru4rec_epoch hstu_epoch
        lstm_epoch cnn_epoch cnn_augmented_epoch mobile_epoch cnn_bf16 bpr_peak_memory gru_epoch lstm_by_hand
        text_cnn_epoch text_transformer_epoch length_buckets lstm_reviews dcgan_epoch vae_epoch
        svdpp_epoch ials_sweep_64 ials_sweep_128
        neumf_epoch item_knn_fit lightgcn_epoch nbsvm_imdb predict_nbsvm predict_fasttext
        ml1m_raw ml1m_cache imdb_raw imdb_cache posters_decode posters_cache full_ranking_ml1m
        ease_fit_ml1m recommend_all_6040_top100 predict_lstm predict_poster_cnn predict_sasrec
        serve_overhead serve_64_clients serve_64_clients_wall serve_64_clients_sasrec unknown_title_39000
        onnx_lstm onnx_sasrec onnx_poster_cnn score_6040 score_million growth_prepare
        growth_prepare_memory growth_rank_memory growth_prepare_linear growth_bpr_linear growth_ials_linear
        growth_rank_linear plan_1000_jobs sweep_job_overhead ls_10000_runs ledger_rebuild_10000 compare_500_runs
        compare_500_runs_memory report_500_runs gpt_epoch lstm_lm_epoch gpt_write gpt_write_cached
        game_moves ppo_epoch dqn_epoch ease_update_100_users
    """.split()
    assert [row["name"] for row in rows] == [f"{name} (once, synthetic)" for name in names]


def test_a_target_is_a_number_for_the_ratio_to_what_is_run_beside_it(measured):
    _, rows = measured
    keys = {"name", "ours", "reference", "ratio", "of", "target", "unit", "beside", "threads"}
    assert all(set(row) == keys and row["threads"] == 1 for row in rows)
    for row in rows:
        absolute = row["name"].split()[0] in ABSOLUTE
        assert isinstance(row["target"], (int, float))
        assert (row["of"], row["reference"] is None, row["beside"] == "") == (
            ("ours", True, True) if absolute else ("ratio", False, False)
        )


def test_the_table_names_the_machine_and_says_whether_each_target_is_met(measured):
    table, rows = measured
    head, *lines = table.rpartition("\n\n")[0].splitlines()
    lines = [line for line in lines if not line.startswith(" ")]  # the curve of growth
    assert "torch" in head and "threads: 1" in head
    assert [line.split(": ")[-1] in ("met", "MISSED") for line in lines[-len(rows) :]] == [True] * len(rows)


def test_an_unknown_name_is_refused_with_the_list_of_names():
    finished = run(benchmark, "--only", "speed")
    assert finished.returncode == 2
    assert "bpr_epoch_8192" in finished.stderr
