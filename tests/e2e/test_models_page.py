"""The pages of models and results: made by their scripts from finished runs, and in step with what ships."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ..forked import run as forked

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"


def script(name, *words):
    import runpy
    import sys

    sys.argv = [str(SCRIPTS / name), *words]
    runpy.run_path(sys.argv[0], run_name="__main__")


def rows(text):
    """The cells of each model of a page, by name."""
    lines = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {cells[0].strip("| `"): cells for cells in lines}


def recommenders():
    from marquee.config.fitting import option_class
    from marquee.config.folders import options
    from marquee.models.base import Recommender

    return {name for name in options("model") if issubclass(option_class("model", name), Recommender)}


def test_the_page_is_made_of_what_the_runs_have_recorded(shell, tmp_path):
    words = ["data=world_ratings", "model=linear/ease,baseline/popular", "tracker=none"]
    assert shell("train", "-m", *words, "split=ratio", "sweep=scores").code == 0
    page = tmp_path / "models.md"
    sweep = str(tmp_path / "outputs/sweeps/scores")
    done = forked(script, "models.py", sweep, "--output", str(page))
    assert done.returncode == 0, done.stderr
    results_of_the_same(sweep, tmp_path / "results.md")
    text = page.read_text()
    found = rows(text)
    assert set(found) == recommenders()
    assert "split ratio (validation=0.1, test=0.1, seed=0" in text and "seeds 1" in text
    ease, popular = found["linear/ease"], found["baseline/popular"]
    assert ease[1:4] == ["EASE (Steck 2019)", "Matrix", "yes"]
    assert ease[5] == "160"  # 400 x 400 weights, in thousands
    assert float(ease[7]) > float(popular[7]) > 0.05
    assert "`model.features=true`" in found["transformer/sasrec"] and found["neural/two_tower"][4] == "yes"
    assert [found["mf/bpr"][place] for place in (3, 7)] == ["", ""]


def results_of_the_same(sweep, page):
    """The page of results has the command that makes the sweep again, and its comparison."""
    done = forked(script, "results.py", sweep, "--output", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "marquee train -m data=world_ratings model=linear/ease,baseline/popular split=ratio sweep=scores\n" in text
    assert (
        "2 runs, seeds 1, " in text
        and re.search(r"\| (\*\*)?linear/ease(\*\*)? \| 1 \| ", text)
        and "protocol: data world_ratings" in text
    )


def test_a_sweep_of_several_commands_is_given_back_as_several():
    import runpy

    commands = runpy.run_path(str(SCRIPTS / "results.py"))["commands"]
    jobs = [
        *("data=a model=x model.c=0.1", "data=a model=y"),  # y has no key c, so they are no grid
        *("data=a model=x seed=1", "data=a model=x seed=2", "data=a model=y seed=1", "data=a model=y seed=2"),
        *("data=a model=x lr=1 seed=1", "data=a model=x lr=1 seed=2", "data=a model=y lr=2 seed=1"),
    ]
    sweep = SimpleNamespace(jobs=[SimpleNamespace(overrides=["tracker=none", *job.split()]) for job in jobs])
    assert commands(sweep) == [
        "marquee train -m data=a model=x model.c=0.1",
        "marquee train -m data=a model=y",
        "marquee train -m data=a model=x,y seed=1,2",
        "marquee train -m data=a model=x lr=1 seed=1,2",
        "marquee train -m data=a model=y lr=2 seed=1",
    ]


@pytest.mark.parametrize("name", ["models.py", "results.py"])
def test_a_sweep_that_is_not_there_is_named(tmp_path, name):
    done = forked(script, name, str(tmp_path / "nothing"), "--output", str(tmp_path / "page.md"))
    assert done.returncode == 2 and "nothing" in done.stderr and not (tmp_path / "page.md").exists()


def test_the_page_in_docs_has_every_recommender_that_ships_with_its_score():
    found = rows((REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8"))
    assert set(found) == recommenders()
    assert [name for name, cells in found.items() if not re.match(r"0\.\d{4}", cells[7])] == []


def test_the_page_of_results_compares_all_of_them_in_one_sweep():
    text = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"marquee train -m data=movielens_100k split=ratio model=(\S+) sweep=models_100k", text)
    assert set(command.split(",")) == recommenders()
    assert set(re.findall(r"^\| (?:\*\*)?(\w+/\w+)(?:\*\*)? \| \d+ \| ", text, re.M)) >= recommenders()


@pytest.mark.parametrize("page", ["models.md", "results.md"])
def test_the_readme_leads_to_the_pages(page):
    assert f"docs/{page}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert (REPOSITORY / "docs" / page).is_file()
