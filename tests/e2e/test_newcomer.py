"""docs/house.md is true: the package that it builds step by step is written from the page, checked and run."""

import json
import re
import sys
from pathlib import Path

import pytest

from marquee.cli import listing, main
from marquee.cli.arguments import runs_option
from marquee.config import folders, targets
from marquee.config.fitting import option_class

PAGE = Path(__file__).resolve().parents[2] / "docs" / "house.md"
BLOCK = re.compile(r"```\w+\n# (mine/\S+)\n(.*?)```", re.DOTALL)


def forget():
    """The package is written anew for each test, so nothing of it may be remembered."""
    for cached in (targets.resolve, targets.signature, folders.read_yaml, option_class):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture
def mine(shell, tmp_path, monkeypatch):
    """The working folder with the package `mine` in it, as the page writes it."""
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 6
    for name, text in blocks:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "data").mkdir()
    visits = [f"{user},place {(user * 5 + step * 7) % 23},{step}" for user in range(30) for step in range(8)]
    (tmp_path / "data" / "visits.csv").write_text("\n".join(visits))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MARQUEE_PLUGINS", "mine")
    forget()
    yield shell
    forget()


def test_the_models_steps(mine, tmp_path):
    assert mine("check", "model=mine/recent").code == 0
    assert mine("train", "model=mine/recent", "tracker=none").code == 0
    manifest = json.loads((tmp_path / "outputs" / "latest" / "manifest.json").read_text())
    assert manifest["model"] == "mine/recent"
    assert manifest["metrics"]["test/ndcg@10"] > manifest["baselines"]["baseline/random"]["ndcg@10"]
    assert mine("recommend", "latest", "--user", "1", "-k", "3").out.count("\n") == 4
    refused = mine("check", "model=mine/recent", "model.decay=2")
    assert refused.code == 2 and "number > 0 and <= 1" in refused.err


def test_the_data_sets_steps_and_the_tasks(mine):
    assert mine("check", "data=visits").code == 0
    for head in (3, 5):
        trained = mine("train", "data=visits", "task=novelty", f"task.head={head}", "tracker=none")
        assert trained.code == 0, trained.err
    assert f"seen items masked, without the {head} most popular" in trained.out
    content = json.loads(mine("compare", "outputs", "--format", "json").out)
    assert len(content["blocks"]) == 2
    assert content["blocks"][1]["differs"] in (["task.head=5, not 3"], ["task.head=3, not 5"])


def test_the_verbs_steps(mine, monkeypatch, capsys):
    """As the page says: a name in VERBS, arguments in the family's `add_verbs`, an act."""
    before = listing.add_verbs

    def act(parsed):
        print(f"{parsed.run} is counted")

    def add_verbs(verb):
        before(verb)
        runs_option(verb("count", act, "marquee count latest")).add_argument("run", metavar="RUN")

    monkeypatch.setitem(main.VERBS, "count", "count what a run has recommended")
    monkeypatch.setattr(listing, "add_verbs", add_verbs)
    assert main.main(["count", "latest"]) == 0
    assert capsys.readouterr().out == "latest is counted\n"
    with pytest.raises(SystemExit):
        main.main(["--help"])
    assert "count what a run has recommended" in capsys.readouterr().out
