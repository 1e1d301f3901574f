"""The pages of models and results: made by their scripts from finished runs, and in step with what ships."""

import re
from pathlib import Path

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
    # Added to a page that knew another value of one of them, the rest stays as it was.
    page.write_text(text.replace("| EASE (Steck 2019) |", "| old |").replace("| `mf/bpr` |", "| `mf/bpr` | kept"))
    assert forked(script, "models.py", sweep, "--add", "--output", str(page)).returncode == 0
    grown = page.read_text()
    assert rows(grown)["linear/ease"] == ease and "| `mf/bpr` | kept" in grown
    assert "**NDCG@10 of `baseline/popular`, `linear/ease`**: data world_ratings" in grown
    assert forked(script, "models.py", sweep, "--add", "--output", str(page)).returncode == 0
    assert page.read_text() == grown  # once more changes nothing


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


def test_the_page_of_classifiers_grows_by_a_table_a_sweep(shell, tmp_path):
    words = ["data=world_reviews", "model=linear/nbsvm,linear/naive_bayes,baseline/majority", "tracker=none"]
    assert shell("train", "-m", *words, "sweep=reading").code == 0
    page = tmp_path / "classifiers.md"
    page.write_text("# Old\n\n## posters: seeing\n\n| kept |\n")
    done = forked(script, "classifiers.py", str(tmp_path / "outputs/sweeps/reading"), "--output", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# The classifiers\n") and text.index("| kept |") < text.index("## world_reviews: reading")
    found = rows(text)
    assert set(found) == {"linear/nbsvm", "linear/naive_bayes", "baseline/majority"}
    bayes = found["linear/naive_bayes"]
    assert bayes[1].startswith("Naive Bayes") and float(bayes[2]) > 0.7 and " to " in bayes[3]
    assert min(float(bayes[place]) for place in (5, 6, 7, 8)) > 0


def test_a_mixed_sweep_has_a_command_for_each_kind_of_job():
    import runpy
    from types import SimpleNamespace

    commands = runpy.run_path(str(SCRIPTS / "results.py"))["commands"]
    jobs = [["model=a", "seed=1"], ["model=a", "seed=2"], ["model=b", "model.c=3", "plots=false"], ["x=1", "y=1"],
            ["x=2", "y=2"]]  # fmt: skip
    found = commands(SimpleNamespace(jobs=[SimpleNamespace(overrides=words) for words in jobs]))
    assert found == [f"marquee train -m {words}" for words in
                     ("model=a seed=1,2", "model=b model.c=3", "x=1 y=1", "x=2 y=2")]  # fmt: skip


@pytest.mark.parametrize("name", ["models.py", "results.py", "classifiers.py"])
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
    # Models that only read features are compared where there are some.
    apart = {"mf/vbpr", "mf/mapped_ials", "graph/freedom"}
    assert set(command.split(",")) == recommenders() - apart
    assert set(re.findall(r"^\| (?:\*\*)?(\w+/\w+)[^|]*? \| \d+ \| ", text, re.M)) >= recommenders()


def test_the_page_of_classifiers_has_every_one_that_ships():
    from marquee.config.fitting import option_class
    from marquee.config.folders import options
    from marquee.models.base import Classifier, Tagger

    text = (REPOSITORY / "docs" / "classifiers.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+/\w+)`", text, re.M)  # with the keys that tell configurations apart behind it
    kinds = {name: option_class("model", name) for name in options("model")}
    # Taggers are judged by slots, which is another page's table.
    shipped = {name for name, kind in kinds.items() if issubclass(kind, Classifier) and not issubclass(kind, Tagger)}
    assert shipped - set(found) == {"baseline/majority"}  # which stands in every table without a run of its own


@pytest.mark.parametrize("page", ["models.md", "results.md", "classifiers.md"])
def test_the_readme_leads_to_the_pages(page):
    assert f"docs/{page}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert (REPOSITORY / "docs" / page).is_file()
