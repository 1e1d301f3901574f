"""`marquee export-paper` as it is typed: what lies in the package, that it adds up, and what it refuses."""

import csv
import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from ..finished_runs import write_run

ENVIRONMENT = {"python": "3.11.7", "cpu": "one", "gpu": None, "threads": "1", "packages": {"torch": "2.13.0"}}


@pytest.fixture
def outputs(tmp_path):
    """A sweep of two models and two seeds, under `outputs`, with one run that failed."""
    output = tmp_path / "outputs"
    values = np.random.default_rng(0).random(50)
    for seed in (1, 2):
        write_run(output, "mf/bpr", seed, values, validation=0.2, environment=ENVIRONMENT)
        write_run(output, "linear/ease", seed, values - 0.1, validation=0.3, environment=ENVIRONMENT)
    write_run(output, "mf/bpr", 3, values, status="failed", error="The loss became `NaN`.")
    return output


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_package_holds_tables_figures_page_records_and_how_to_repeat_them(shell, outputs, tmp_path):
    done = shell("export-paper", "outputs", "paper")
    assert done.code == 0, done.err
    found = files(tmp_path / "paper")
    runs = sorted(folder.name for folder in (outputs / "runs").iterdir() if "s3" not in folder.name)
    for name in ["README.md", "SHA256SUMS", "commands.txt", "environment.txt", "report.html",
                 *(f"tables/comparison.{end}" for end in ("tex", "csv", "md", "json")),
                 *(f"figures/quality-cost-ndcg-10.{end}" for end in ("svg", "png", "pdf")),
                 *(f"runs/{run}/{file}" for run in runs for file in ("manifest.json", "config.yaml"))]:  # fmt: skip
        assert name in found, name
    assert not [name for name in found if "s3" in name]  # a failed run is named, not packed
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # nothing is left beside it
    readme = (tmp_path / "paper" / "README.md").read_text()
    for said in ("full ranking of 400 items", "seeds 1, 2", f"marquee rerun runs/{runs[0][:4]}", "sha256sum -c",
                 "failed. `The loss became 'NaN'.`"):  # fmt: skip
        assert said in readme, said
    for name in found:  # the README says what each file is: by its path, as a figure, or as one of a run
        if name != "README.md":
            stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            assert any(f"`{part}`" in readme for part in (name, stem, name.split("/")[0] + "/ID/")), name
    assert (tmp_path / "paper").stat().st_mode & 0o777 == (tmp_path / "outputs").stat().st_mode & 0o777


def test_the_sums_are_those_of_sha256sum_and_cover_everything(shell, outputs, tmp_path):
    assert shell("export-paper", "outputs", "paper").code == 0
    listed = [line.split("  ")[1] for line in (tmp_path / "paper" / "SHA256SUMS").read_text().splitlines()]
    assert sorted([*listed, "SHA256SUMS"]) == files(tmp_path / "paper")
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path / "paper").returncode == 0
    (tmp_path / "paper" / "README.md").write_text("changed")
    assert subprocess.run(check, cwd=tmp_path / "paper", capture_output=True).returncode == 1


def test_tables_are_those_of_compare_and_the_page_links_into_the_package(shell, outputs, tmp_path):
    assert shell("export-paper", "outputs", "paper").code == 0
    assert shell("compare", "outputs", "--output", "table.csv").code == 0
    assert (tmp_path / "paper/tables/comparison.csv").read_text() == (tmp_path / "table.csv").read_text()
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert rows[0]["label"] == "mf/bpr"
    html = (tmp_path / "paper/report.html").read_text()
    run = next(path.name for path in (tmp_path / "paper/runs").iterdir())
    assert f'href="runs/{run}/"' in html
    assert str(tmp_path) not in html.replace(str(tmp_path / "outputs"), "")


def test_a_sweep_is_given_by_its_name_and_its_command_and_lost_jobs_are_told(shell, outputs, tmp_path):
    runs = sorted(folder.name for folder in (outputs / "runs").iterdir() if "bpr" in folder.name)
    (outputs / "sweeps/mine/jobs").mkdir(parents=True)
    (outputs / "sweeps/mine/jobs/0003.log").write_text("Killed")
    jobs = [{"index": index, "overrides": [f"seed={index + 1}"], "status": "finished", "run": run, "error": None,
             "attempts": 1, "seconds": 1.0} for index, run in enumerate(runs)]  # fmt: skip
    jobs.append({"index": 3, "overrides": ["seed=4"], "status": "failed", "run": None, "error": "It was <killed>."})
    command = ["marquee", "train", "-m", "model=mf/bpr", "seed=1,2,3,4", "name=two words"]
    record = {"schema_version": 1, "name": "mine", "command": command, "began": "2026-01-01", "jobs": jobs}
    (outputs / "sweeps/mine/sweep.json").write_text(json.dumps(record))
    done = shell("export-paper", "mine", "paper", "--runs", "outputs")
    assert done.code == 0, done.err
    lines = (tmp_path / "paper/commands.txt").read_text().splitlines()
    assert lines[:2] == ["# the sweep", "marquee train -m model=mf/bpr seed=1,2,3,4 'name=two words'"]
    assert [line.rsplit("  # ")[1] for line in lines[4:]] == [run for run in runs if "s3" not in run]
    assert "- `mine job 3: seed=4`: failed. `It was <killed>.`" in (tmp_path / "paper/README.md").read_text()
    assert "It was &lt;killed&gt;." in (tmp_path / "paper/report.html").read_text()
    assert shell("compare", "outputs/sweeps/mine", "--output", "report.html").code == 0
    assert 'href="outputs/sweeps/mine/jobs/0003.log"' in (tmp_path / "report.html").read_text()


def test_packages_that_differ_between_runs_are_warned_of(shell, outputs, tmp_path):
    other = {**ENVIRONMENT, "packages": {"torch": "2.12.1", "own": "1.0"}}
    late = write_run(outputs, "rnn/gru4rec", 1, np.random.default_rng(1).random(50), validation=0.1, environment=other)
    done = shell("export-paper", "outputs", "paper")
    assert "warning: torch differs between the runs: 2.13.0 (4 runs); 2.12.1 (1 run)." in done.err
    environment = (tmp_path / "paper/environment.txt").read_text().splitlines()
    assert "torch==2.13.0" in environment
    assert f"#   torch 2.12.1: {late.folder.name}" in environment
    assert "# python: 3.11.7" in environment
    assert "torch differs" in (tmp_path / "paper/README.md").read_text()


def test_a_folder_that_holds_something_is_left_alone(shell, outputs, tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/draft.tex").write_text("mine")
    done = shell("export-paper", "outputs", "paper")
    assert (done.code, files(tmp_path / "paper")) == (2, ["draft.tex"])
    assert "paper is not an empty folder" in done.err
    assert shell("export-paper", "outputs", "paper/draft.tex").code == 2
    (tmp_path / "empty").mkdir()
    assert shell("export-paper", "outputs", "empty").code == 0


def test_a_failure_leaves_nothing_behind(shell, outputs, tmp_path, monkeypatch):
    def broken(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("marquee.compare.paper.sums", broken)
    before = sorted(os.listdir(tmp_path))
    done = shell("export-paper", "outputs", "paper")
    assert done.code == 4
    assert "paper cannot be written: No space left on device" in done.err
    assert sorted(os.listdir(tmp_path)) == before
    assert shell("export-paper", "nowhere", "paper").code == 2
    assert sorted(os.listdir(tmp_path)) == before


def test_plots_and_a_page_can_be_had_from_compare(shell, outputs, tmp_path):
    done = shell("compare", "outputs", "--output", "report.html", "--plots", "figures")
    assert done.code == 0, done.err
    assert "written to report.html" in done.out
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "figures/quality-cost-ndcg-10.svg").exists()
    assert shell("compare", "outputs", "--format", "html").out.startswith("<!DOCTYPE html>")
    table = shell("compare", "outputs", "--plots", "figures")
    assert "mf/bpr is the best" in table.out
