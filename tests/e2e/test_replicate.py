"""`scripts/replicate.py`: recipes run, are taken as they are the second time, compared, written, and put on a page."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from ..forked import Forked
from ..forked import run as forked

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
EASE = """\
# @package _global_
# Command:   marquee train experiment=replicate/{name}
# Jobs:      {jobs}
# Minutes:   ?
# Reference: {reference}
# Ours:      ?
# Chosen:    the model's defaults
# Note:      {note}
defaults:
  - override /data: world_ratings
  - override /split: ratio
  - override /model: linear/ease
  - override /tracker: none
  - _self_
model:
  l2: 50
"""
ROWS = {
    "world_ease": ("split.seed=0,1", "ndcg@10 >= 9.9 (nobody)", "it is made up"),
    "switch_full": ("seed=1", "none (a switch)", "nothing: all items are ranked"),
    "switch_sampled": ("seed=1", "none (a switch)", "a hundred items are ranked,\n#            drawn by chance"),
}


def typed(*words):
    """`python scripts/replicate.py WORDS`, in a process that was forked for it."""
    import runpy
    import sys

    sys.argv, sys.path = [str(SCRIPTS / "replicate.py"), *words], [str(SCRIPTS), *sys.path]
    from replications import page, recipes

    # As if no others were shipped.
    page.SWITCHES = "switch"
    recipes.names = lambda: sorted(ROWS)
    runpy.run_path(sys.argv[0], run_name="__main__")


def replicate(*words):
    return forked(typed, *map(str, words), env=dict(os.environ))


def write_recipes(folder, names=ROWS):
    (folder / "experiment" / "replicate").mkdir(parents=True)
    for name in names:
        jobs, reference, note = ROWS[name]
        text = EASE.format(name=name, jobs=jobs, reference=reference, note=note)
        if name == "switch_sampled":
            text += "task:\n  candidates: uniform\n"
        (folder / "experiment" / "replicate" / f"{name}.yaml").write_text(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, world_cache):
    """A folder in which the three recipes have been run and written, with what that said."""
    from unittest import mock

    from .commands import environment

    folder = tmp_path_factory.mktemp("replicated")
    write_recipes(folder / "conf")
    place = {**environment(folder / "outputs", world_cache), "MARQUEE_CONF": str(folder / "conf")}
    with mock.patch.dict(os.environ, place):
        ran = replicate("world_ease", "switch_*")
        wrote = replicate("world_ease", "switch_*", "--write", "--page", "--output", folder / "results.md")
    return folder, ran, wrote


@pytest.fixture
def place(finished, shell, tmp_path, monkeypatch):
    """A copy of it that a test may change, as the working folder."""
    shutil.copytree(finished[0], tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path / "conf"))
    return tmp_path


def head(folder, name):
    return folder / "conf" / "experiment" / "replicate" / f"{name}.yaml"


def edit(file, old, new):
    text = file.read_text()
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text))


def test_rows_run_and_their_recipes_learn_what_was_found(finished):
    folder, ran, wrote = finished
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "sweep replicate_world_ease: 2 jobs: 2 to run" in ran.stdout
    assert re.search(r"^world_ease: 2 jobs, \d\.\d\d CPU minutes on \S", ran.stdout, re.M)
    assert re.search(r"published ≥ 9\.9 +tolerance 0\.0990  missed", ran.stdout)
    assert "The recipe has no number of its own so far" in ran.stdout
    assert "no more\n  than the larger of 2 sd" in ran.stdout
    assert wrote.returncode == 0, wrote.stderr
    text = head(folder, "world_ease").read_text()
    assert re.search(r"^# Minutes:   \d\.\d\d on \d+ cores? \(CPU time\)$", text, re.M)
    ours = r"^# Ours:      ndcg@10 0\.\d{4} ± 0\.\d{4} \(2 jobs; torch [\d.]+, numpy [\d.]+, marquee"
    assert re.search(ours, text, re.M)
    # All other lines are those that were there.
    jobs, reference, note = ROWS["world_ease"]
    before = EASE.format(name="world_ease", jobs=jobs, reference=reference, note=note)
    assert [line for line in before.splitlines() if "?" not in line] == [
        line for line in text.splitlines() if not re.match(r"# (Minutes|Ours|   )", line)
    ]


def test_the_figures_are_the_means_of_the_runs(finished):
    """By the manifests, with the standard library."""
    import json
    import statistics

    folder = finished[0]
    jobs = json.loads((folder / "outputs/sweeps/replicate_world_ease/sweep.json").read_text())["jobs"]
    runs = [json.loads((folder / "outputs/runs" / job["run"] / "manifest.json").read_text()) for job in jobs]
    values = [run["metrics"]["test/ndcg@10"] for run in runs]
    popular = [run["baselines"]["baseline/popular"]["ndcg@10"] for run in runs]
    ours, beside = (f"{statistics.mean(found):.4f} ± {statistics.stdev(found):.4f}" for found in (values, popular))
    minutes = sum(run["cost"]["fit_cpu_s"] for run in runs) / 60
    page = (folder / "results.md").read_text()
    assert f"| ndcg@10 | ≥ 9.9 | {ours} | 2 | missed | {max(minutes, 0.01):.2f} |" in page
    assert f"| popular (baseline) | `baseline/popular` | ndcg@10 |  | {beside} | 2 |" in page


def test_the_page_has_a_table_a_protocol_and_one_of_what_is_switched(finished):
    page = (finished[0] / "results.md").read_text()
    assert page.startswith("# Results\n") and "\n## Replications\n" in page
    world, switches = re.split(r"^### ", page, flags=re.M)[1:]
    assert world.startswith("world: world_ratings, ratio\n")
    assert "Protocol: data world_ratings (" in world and "draws of seeds 0, 1 pooled" in world
    assert "- `world_ease`: Published: nobody. Chosen: the model's defaults. Note: it is made up." in world
    assert switches.startswith("switch: what the switch alone changes\n")
    assert "\n`switch_full`, `linear/ease`: data world_ratings (" in switches
    full, sampled = (line.split(" | ") for line in switches.splitlines() if line.startswith("| `"))
    assert full[0] == "| `switch_full`" and full[2] == "ndcg@10" and full[4] == ""
    assert sampled[:3] == ["| `switch_sampled`", "a hundred items are ranked,", "ndcg_uniform100@10"]
    off, ratio = float(sampled[3]) - float(full[3]), float(sampled[3]) / float(full[3])
    assert sampled[4] == f"{off:+.4f} (× {ratio:.2f})" and ratio > 1.2


def test_a_second_run_takes_what_is_finished_and_says_what_is_reproduced_and_what_differs(place):
    edit(head(place, "switch_full"), r"ndcg@10 0\.\d{4} \(1 job; torch [\d.]+", "ndcg@10 0.9 ± 0.01 (1 job; torch 1.0")
    done = replicate("world_ease", "switch_full")
    assert done.returncode == 1, done.stderr
    assert "2 stored, 0 to run" in done.stdout and "1 stored, 0 to run" in done.stdout
    assert re.search(r"recipe    0\.\d{4} ± 0\.\d{4}   tolerance \d\.\d{4}  reproduced", done.stdout)
    assert re.search(r"recipe    0\.9000 ± 0\.0100   tolerance 0\.0300  differs", done.stdout)
    assert "note: switch_full was measured with other versions" in done.stdout and "torch 1.0, here" in done.stdout
    assert "note: world_ease" not in done.stdout


def test_other_seeds_run_in_the_same_sweep_and_where_there_are_none_it_says_so(place):
    done = replicate("switch_full", "--seeds", "1,2", "plots=false", "hydra.launcher.n_jobs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 jobs: 1 stored, 1 to run" in done.stdout and "switch_full: 2 jobs, " in done.stdout
    assert "reproduced" in done.stdout
    refused = replicate("world_ease", "--seeds", "1,2")
    assert refused.returncode == 2 and "its jobs are split.seed=0,1. Leave --seeds out" in refused.stderr


def test_what_would_be_another_experiment_is_refused(place):
    done = replicate("world_ease", "model.l2=3")
    assert done.returncode == 2 and "marquee train experiment=replicate/world_ease model.l2=3" in done.stderr
    assert "planning" not in done.stdout


def test_a_recipe_that_has_changed_since_is_neither_written_nor_put_on_the_page(place):
    edit(head(place, "world_ease"), "l2: 50", "l2: 51")
    for mode in (["world_ease", "--write"], ["--page", "--output", place / "results.md"]):
        done = replicate(*mode)
        assert done.returncode == 2 and "model.l2=50, not 51" in done.stderr, done.stderr


def test_a_page_wants_the_figures_of_the_sweep_and_keeps_rows_without_one(place):
    page = place / "results.md"
    before = page.read_text()
    shutil.move(place / "outputs", place / "kept")
    top, _, section = before.partition("## Replications")
    page.write_text(f"{top}## other\n\nof another script\n\n## Replications{section}")
    done = replicate("--page", "--output", page)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == before + "\n## other\n\nof another script\n"
    edit(head(place, "world_ease"), r"ndcg@10 0\.\d{4} ±", "ndcg@10 0.9999 ±")
    done = replicate("--page", "--output", page)
    assert done.returncode == 2 and "there is no sweep to tell which is right" in done.stderr
    shutil.move(place / "kept", place / "outputs")
    done = replicate("--page", "--output", page)
    assert done.returncode == 2 and "python scripts/replicate.py world_ease --write" in done.stderr
    assert "of another script" in page.read_text()


def test_runs_count_without_a_sweep_and_damaged_or_other_ones_do_not(place):
    """Two runs of the recipe and one of another model; the record of a copy is cut off."""
    shutil.rmtree(place / "outputs/sweeps")
    before = head(place, "world_ease").read_text()
    for number, folder in enumerate(sorted((place / "outputs/runs").iterdir())):
        copy = place / "outputs/runs" / f"copy-{number}"
        shutil.copytree(folder, copy)
        text = (copy / "manifest.json").read_text()
        later = re.sub(r'"started": "2', '"started": "3', text).replace('"l2": 50', '"l2": 51')
        (copy / "manifest.json").write_text(later if number else text[:-100])
    done = replicate("world_ease", "--write")
    assert done.returncode == 0 and done.stdout == "world_ease: as it was\n", done.stderr
    assert head(place, "world_ease").read_text() == before


def test_results_of_other_sweeps_keep_the_section(place):
    from .test_models_page import script

    page = place / "results.md"
    section = page.read_text().partition("## Replications")[2]
    done = forked(script, "results.py", str(place / "outputs/sweeps/replicate_switch_full"), "--output", str(page))
    assert done.returncode == 0, done.stderr
    assert f"## Replications{section}\n## replicate_switch_full\n" in page.read_text()


def test_a_sweep_that_is_not_whole_is_not_written(place):
    edit(head(place, "world_ease"), "split.seed=0,1", "split.seed=0,1,2")
    done = replicate("world_ease", "--write")
    assert done.returncode == 2 and "1 of 3 jobs are not finished in" in done.stderr and "split.seed=2" in done.stderr


# Bad ends ------------------------------------------------------------------------------------------------------------


def test_missing_data_is_told_before_anything_starts(place):
    edit(head(place, "switch_full"), "data: world_ratings", "data: sequences")
    with head(place, "switch_full").open("a") as file:
        file.write("data:\n  path: ml-1m/infae_split.npz\n")
    shutil.rmtree(place / "outputs")
    done = replicate("world_ease", "switch_full")
    assert done.returncode == 3, done.stderr
    assert "switch_full: data.path=ml-1m/infae_split.npz was not found" in done.stderr
    assert "de473c335625a0bdb7d011e831426bd140dc205a078bb35cefc83e8ea29a5bd8" in done.stderr
    assert "github.com/noveens/infinite_ae_cf" in done.stderr
    assert not (place / "outputs").exists() and "planning" not in done.stdout


def test_a_failed_job_ends_with_4_and_the_other_rows_run_all_the_same(place):
    edit(head(place, "switch_full"), "model: linear/ease", "model: mf/bpr")
    edit(head(place, "switch_full"), "  l2: 50", "  dim: 4\n  l2: 0\noptimizer:\n  lr: 1e30")
    done = replicate("switch_full", "world_ease")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "switch_full: not all of its jobs are finished, see above" in done.stdout
    assert "world_ease: 2 jobs, " in done.stdout


def test_a_mistake_in_a_recipe_ends_with_2_as_a_run_would(place):
    edit(head(place, "switch_full"), "l2: 50", "l3: 50\ndata:\n  kcore: 2")
    done = replicate("switch_full")
    assert done.returncode == 2 and "model.l3" in done.stderr and "EASE takes view, l2" in done.stderr
    assert "data.kcore" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_says_what_to_type_and_that_goes_on(place):
    edit(head(place, "switch_full"), "model: linear/ease", "model: mf/bpr")
    edit(head(place, "switch_full"), "  l2: 50", "  dim: 4\n  view:\n    batch_size: 64\ntrainer:\n  max_epochs: 400")
    process = Forked(typed, "switch_full", env=dict(os.environ))
    job = place / "outputs/sweeps/replicate_switch_full/jobs/0000.run"
    before, deadline = job.read_text(), time.monotonic() + 60
    while time.monotonic() < deadline and (not job.is_file() or job.read_text() == before):
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    out, err = process.communicate(60)
    assert process.returncode == 130, out + err
    assert "interrupted; the same again goes on:\n  python scripts/replicate.py switch_full\n" in err
    again = Forked(typed, "switch_full", env=dict(os.environ))
    while time.monotonic() < deadline and "1 job: 1 to continue" not in again.told():
        time.sleep(0.05)
    again.kill()
    assert "sweep replicate_switch_full: 1 job: 1 to continue, 0 to run" in again.told()
