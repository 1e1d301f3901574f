"""Folds of a cross-validation and draws of a split (`split.seed`) repeat one experiment, as seeds do."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from marquee.compare.analysis import compare
from marquee.compare.best import print_best
from marquee.compare.report.breakdown import breakdowns
from marquee.compare.report.evidence import gather
from marquee.compare.report.figures import figures
from marquee.compare.report.rows import run_lines, table
from marquee.config.fingerprint import pool
from marquee.tracking.tracker import TrackedRun
from marquee.tracking.wandb import WandbTracker, repeated

from ..finished_runs import write_run


def draw_of(output, model, seed, draw, values, users=None, **further):
    """A run of one draw of a random split that tests `users` (default: 0, 1, ...)."""
    run = write_run(output, model, seed, values, split={"seed": draw}, n_units=len(values), **further)
    if users is not None:
        pd.DataFrame({"user": users, "ndcg@10": values}).to_parquet(run.folder / "per_unit.parquet")
    return run


def fold_of(output, model, seed, fold, values, **further):
    """A run of one fold of three."""
    run = write_run(output, model, seed, values, split={"fold": fold}, n_units=len(values), **further)
    run.update(split={**run.manifest["split"], "fold": fold, "folds": 3, "fold_key": "fold"})
    return run


def scores(block):
    return {score.label: score for score in block.metrics[0].models}


def test_draws_of_a_split_are_one_row_and_each_counts_once_with_the_mean_over_its_seeds(tmp_path):
    for draw, seed, value in ((0, 1, 0.1), (0, 2, 0.3), (7, 1, 0.5), (7, 2, 0.5), (9, 1, 0.2), (9, 2, 0.2)):
        draw_of(tmp_path, "mf/bpr", seed, draw, [value] * 4)
    (block,) = compare([tmp_path]).blocks
    (score,) = scores(block).values()
    assert (score.repetitions, score.values) == (["draw 0", "draw 7", "draw 9"], pytest.approx([0.2, 0.5, 0.2]))
    # Student's t over three draws, not six runs, by SciPy.
    expected = stats.t.interval(0.95, 2, 0.3, stats.sem([0.2, 0.5, 0.2]))
    assert (score.interval, score.interval_over) == (pytest.approx(expected), "draws")
    assert (block.seeds, block.draws, block.configurations[0].draws) == ([1, 2], [0, 7, 9], [0, 7, 9])
    assert "draws of seeds 0, 7, 9 pooled" in block.protocol and "seed=" not in block.protocol
    assert any(note.startswith("3 draws of the split are pooled") for note in block.notes)


def test_one_draw_is_named_as_before_and_its_seeds_are_the_repetitions(tmp_path):
    for seed in (1, 2):
        draw_of(tmp_path, "mf/bpr", seed, 5, [0.1 * seed] * 4)
    (block,) = compare([tmp_path]).blocks
    assert scores(block)["mf/bpr"].repetitions == ["seed 1", "seed 2"]
    assert "seed=5" in block.protocol and "pooled" not in block.protocol


def test_pairs_are_made_within_a_draw_and_a_unit_counts_once(tmp_path):
    """By hand. Draw 1 is easier by 0.5 for both; users 2 and 3 are tested twice."""
    one, two = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.8, 0.9, 0.7, 0.6])
    gain, more = np.array([0.01, 0.02, 0.03, 0.04]), np.array([0.05, 0.02, 0.06, 0.01])
    for draw, values, better, users in ((0, one, gain, [0, 1, 2, 3]), (1, two, more, [2, 3, 4, 5])):
        draw_of(tmp_path, "mf/bpr", 1 + draw, draw, values + better, users)  # the seed goes with the draw
        draw_of(tmp_path, "linear/ease", 1 + draw, draw, values, users)
    (block,) = compare([tmp_path]).blocks
    test = scores(block)["linear/ease"].against_best
    expected = [0.01, 0.02, (0.03 + 0.05) / 2, (0.04 + 0.02) / 2, 0.06, 0.01]
    assert block.n_units == 6
    assert -test.difference == pytest.approx(np.mean(expected))
    assert test.p == pytest.approx(2 / 2**6), "only all signs or none are as extreme"
    # The spread over draws is paired, too: a draw is as hard for both.
    assert test.p_seeds == pytest.approx(stats.ttest_1samp([gain.mean(), more.mean()], 0).pvalue)


def test_draws_are_paired_whatever_their_order_and_never_tested_against_seeds_of_one_draw(tmp_path):
    gains = {0: 0.01, 1: 0.02, 2: 0.04}
    for draw, gain in gains.items():
        draw_of(tmp_path, "mf/bpr", 1, draw, np.full(4, 0.1 * draw + gain))
        draw_of(tmp_path, "linear/ease", 2 if draw == 1 else 1, draw, np.full(4, 0.1 * draw))  # draw 1 is listed last
    for seed in (1, 2, 3):
        draw_of(tmp_path, "mf/als", seed, 0, np.full(4, 0.001 * seed))
    (block,) = compare([tmp_path]).blocks
    found = scores(block)
    assert found["linear/ease"].repetitions == ["draw 0", "draw 2", "draw 1"]
    expected = stats.ttest_1samp(list(gains.values()), 0).pvalue  # SciPy, of the differences draw by draw
    assert found["linear/ease"].against_best.p_seeds == pytest.approx(expected)
    assert found["mf/als"].against_best.p_seeds is None, "seeds do not vary as draws do"


def test_only_draws_that_all_rows_have_are_paired_and_the_others_are_told(tmp_path):
    for model, draws in (("mf/bpr", (0, 1)), ("linear/ease", (1, 2))):
        for draw in draws:
            draw_of(tmp_path, model, 1, draw, np.full(4, 0.1 * draw + (model == "mf/bpr") * 0.01))
    (block,) = compare([tmp_path]).blocks
    assert scores(block)["mf/bpr"].against_best.difference == pytest.approx(0.01), "within draw 1"
    notes = " ".join(block.notes)
    assert "not all have the same draws of the split" in notes
    assert "Not all rows have all draws. Tests and intervals over units use those that all have: 1." in notes


def test_folds_and_draws_together_are_paired_cell_by_cell(tmp_path):
    for draw in (0, 1):
        for fold in (0, 1, 2):
            for model, gain in (("mf/bpr", 0.02), ("linear/ease", 0.0)):
                split = {"fold": fold, "seed": draw}
                run = write_run(tmp_path, model, 1, np.full(3, 0.1 * fold + draw + gain), split=split, n_units=3)
                own = pd.DataFrame({"user": np.arange(3) + 3 * fold, "ndcg@10": np.full(3, 0.1 * fold + draw + gain)})
                own.to_parquet(run.folder / "per_unit.parquet")
                run.update(split={**run.manifest["split"], "fold": fold, "folds": 3, "fold_key": "fold"})
    (block,) = compare([tmp_path]).blocks
    assert (block.n_units, len(block.configurations)) == (9, 2)
    assert scores(block)["linear/ease"].against_best.difference == pytest.approx(-0.02)
    assert "3 folds and draws of seeds 0, 1 pooled" in block.protocol
    assert block.one_run == "run"


def test_the_same_fold_with_other_rows_is_another_protocol_though_its_keys_are_the_same(tmp_path):
    for fold in (0, 1, 2):
        fold_of(tmp_path, "mf/bpr", 1, fold, [0.1, 0.2], started=f"2026-01-01T00:00:0{fold}+00:00")
    for fold in (0, 1, 2):  # the split's code or file has changed since
        run = fold_of(tmp_path, "linear/ease", 1, fold, [0.1, 0.2], started=f"2026-01-02T00:00:0{fold}+00:00")
        run.update(split={**run.manifest["split"], "fingerprint": f"changed {fold}"})
    first, second = compare([tmp_path]).blocks
    assert {len(row.runs) for block in (first, second) for row in block.configurations} == {3}
    assert second.differs == ["the split itself: it holds other rows under the same keys"]


def test_figures_and_tables_call_folds_folds(tmp_path):
    for fold in (0, 1, 2):
        run = fold_of(tmp_path, "mf/bpr", 1, fold, [0.1, 0.2 + fold], validation=0.2)
        (run.folder / "metrics.csv").write_text("epoch,validation/ndcg@10\n0,0.1\n1,0.2\n")
    result, evidence = compare([tmp_path]), gather([tmp_path])
    (block,) = result.blocks
    curves = next(figure for figure in figures(result, evidence) if figure.name == "validation-curves")
    assert "mean over folds; band: the lowest to the highest fold" in curves.caption and "seed" not in curves.caption
    assert [line.seed for line in run_lines(block, evidence, NoLink())] == ["1, fold 0", "1, fold 1", "1, fold 2"]


def test_figures_and_tables_call_draws_draws(tmp_path):
    for draw in (0, 1):
        draw_of(tmp_path, "mf/bpr", 1, draw, [0.1, 0.2 + draw], validation=0.2)
    result, evidence = compare([tmp_path]), gather([tmp_path])
    found = next(figure for figure in figures(result, evidence) if figure.name == "scores-ndcg-10")
    assert "Bar: mean over draws; dot: one draw." in found.caption
    assert [dot["of"] for dot in found.rows["scores-ndcg-10-dots"]] == ["draw 0", "draw 1"]
    assert "Draws" in table(result.blocks[0], result.blocks[0].metrics[0]).columns


def test_the_breakdown_by_class_knows_the_examples_of_every_fold(tmp_path):
    """By hand: the examples 0 and 1 are cats, 2 and 3 dogs, 4 and 5 cats; a fold tests two of them."""
    for fold, target in enumerate(("cat", "dog", "cat")):
        run = fold_of(tmp_path, "mf/bpr", 1, fold, [0.1 * fold, 0.2])
        own = {"example": [2 * fold, 2 * fold + 1], "ndcg@10": [0.1 * fold, 0.2], "target": [target] * 2}
        pd.DataFrame(own).to_parquet(run.folder / "per_unit.parquet")
        run.update(task={"unit": "example", "measured": [], "protocol": ""})
    (block,) = compare([tmp_path]).blocks
    (found,) = breakdowns(block, gather([tmp_path]), block.configurations, "ndcg@10")
    assert [(bar.group, bar.n) for bar in found.bars] == [("cat (n=4)", 4), ("dog (n=2)", 2)]
    assert found.bars[0].mean == pytest.approx((0 + 0.2 + 0.2 + 0.2) / 4)


def test_baselines_of_other_folds_are_no_alarm_and_of_the_same_fold_are_one(tmp_path):
    for model in ("mf/bpr", "linear/ease"):
        for fold in (0, 1, 2):
            fold_of(tmp_path, model, 1, fold, [0.1, 0.2], baselines={"baseline/popular": {"ndcg@10": 0.05 + fold}})
    (block,) = compare([tmp_path]).blocks
    assert not any("not the same in all runs" in note for note in block.notes)
    fold_of(tmp_path, "rnn/gru4rec", 1, 1, [0.1, 0.2], baselines={"baseline/popular": {"ndcg@10": 0.5}})
    (block,) = compare([tmp_path]).blocks
    assert sum("not the same in all runs" in note for note in block.notes) == 1


class NoLink:
    def to(self, target):
        return None


def test_best_gives_the_command_of_all_folds_and_draws_and_not_of_one(tmp_path, capsys):
    for fold in (0, 1, 2):
        words = ["data=world_ratings", "model=linear/ease", f"split.fold={fold}", "seed=1"]
        fold_of(tmp_path / "folds", "linear/ease", 1, fold, [0.1], validation=0.2, overrides=words)
    print_best([tmp_path / "folds"])
    told = capsys.readouterr().out
    assert re.search(r"^marquee train -m data=world_ratings model=linear/ease .*split.fold=0,1,2$", told, re.M)
    assert told.count("split.fold") == 1
    assert "(mean of seed 1 and folds 0, 1, 2)" in told
    for draw in (0, 3):
        words = ["model=linear/ease", f"split.seed={draw}"]
        draw_of(tmp_path / "draws", "linear/ease", 1, draw, [0.1], validation=0.2, overrides=words)
    print_best([tmp_path / "draws"])
    assert re.search(r"^marquee train -m model=linear/ease .*split.seed=0,3$", capsys.readouterr().out, re.M)


# Manifests and W&B ----------------------------------------------------------------------------------------------------


def test_the_pool_of_a_split_is_what_its_folds_and_draws_share():
    split = {"_target_": "x.Folds", "n_folds": 3, "fold": 1, "seed": 4}
    assert pool("data", split, "fold") == pool("data", {**split, "fold": 2, "seed": 9}, "fold")
    assert pool("data", split, "fold") != pool("data", {**split, "n_folds": 5}, "fold")
    assert pool("data", split, "fold") != pool("other", split, "fold")
    assert pool("data", {"_target_": "x.LeaveOneOut"}, None) is None


def test_wandb_can_group_the_repetitions_of_one_experiment(tmp_path):
    runs = [draw_of(tmp_path, "mf/bpr", seed, draw, [0.1]) for seed, draw in ((1, 0), (2, 0), (1, 5))]
    runs = [with_pool(run) for run in runs]
    found = [repeated(run.manifest) for run in runs]
    assert [entry["draw"] for entry in found] == [0, 0, 5]
    assert len({entry["experiment"] for entry in found}) == 1
    assert found[0]["experiment"].startswith("world-bpr-")
    other = with_pool(draw_of(tmp_path, "mf/bpr", 1, 0, [0.1], settings={"l2": 1}))
    assert repeated(other.manifest)["experiment"] != found[0]["experiment"]


def with_pool(run):
    """The manifest's split as training writes it."""
    split = run.manifest["split"]
    shared = pool(run.manifest["data"]["fingerprint"], split["config"], split.get("fold_key"))
    run.update(split={**split, "draw": split["config"].get("seed"), "pool": shared})
    return run


@pytest.mark.parametrize(("group", "expected"), [("my-sweep", "my-sweep"), (None, "world-bpr-")])
def test_folds_are_a_wandb_group_unless_their_sweep_is(tmp_path, monkeypatch, group, expected):
    class Asked(Exception):
        pass

    def init(**arguments):
        asked.append(arguments)
        raise Asked

    asked = []
    monkeypatch.setattr("wandb.init", init)
    for fold in (0, 1):
        run: TrackedRun = with_pool(fold_of(tmp_path, "mf/bpr", 1, fold, [0.1], fingerprint="f" * 64))
        run.manifest["config"]["tags"] = []
        with pytest.raises(Asked):
            WandbTracker(group=group).open(run)
    assert asked[0]["group"] == asked[1]["group"] and asked[0]["group"].startswith(expected)
    assert [entry["config"]["fold"] for entry in asked] == [0, 1]
    assert len({entry["config"]["experiment"] for entry in asked}) == 1
