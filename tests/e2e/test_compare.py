"""`marquee compare` and `marquee best` as they are typed, on run folders written by hand."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from marquee.config.compose import compose

from ..finished_runs import write_run


@pytest.fixture
def outputs(tmp_path):
    """`outputs` with two models of two seeds each, one run that failed, and one of another protocol."""
    values = np.random.default_rng(0).random(50)
    for seed in (1, 2):
        write_run(tmp_path / "outputs", "mf/bpr", seed, values, validation=0.2)
        write_run(tmp_path / "outputs", "linear/ease", seed, values - 0.1, validation=0.3)
    write_run(tmp_path / "outputs", "mf/bpr", 3, values, status="failed", error="The loss became NaN.")
    write_run(tmp_path / "outputs", "mf/bpr", 1, values, task={"mask_seen": False}, validation=0.1)
    return tmp_path / "outputs"


def test_compare_separates_protocols_and_names_what_failed(shell, outputs):
    done = shell("compare", "outputs")
    assert done.code == 0, done.err
    assert "block 1 of 2: world, ratio" in done.out
    assert "Not in one column with block 1: task.mask_seen=false, not true." in done.out
    assert "mf/bpr is the best, significantly better than every other" in done.out
    assert "The loss became NaN." in done.out


def test_one_run_and_several_paths_can_be_given(shell, outputs):
    assert "alone here" in shell("compare", "outputs/latest").out
    folders = [str(folder) for folder in sorted(outputs.glob("runs/*-s2"))]
    assert len(folders) == 2
    assert "linear/ease" in shell("compare", *folders, "--metric", "ndcg@10", "coverage@10").out


def test_a_wrong_path_or_name_is_one_message_and_exit_code_2(shell, outputs):
    for words, said in (
        (["compare", "nowhere"], "nowhere does not exist"),
        (["compare", "."], "holds no runs; found: outputs/"),
        (["compare", "outputs", "--metric", "ndgc@10"], "Did you mean ndcg@10"),
        (["compare", "outputs", "--reference", "mf/brp"], "Did you mean 'mf/bpr'"),
        (["best", "outputs", "--metric", "recall@10"], "Recorded here: ndcg@10"),
    ):
        done = shell(*words)
        assert (done.code, done.out) == (2, ""), words
        assert said in done.err


def test_the_ending_of_the_output_says_the_format(shell, outputs, tmp_path):
    assert shell("compare", "outputs", "--output", "table.json").code == 0
    assert len(json.loads((tmp_path / "table.json").read_text())["blocks"]) == 2
    assert shell("compare", "outputs", "--output", "table.tex").code == 0
    assert r"\toprule" in (tmp_path / "table.tex").read_text()
    assert shell("compare", "outputs", "--output", "table.txt").code == 0
    assert "protocol:" in (tmp_path / "table.txt").read_text()
    assert shell("compare", "outputs", "--format", "md", "--output", "nowhere/table").code == 4
    assert sorted(file.name for file in tmp_path.glob("*table*")) == ["table.json", "table.tex", "table.txt"]


def test_best_goes_by_validation_and_prints_a_command_that_composes(shell, outputs):
    words = ["data=world_ratings", "model=linear/ease", "model.l2=50"]
    config = compose(words).config
    for seed in (1, 2):
        run = write_run(outputs, "linear/ease", seed, [0.1, 0.2], data="own", validation=0.4)
        run.update(config={**config, "seed": seed}, overrides=[*words, f"seed={seed}", "tracker=none", "name=x"])
    done = shell("best", "outputs")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "# own, ratio: linear/ease, best of 1 on validation: ndcg@10 0.4000 (mean of seeds 1, 2)" in done.out
    assert "# world, ratio: linear/ease, best of 2 on validation" in done.out
    command = next(line for line in lines if "model.l2=50" in line)
    assert shlex.split(command) == ["marquee", "train", *words]
    assert "(failed)" in lines[-1]


def test_best_writes_out_what_today_would_be_another_default(shell, outputs):
    config = compose(["data=world_ratings", "model=linear/ease"]).config
    config["model"]["l2"] = 7.5
    config["data"]["min_rating"] = 2
    run = write_run(outputs, "linear/ease", 1, [0.1, 0.2], data="own", validation=0.4)
    run.update(config=config, overrides=["data=world_ratings", "model=linear/ease"])
    command = next(line for line in shell("best", "outputs").out.splitlines() if "l2=7.5" in line)
    words = shlex.split(command)[2:]
    composed = compose(words).config
    assert (composed["model"]["l2"], composed["data"]["min_rating"]) == (7.5, 2)


def test_torch_is_not_imported(outputs):
    script = (
        "import sys; from marquee.cli.main import main\n"
        f"assert main(['compare', {str(outputs)!r}]) == 0 and main(['best', {str(outputs)!r}]) == 0\n"
        "assert not {'torch', 'pytorch_lightning', 'wandb'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
