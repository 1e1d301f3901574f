"""The check: all mistakes at once, each with its key, its file, what is allowed and what to type."""

import dataclasses

import pytest

from marquee.config.check import check, check_all, problems
from marquee.config.compose import compose
from marquee.config.fitting import everything, fitting, models_of
from marquee.config.targets import resolve
from marquee.errors import ConfigError

BPR = ["data=movielens_100k", "model=mf/bpr", "tracker=none"]


def found(*words):
    return {problem.key: problem for problem in problems(compose(list(words)))}


def test_the_default_is_sound():
    check(compose([]))


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        check(
            compose([*BPR, "+model.widht=3", "+lerning_rate=3", "trainer.max_epochs=abc", "model.dim=-4", "seed=true"])
        )
    text = str(caught.value)
    assert text.startswith("5 problems")
    for part in ("model.widht", "lerning_rate", "trainer.max_epochs", "abc (text)", "integer >= 1", "command line"):
        assert part in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("word", ["+model.dmi=3", "model.dmi=3", "++model.dmi=3"])
def test_an_unknown_key_is_refused_however_it_is_added(word):
    problem = found(*BPR, word)["model.dmi"]
    assert "did you mean model.dim?" in problem.fix
    assert "model.dim=3" in problem.fix
    assert problem.origin == "command line"


def test_a_key_of_the_signature_needs_no_plus():
    assert found(*BPR, "trainer.max_steps=3") == {}


def test_unknown_keys_deep_down_and_in_paths_are_found():
    problem = found(*BPR, "model.view.batch_sise=3", "paths.dta=/x", "trainr.max_epochs=3")
    assert "model.view.batch_size" in problem["model.view.batch_sise"].fix
    assert "paths.data" in problem["paths.dta"].fix
    assert "trainer" in problem["trainr"].fix


def test_a_typo_inside_a_yaml_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "typo.yaml").write_text("_target_: torch.optim.Adam\nlrr: 0.1\n")
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path))
    problem = found(*BPR, "optimizer=typo")["optimizer.lrr"]
    assert problem.origin.endswith("optimizer/typo.yaml")
    assert "optimizer.lr" in problem.fix


def test_a_wrong_spec_names_the_models_that_fit():
    problem = found("data=movielens_100k", "model=cnn/poster")["model"]
    assert "ImageSpec" in problem.found
    assert "InteractionSpec" in problem.allowed
    assert "mf/bpr" in problem.allowed
    assert "cnn/poster" not in problem.allowed


def test_split_and_task_must_fit_the_data_too():
    problem = found("data=imdb", "split=ratio", "task=recommendation")
    assert "holdout" in problem["split"].allowed
    assert "classification" in problem["task"].allowed


def misspelt(word):
    """Each letter left out, doubled, replaced, and swapped with the next."""
    for place in range(len(word)):
        before, letter, after = word[:place], word[place], word[place + 1 :]
        yield from (before + after, before + letter * 2 + after, before + "x" + after)
        if after and after[0] != letter:
            yield before + after[0] + letter + after[1:]


def test_every_misspelt_name_of_a_callback_or_tracker_is_told_the_right_one():
    composed = compose([*BPR[:2], "tracker=all"])
    typos = 0
    for group, key in (("callbacks", "patience"), ("tracker", "mode")):
        for name in composed.config[group]:
            for typo in misspelt(name):
                nodes = {**composed.config[group], typo: {key: 3}}
                wrong = dataclasses.replace(composed, config={**composed.config, group: nodes})
                (problem,) = problems(wrong)
                assert (problem.key, problem.fix) == (f"{group}.{typo}", f"did you mean {group}.{name}.{key}=3?")
                typos += 1
    assert typos > 150


@pytest.mark.parametrize(
    ("words", "key", "fix"),
    [
        (["tracker=none", "tracker.wandb.mode=online"], "tracker.wandb", "tracker=wandb brings tracker.wandb"),
        (["tracker.mode=online"], "tracker.mode", "did you mean tracker.wandb.mode=online?"),
        (["callbacks=none", "callbacks.erly_stopping.patience=3"], "callbacks.erly_stopping",
         "callbacks=default brings callbacks.early_stopping"),
        (["callbacks.early_stoping=3"], "callbacks.early_stoping", "did you mean callbacks.early_stopping?"),
        (["callbacks.zzz.zz=3"], "callbacks.zzz", ""),
    ],
)  # fmt: skip
def test_a_name_that_nothing_brings_is_told_what_does(words, key, fix):
    problem = found(*BPR[:2], *words)[key]
    assert problem.fix == fix and problem.origin == "command line"


def test_missing_values_and_missing_nodes():
    assert found("data=interactions")["data.path"].missing
    assert found(*BPR, "model.dim=???")["model.dim"].allowed == "integer >= 1"
    assert "without _target_" in found(*BPR, "~optimizer._target_")["optimizer"].found


def test_targets_that_cannot_or_may_not_be_built():
    problem = found(*BPR, "optimizer._target_=subprocess.Popen")["optimizer._target_"]
    assert "may not be instantiated" in problem.allowed
    assert "Did you mean Adam?" in found(*BPR, "optimizer._target_=torch.optim.Adm")["optimizer._target_"].allowed
    assert "sub-class of" in found(*BPR, "optimizer._target_=torch.nn.Linear")["optimizer"].allowed


def test_what_the_framework_supplies_cannot_be_configured():
    assert "framework" in found(*BPR, "trainer.callbacks=[]")["trainer.callbacks"].allowed
    assert "framework" in found(*BPR, "optimizer.params=[]")["optimizer.params"].allowed


def test_a_nested_node_must_be_of_the_annotated_class():
    assert "_target_" in found(*BPR, "model.view=3")["model.view"].allowed
    wrong = found(*BPR, "model.view={_target_: torch.optim.Adam}")
    assert "sub-class of marquee.data.interactions.views.Pairs" in wrong["model.view"].allowed


def test_hydras_own_instructions_inside_a_node_are_unknown_keys():
    assert "model._partial_" in found(*BPR, "model._partial_=true")


def test_a_model_of_ones_own_is_one_module_and_one_yaml(tmp_path, monkeypatch):
    (tmp_path / "mine_plugin").mkdir()
    (tmp_path / "mine_plugin" / "__init__.py").write_text("")
    (tmp_path / "mine_plugin" / "thing.py").write_text(
        "from typing import Annotated\n"
        "from annotated_types import Ge\n"
        "from marquee.data.spec import InteractionSpec\n"
        "from marquee.data.interactions.views import Pairs\n"
        "from marquee.models.base import Recommender\n\n\n"
        "class Thing(Recommender):\n"
        "    def __init__(self, spec: InteractionSpec, *, view: Pairs, dim: Annotated[int, Ge(1)] = 4):\n"
        "        super().__init__()\n"
    )
    yaml = tmp_path / "mine_plugin" / "conf" / "model" / "mine" / "thing.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text(
        "_target_: mine_plugin.thing.Thing\ndim: 4\nview:\n"
        "  _target_: marquee.data.interactions.views.Pairs\n  batch_size: 8\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARQUEE_PLUGINS", "mine_plugin")
    assert found("data=movielens_100k", "model=mine/thing", "model.dim=5") == {}
    assert list(found("data=movielens_100k", "model=mine/thing", "model.dim=0")) == ["model.dim"]
    assert "mine/thing" in fitting("model", resolve(compose(["data=movielens_100k"]).config["data"]["_target_"]))
    assert "model" in found("data=imdb", "model=mine/thing")


RATED = """
from abc import abstractmethod

from marquee.data.interactions.views import Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Model
from marquee.tasks.base import Task


class Rater(Model):
    @abstractmethod
    def rate(self, users, items): ...


class Rating(Task):
    spec_types, unit = (InteractionSpec,), "rating"

    def __init__(self, model: Rater, data, optimizer=None, scheduler=None, seed=0):
        super().__init__(model, data, optimizer, scheduler, seed)


class Duel(Rating):
    learners = ("left", "right")

    def __init__(self, model, data, optimizer=None, scheduler=None, seed=0):
        super().__init__(model, data, optimizer, scheduler, seed)


class Mean(Rater):
    def __init__(self, spec: InteractionSpec, *, view: Pairs):
        super().__init__()
"""
RATED_CONF = {
    "task/grading": "_target_: rated_plugin.Rating\n",
    "task/duel": "_target_: rated_plugin.Duel\n",
    "model/mine/mean": "_target_: rated_plugin.Mean\nview:\n  _target_: marquee.data.interactions.views.Pairs\n"
    "  batch_size: 8\n",
    "optimizer/two": "left:\n  _target_: torch.optim.Adam\nright:\n  _target_: torch.optim.SGD\n  lr: 0.1\n",
}


@pytest.fixture
def rated(tmp_path, monkeypatch):
    """A plug-in with another question about the same data: a task of ratings, one with two learners, and a model."""
    (tmp_path / "rated_plugin").mkdir()
    (tmp_path / "rated_plugin" / "__init__.py").write_text(RATED)
    for name, text in RATED_CONF.items():
        file = tmp_path / "rated_plugin" / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARQUEE_PLUGINS", "rated_plugin")


def test_a_task_takes_models_of_its_own_kind_only(rated):
    assert found(*BPR[:1], "tracker=none", "task=grading", "model=mine/mean") == {}
    ranking_for_ratings = found(*BPR, "task=grading")
    assert list(ranking_for_ratings) == ["model"]
    assert ranking_for_ratings["model"].found == "model=mf/bpr (marquee.models.mf.bpr.BPR) is no Rater"
    assert ranking_for_ratings["model"].allowed == "task=grading takes a Rater; what fits: mine/mean"
    assert ranking_for_ratings["model"].fix == "leave model=mf/bpr out, or model=mine/mean"
    rating_for_ranking = found(*BPR[:1], "model=mine/mean")["model"]
    assert rating_for_ranking.found.endswith("is no Recommender")
    assert "mf/bpr" in rating_for_ranking.allowed and "mine/mean" not in rating_for_ranking.allowed


def test_who_types_only_the_task_is_told_of_tasks_and_models(rated):
    problem = found(*BPR[:1], "task=grading")
    assert list(problem) == ["task"]
    assert problem["task"].allowed == "model=mf/bpr is none; what fits: recommendation, stream"
    assert problem["task"].fix == "leave task=grading out, or task=recommendation, or model=mine/mean"


def test_a_task_inherits_what_models_it_takes(rated):
    from marquee.tasks.classification import Classification

    assert [base.__name__ for base in models_of(resolve("rated_plugin.Duel"))] == ["Rater"]
    assert [base.__name__ for base in models_of(Classification)] == ["Classifier"]


def test_check_all_joins_what_fits_and_gives_named_optimisers_to_their_task(rated):
    jobs = everything()
    assert ["data=world_ratings", "task=grading", "model=mine/mean"] in jobs
    assert ["data=world_ratings", "task=recommendation", "model=mf/bpr"] in jobs
    assert ["data=gowalla"] in jobs and ["data=world_ratings", "task=rating", "model=mf/svdpp"] in jobs
    wrong = [job for job in jobs if ("task=grading" in job) != ("model=mine/mean" in job) and "task=duel" not in job]
    assert wrong == []
    (two,) = [job for job in jobs if "optimizer=two" in job]
    assert two[1:] == ["task=duel", "model=mine/mean", "optimizer=two"]
    assert [problem for problem in found(*two).values() if not problem.missing] == []


def test_a_schedule_by_the_step_does_not_keep_its_length_in_epochs():
    step = ["scheduler=cosine", "scheduler.interval=step"]
    problem = found(*BPR, *step)["scheduler.T_max"]
    assert "optimizer steps" in problem.allowed and problem.found == "50, which is trainer.max_epochs"
    assert found(*BPR, *step, "scheduler.T_max=900") == {} == found(*BPR, *step, "scheduler.T_max=50")
    assert found(*BPR, "scheduler=cosine") == {}


def test_everything_that_ships_is_sound():
    results = check_all()
    assert len(results) > 20
    assert {words: list(map(str, wrong)) for words, wrong in results if wrong} == {}
