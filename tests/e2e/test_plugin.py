"""A new data set and a new model are one .py and one .yaml each in a folder of the user's; nothing else is edited."""

import sys

import pandas as pd
import pytest

import marquee as package
from marquee.config import fitting, targets

from .conftest import manifest_of

DATA = '''
"""Sixteen people and two dozen plays, made up."""

import pandas as pd

from marquee.data.interactions.dataset import InteractionData


class Plays(InteractionData):
    name = "theatre/plays"

    def __init__(self, *, path: str, duplicates: str = "keep_all"):
        super().__init__(duplicates=duplicates)
        self.path = path

    def sources(self, paths):
        return {"interactions": paths.data / self.path}

    def read_interactions(self, path):
        return pd.read_csv(path, names=["user", "item", "timestamp"])
'''

MODEL = '''
"""What was played most lately: popularity that decays with the position in the training data."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from marquee.data.spec import InteractionSpec
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix
from marquee.models.base import Recommender


class Fashion(Recommender):
    max_epochs = 1
    scores_unseen_users = True

    def __init__(self, spec: InteractionSpec, *, view: Matrix, lift: Annotated[float, Interval(gt=0, le=10)] = 1.0):
        super().__init__()
        self.view = view
        self.lift = lift
        self.register_buffer("counts", torch.zeros(spec.n_items))

    def fit(self, batch):
        self.counts += torch.bincount(batch.items, minlength=len(self.counts)) * self.lift

    def score(self, users, histories: Histories):
        return self.counts.expand(len(histories.offsets) - 1, -1)
'''

FILES = {
    "theatre/__init__.py": "",
    "theatre/data/__init__.py": "",
    "theatre/data/plays.py": DATA,
    "theatre/models/__init__.py": "",
    "theatre/models/fashion.py": MODEL,
    "conf/data/plays.yaml": """
        defaults:
          - override /split@_global_.split: leave_one_out
          - override /task@_global_.task: recommendation
          - override /model@_global_.model: theatre/fashion
          - _self_
        _target_: theatre.data.plays.Plays
        path: plays.csv        # below paths.data
        """,
    "conf/model/theatre/fashion.yaml": """
        _target_: theatre.models.fashion.Fashion
        view:
          _target_: marquee.data.interactions.views.Matrix
        lift: 2.0              # what a play counts; 0 ... 10
        """,
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package `theatre` with a data set and a model, and the folder of their YAML."""
    for name, text in FILES.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
        path.write_text("\n".join(line[margin:] for line in lines) + "\n")
    (tmp_path / "data").mkdir()
    rows = [(user, f"play {(user * 5 + step * 7) % 24}", step) for user in range(16) for step in range(6)]
    pd.DataFrame(rows).to_csv(tmp_path / "data" / "plays.csv", index=False, header=False)
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.setenv("MARQUEE_PLUGINS", "theatre")
    _forget()
    yield tmp_path / "own" / "conf"
    _forget()
    for name in [name for name in sys.modules if name.split(".")[0] == "theatre"]:
        del sys.modules[name]


def _forget():
    """Classes are looked up once a process; each test has another package of the same name."""
    for remembered in (targets.resolve, targets.signature, fitting.option_class):
        remembered.cache_clear()


def test_a_data_set_and_a_model_of_ones_own_are_trained_recorded_and_used(plugin, shell, tmp_path):
    done = shell("train", "--config-dir", plugin, "data=plays", "tracker=none", "model.lift=3")
    assert done.code == 0, done.err
    assert "theatre/fashion" in done.out and "baseline/popular" in done.out
    run = (tmp_path / "outputs" / "latest").resolve()
    manifest = manifest_of(run)
    assert (manifest["data"]["name"], manifest["model"]) == ("plays", "theatre/fashion")
    # It counts plays, so it ranks as the popularity baseline does.
    assert manifest["metrics"]["test/ndcg@10"] == pytest.approx(manifest["baselines"]["baseline/popular"]["ndcg@10"])
    recommended = shell("recommend", "latest", "--history", "play 0", "-k", "3")
    assert recommended.code == 0 and len(recommended.out.splitlines()) == 4
    assert package.load(run).model.lift == 3.0


def test_a_model_of_ones_own_works_with_shipped_data_and_the_other_way_round(plugin, shell):
    words = ["--config-dir", str(plugin), "tracker=none", "trainer.max_epochs=1"]
    assert shell("train", *words, "data=world_ratings", "model=theatre/fashion").code == 0
    assert shell("train", *words, "data=plays", "model=mf/bpr", "model.dim=4").code == 0


def test_what_is_ones_own_is_checked_like_what_ships(plugin, shell):
    done = shell("check", "--config-dir", plugin, "data=plays", "model.lift=11", "data.pth=x")
    assert done.code == 2
    for part in ("2 problems", "model.lift", "<= 10", "data.pth", "data.path"):
        assert part in done.err
    done = shell("check", "--config-dir", plugin, "data=plays", "model=cnn/poster")
    assert done.code == 2 and "theatre/fashion" in done.err and "ImageSpec" in done.err


def test_without_the_setting_nothing_of_ones_own_is_built(plugin, shell, monkeypatch):
    monkeypatch.setenv("MARQUEE_PLUGINS", "")
    done = shell("train", "--config-dir", plugin, "data=plays", "tracker=none")
    assert done.code == 2 and "theatre.data.plays.Plays" in done.err and "MARQUEE_PLUGINS" in done.err
