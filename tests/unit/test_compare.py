"""The comparison: golden numbers, which differences are called significant, and what is said beside the tables."""

import csv
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from marquee.compare.analysis import compare, plural
from marquee.compare.formats import show, written
from marquee.errors import ConfigError
from marquee.metrics.direction import direction, neither

from ..finished_runs import write_run

USERS = 400


@pytest.fixture
def values():
    """Three models: good; as good as that, user by user by chance better or worse; and one that is clearly worse."""
    generator = np.random.default_rng(5)
    base = generator.random(USERS)
    noise = generator.normal(0, 0.05, USERS)
    return {"good": base, "same": base + noise - noise.mean() - 1e-4, "worse": base - 0.1 * generator.random(USERS)}


@pytest.fixture
def output(tmp_path, values):
    for seed, shift in ((1, 0.01), (2, -0.01), (3, 0.0)):
        write_run(tmp_path, "mf/bpr", seed, values["good"] + shift, validation=0.2, durations={"fit": 30.0})
        write_run(tmp_path, "rnn/gru4rec", seed, values["same"] + shift, validation=0.3, durations={"fit": 40.0})
    write_run(tmp_path, "linear/ease", 1, values["worse"], validation=0.1, durations={"fit": 1.0}, best_epoch=1)
    return tmp_path


def scores(result, metric=0):
    return {score.label: score for score in result.blocks[0].metrics[metric].scores}


def test_means_deviations_and_intervals_over_seeds(output, values):
    found = scores(compare([output]))
    good = found["mf/bpr"]
    mean = values["good"].mean()
    # Seeds at mean - 0.01, mean, mean + 0.01: standard deviation 0.01, half width 4.302653 * 0.01 / sqrt(3).
    assert (good.mean, good.sd) == pytest.approx((mean, 0.01))
    assert good.interval == pytest.approx((mean - 0.0248414, mean + 0.0248414), abs=1e-6)
    assert good.interval_over == "seeds"
    assert len(good.values) == 3


def test_one_seed_gets_an_interval_over_units_and_is_marked(output, values):
    result = compare([output])
    alone = scores(result)["linear/ease"]
    assert (alone.sd, alone.interval_over) == (None, "units")
    low, high = alone.interval
    normal = stats.norm.interval(0.95, values["worse"].mean(), stats.sem(values["worse"]))
    assert (low, high) == pytest.approx(normal, abs=0.003)
    assert any("With one seed" in note for note in result.blocks[0].notes)
    assert any("not all have the same seeds" in note for note in result.blocks[0].notes)


def test_only_real_differences_are_called_significant(output, values):
    found = scores(compare([output]))
    same, worse = found["rnn/gru4rec"].against_best, found["linear/ease"].against_best
    assert worse.significant
    assert not same.significant
    assert worse.difference == pytest.approx((values["worse"] - values["good"]).mean())
    # A second opinion: Wilcoxon agrees on which is which, and the t test on how sure.
    assert stats.wilcoxon(values["worse"] - values["good"]).pvalue < 0.001
    theirs = stats.ttest_rel(values["same"], values["good"]).pvalue
    assert same.p == pytest.approx(theirs, abs=0.03)
    assert worse.p_corrected == pytest.approx(1 / 10_000), "the smallest that 9,999 flips give"
    assert same.p_corrected == pytest.approx(same.p), (
        "the least significant of all pairs has nothing to be held against"
    )
    assert (worse.better, worse.worse) == (0.0, 1.0)
    low, high = worse.interval
    assert low < worse.difference < high < 0


def test_a_winner_is_named_only_where_it_differs_from_every_other(output, tmp_path):
    (metric,) = compare([output]).blocks[0].metrics
    assert (metric.best, metric.winner) == ("mf/bpr", None)
    for folder in output.glob("runs/*gru4rec*"):
        (folder / "manifest.json").unlink()
    (metric,) = compare([output]).blocks[0].metrics
    assert (metric.best, metric.winner) == ("mf/bpr", "mf/bpr")


def test_a_difference_that_the_seeds_do_not_bear_out_is_called_doubtful(tmp_path, values, capsys):
    for seed, shift in ((1, 0.1), (2, -0.04)):
        write_run(tmp_path, "mf/bpr", seed, values["good"] + shift)
        write_run(tmp_path, "linear/ease", seed, values["good"] + shift / 100)
    test = scores(compare([tmp_path]))["linear/ease"].against_best
    assert test.significant, "each user is better off, by 0.03 on average"
    assert test.p_seeds > 0.5
    show(compare([tmp_path]))
    assert "not beyond the spread of their seeds" in capsys.readouterr().out


def test_tests_against_a_reference_count_in_the_same_family(output):
    result = compare([output], reference="linear/ease")
    found = scores(result)
    assert result.blocks[0].tests == compare([output]).blocks[0].tests == 3, "all pairs of three, whoever is named"
    assert found["mf/bpr"].against_reference.difference == -found["linear/ease"].against_best.difference
    assert found["mf/bpr"].against_reference.better == found["linear/ease"].against_best.worse
    assert found["rnn/gru4rec"].against_reference.significant
    assert found["linear/ease"].against_reference is None


def test_units_are_matched_by_id_and_not_by_row(tmp_path, values):
    write_run(tmp_path, "mf/bpr", 1, values["good"])
    run = write_run(tmp_path, "linear/ease", 1, values["good"] - 0.01)
    file = run.folder / "per_unit.parquet"
    pd.read_parquet(file).sample(frac=1, random_state=0).to_parquet(file)
    test = scores(compare([tmp_path]))["linear/ease"].against_best
    assert test.worse == 1.0
    assert test.interval == pytest.approx((-0.01, -0.01), abs=1e-6)


def test_other_units_are_said_and_only_the_common_ones_tested(tmp_path, values):
    write_run(tmp_path, "mf/bpr", 1, values["good"])
    write_run(tmp_path, "linear/ease", 1, values["good"][:300] - 0.01)
    result = compare([tmp_path])
    assert any("300 of up to 400" in note for note in result.blocks[0].notes)
    assert scores(result)["linear/ease"].against_best.difference == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.unlink(), "does not exist"),
        (lambda file: file.write_bytes(b"PAR1 cut off"), "is not used"),
        (lambda file: pd.DataFrame({"user": [0, 0], "ndcg@10": [0.1, 0.2]}).to_parquet(file), "two rows of one user"),
        (lambda file: pd.DataFrame({"user": [0, 1], "ndcg@10": [0.1, 0.2]}).to_parquet(file), "the manifest says"),
        (lambda file: pd.DataFrame({"who": [0, 1], "ndcg@10": [0.1, 0.2]}).to_parquet(file), "no column user"),
    ],
)
def test_a_per_unit_table_that_cannot_be_trusted_is_not_used_and_the_run_stays(tmp_path, values, harm, said):
    write_run(tmp_path, "mf/bpr", 1, values["good"])
    harm(write_run(tmp_path, "linear/ease", 1, values["worse"]).folder / "per_unit.parquet")
    result = compare([tmp_path])
    assert scores(result)["linear/ease"].against_best is None
    assert scores(result)["linear/ease"].mean == pytest.approx(values["worse"].mean())
    notes = " ".join(result.blocks[0].notes)
    assert said in notes
    assert "no paired test of linear/ease" in notes
    assert result.blocks[0].metrics[0].winner is None


def test_a_metric_without_units_gets_no_test_and_says_so(output):
    result = compare([output], ["coverage@10", "test/ndcg@10"])
    block = result.blocks[0]
    assert [metric.metric for metric in block.metrics] == ["coverage@10", "ndcg@10"]
    assert all(score.against_best is None for score in block.metrics[0].scores)
    assert any("coverage@10 is not known for single users" in note for note in block.notes)
    assert block.tests == 3


def test_less_is_better_for_a_loss_and_its_units_are_in_another_column(tmp_path):
    generator = np.random.default_rng(0)
    losses = {"mf/bpr": generator.random(100) + 0.5, "linear/ease": generator.random(100) + 0.1}
    for model, loss in losses.items():
        task = {"_target_": "marquee.tasks.classification.Classification"}
        right = (loss < 0.6).astype(float)
        run = write_run(tmp_path, model, 1, loss, task=task, monitor="accuracy", units=False,
                        metrics={"test/log_loss": loss.mean(), "test/accuracy": right.mean(), "test/auroc": 0.7},
                        baselines={"majority": {"accuracy": 0.1, "log_loss": 2.0}}, oracle=None)  # fmt: skip
        run.update(task={"unit": "example", "measured": [], "protocol": "", "shown": []})
        table = pd.DataFrame({"example": range(100), "correct": right, "loss": loss})
        table.to_parquet(run.folder / "per_unit.parquet")
    result = compare([tmp_path], ["log_loss", "accuracy", "auroc"])
    log_loss, accuracy, _ = result.blocks[0].metrics
    assert (log_loss.direction, log_loss.winner) == ("min", "linear/ease")
    test = scores(result)["mf/bpr"].against_best
    assert test.difference > 0
    assert test.worse > test.better
    assert (accuracy.direction, accuracy.best) == ("max", "linear/ease")
    assert scores(result)["baseline/majority"].mean == 2.0
    assert any("auroc is not known for single examples" in note for note in result.blocks[0].notes)


def test_the_front_is_what_nothing_beats_in_both(tmp_path, values):
    for model, shift, seconds in (("mf/bpr", 0.0, 10), ("linear/ease", -0.1, 1), ("rnn/gru4rec", -0.05, 20)):
        write_run(tmp_path, model, 1, values["good"] + shift, durations={"fit": seconds})
    resumed = write_run(tmp_path, "neighbours/item_knn", 1, values["good"] - 0.3, durations={"fit": 0.1})
    resumed.update(resumed=[{"at": "2026-01-01"}])
    result = compare([tmp_path])
    assert {label: score.pareto for label, score in scores(result).items() if score.kind == "model"} == {
        "mf/bpr": True, "linear/ease": True, "rnn/gru4rec": False, "neighbours/item_knn": False,
    }  # fmt: skip
    assert any(note.startswith("Resumed") for note in result.blocks[0].notes)
    (row,) = [row for row in result.blocks[0].configurations if row.label == "mf/bpr"]
    assert (row.parameters, row.fit_seconds, row.best_epoch) == (1000, 10.0, 4.0)


def test_other_code_machines_and_baselines_are_said(tmp_path, values):
    write_run(tmp_path, "mf/bpr", 1, values["good"])
    write_run(
        tmp_path,
        "linear/ease",
        1,
        values["good"],
        code={"commit": "b" * 40, "dirty": True, "sha256": "a" * 64},
        environment={"cpu": "two", "threads": "1"},
        baselines={"baseline/popular": {"ndcg@10": 0.07}},
    )
    result = compare([tmp_path])
    notes = " ".join(result.blocks[0].notes)
    assert "The code differs" in notes
    assert "bbbbbbbb+changes [aaaaaaaa]: linear/ease" in notes
    assert "machines of different cpu." in notes
    assert "baseline/popular is not the same in all runs: ndcg@10 0.0500 to 0.0700" in notes
    assert scores(result)["baseline/popular"].mean == pytest.approx(0.06)
    assert len(result.blocks) == 1


def test_other_versions_of_what_computes_are_one_line_that_names_the_rows(tmp_path, values):
    for model, torch in (("mf/bpr", {"torch": "2.3.0"}), ("linear/ease", {"torch": "2.4.0"}), ("rnn/gru4rec", {})):
        packages = {"numpy": "2.0", **torch}
        write_run(tmp_path, model, 1, values["good"], environment={"cpu": "one", "packages": packages})
    (note,) = [note for note in compare([tmp_path]).blocks[0].notes if note.startswith("Versions")]
    assert note == "Versions differ between these runs: torch 2.3.0 (mf/bpr), 2.4.0 (linear/ease)."


def test_a_metric_that_nobody_gives_a_direction_has_no_best_and_one_that_its_task_gives_has(tmp_path, values):
    for model in ("mf/bpr", "linear/ease"):
        run = write_run(tmp_path, model, 1, values["good"], metrics={"test/nats": 1.0 + (model == "mf/bpr")})
    block = compare([tmp_path], ["nats"]).blocks[0]
    assert block.metrics[0].best is None
    assert any("its task does not say whether more or less of it is better" in note for note in block.notes)
    run.update(task={**run.manifest["task"], "directions": {"nats": "min"}})
    assert compare([tmp_path], ["nats"]).blocks[0].metrics[0].best == "linear/ease"


def test_the_directions_of_known_metrics():
    known = {"ndcg@10": "max", "f1_macro": "max", "coverage@5": "max", "log_loss": "min", "perplexity": "min"}
    assert {name: direction(name) for name in known} == known
    assert direction("mean_popularity@10") is None and neither("mean_popularity@10")
    assert direction("bpc") is None and not neither("bpc")
    assert direction("bpc@2", {"bpc": "min"}) == "min"


def test_units_have_english_plurals():
    assert [plural(word) for word in ("user", "query", "essay", "class", "box", "match")] == [
        "users", "queries", "essays", "classes", "boxes", "matches",
    ]  # fmt: skip


def test_by_model_chooses_on_validation_even_where_test_disagrees(tmp_path, values):
    write_run(tmp_path, "mf/bpr", 1, values["good"], settings={"l2": 1}, validation=0.2)
    write_run(tmp_path, "mf/bpr", 1, values["worse"], settings={"l2": 2}, validation=0.3)
    write_run(tmp_path, "linear/ease", 1, values["same"])
    result = compare([tmp_path], by_model=True)
    assert scores(result)["mf/bpr"].mean == pytest.approx(values["worse"].mean())
    assert "mf/bpr: l2=2, best on validation/ndcg@10 of 2 configurations." in result.blocks[0].notes


def test_blocks_that_share_three_models_are_ranked(tmp_path, values):
    models = ["mf/bpr", "linear/ease", "rnn/gru4rec"]
    for data in ("one", "two", "three", "four"):
        for place, model in enumerate(models):
            if data != "four" or place < 2:
                write_run(tmp_path, model, 1, values["good"] - 0.1 * place, data=data)
    write_run(tmp_path, "mf/bpr", 1, values["good"], data="one", task={"mask_seen": False})
    result = compare([tmp_path])
    assert len(result.blocks) == 5
    assert sorted(result.ranks.data) == ["one (ndcg@10)", "three (ndcg@10)", "two (ndcg@10)"]
    assert dict(zip(result.ranks.models, result.ranks.average, strict=True)) == dict(
        zip(models, (1, 2, 3), strict=True)
    )
    # Friedman by hand: 12 * 3 / (3 * 4) * ((1 - 2)^2 + 0 + (3 - 2)^2) = 6.
    assert result.ranks.statistic == pytest.approx(6.0)
    assert compare([tmp_path / "runs"], by_model=True).ranks.average == [1, 2, 3]


def test_names_that_no_run_has_are_refused_with_the_closest(output):
    with pytest.raises(ConfigError, match=r"Did you mean ndcg@10"):
        compare([output], ["ndgc@10"])
    with pytest.raises(ConfigError, match=r"Did you mean 'mf/bpr'"):
        compare([output], reference="mf/brp")
    with pytest.raises(ConfigError, match="without per-unit results"):
        compare([output], reference="baseline/popular")
    write_run(output, "mf/bpr", 1, [0.1] * USERS, settings={"l2": 0.5})
    with pytest.raises(ConfigError, match="(?s)may be any of these.*mf/bpr l2=0.5"):
        compare([output], reference="mf/bpr")


def test_the_same_folders_give_the_same_words(output):
    assert written(compare([output]), "json") == written(compare([output]), "json")


# Formats -------------------------------------------------------------------------------------------------------------


def test_tables_at_a_terminal_fit_eighty_columns(output, monkeypatch, capsys):
    write_run(output, "linear/ease", 7, [0.1] * USERS, status="failed", error="The loss became NaN. " * 20)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show(compare([output], reference="linear/ease"))
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= 80
    assert "rnn/gru4rec" in text


def test_plain_tables_say_protocol_seeds_tests_and_verdict(output, capsys):
    write_run(output, "linear/ease", 7, [0.1] * USERS, status="failed", error="The loss became NaN.")
    show(compare([output]))
    text = capsys.readouterr().out
    quality = text.split("against")[0].splitlines()
    rows = {line.split()[0]: line.split() for line in quality if line.startswith(("mf/", "linear/"))}
    assert rows["mf/bpr"][1::2] == ["3", "=", "0.0100", "30.0", "4"]
    assert rows["linear/ease"][4:6] == ["u", "-"]
    assert "oracle (ceiling)" in text
    assert "baseline/popular" in text
    assert "mf/bpr has the best mean, significantly better than 1 of 2; not told apart from rnn/gru4rec." in text
    assert "full ranking of 400 items, seen items masked; 400 users; seeds 1, 2, 3" in text
    assert "paired sign-flip permutation" in text
    assert "p corrected for all 3 pairs of rows" in text
    assert re.search(r"linear-ease-s7 +failed +The loss became NaN\.", text)


def test_csv_has_a_row_for_each_score(output):
    rows = list(csv.DictReader(io.StringIO(written(compare([output]), "csv"))))
    assert [row["label"] for row in rows][:2] == ["mf/bpr", "rnn/gru4rec"]
    assert {row["kind"] for row in rows} == {"model", "baseline", "oracle"}
    assert rows[0]["seeds"] == "1 2 3"
    assert rows[1]["best_against"] == "mf/bpr"
    assert float(rows[0]["mean"]) > 0


def test_json_is_the_whole_record(output):
    content = json.loads(written(compare([output]), "json"))
    (block,) = content["blocks"]
    assert block["metrics"][0]["best"] == "mf/bpr"
    assert content["ranks"] is None
    assert "sign-flip" in block["tests_in_words"]


def test_markdown_and_latex_mark_a_winner_and_escape_names(tmp_path, values):
    write_run(tmp_path, "neighbours/item_knn", 1, values["good"])
    write_run(tmp_path, "linear/ease", 1, values["worse"])
    result = compare([tmp_path])
    text = written(result, "md")
    assert "| **neighbours/item_knn** | 1 |" in text
    assert "| ndcg@10 |" in text
    text = written(result, "latex")
    assert r"\textbf{neighbours/item\_knn}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count("{") == text.count("}")
