"""Composition: who wins, where a key came from, and what is said about a choice that does not exist."""

import pytest
import yaml

from marquee.config.compose import _hydra, compose, compose_all, normalised, search_path_override, typed
from marquee.config.folders import choice_of, conf_folder, groups, options
from marquee.errors import ConfigError


def test_data_brings_its_split_task_and_model():
    choices = compose(["data=imdb"]).choices
    assert choices["task"] == "classification"
    assert choices["model"] != compose([]).choices["model"]


def test_the_command_line_wins_over_the_data():
    choices = compose(["model=rnn/gru4rec", "split=ratio", "data=movielens_100k"]).choices
    assert (choices["model"], choices["split"], choices["task"]) == ("rnn/gru4rec", "ratio", "recommendation")


@pytest.fixture
def own_conf(tmp_path, monkeypatch):
    """A folder of one's own: a model that asks for another optimizer, and an experiment."""
    for name, text in {
        "model/mine/wants_adagrad.yaml": "defaults:\n  - override /optimizer@_global_.optimizer: adagrad\n  - _self_\n"
        "_target_: mine.thing.Thing\ndim: 3\n",
        "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /data: imdb\n"
        "  - override /trainer: smoke\n"
        "  - _self_\nseed: 7\noptimizer:\n  lr: 0.5\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path))
    return tmp_path


def test_a_model_may_choose_its_optimizer_and_the_command_line_still_wins(own_conf):
    assert compose(["model=mine/wants_adagrad"]).choices["optimizer"] == "adagrad"
    assert compose(["model=mine/wants_adagrad", "optimizer=sgd"]).choices["optimizer"] == "sgd"


def test_an_experiment_wins_over_the_defaults_and_loses_to_the_command_line(own_conf):
    recipe = compose(["experiment=mine"])
    assert (recipe.choices["data"], recipe.choices["trainer"], recipe.config["seed"]) == ("imdb", "smoke", 7)
    changed = compose(["experiment=mine", "data=world_ratings", "seed=8"])
    assert (changed.choices["data"], changed.choices["task"], changed.config["seed"]) == (
        "world_ratings",
        "recommendation",
        8,
    )


def test_origin_names_the_file_or_the_command_line(own_conf):
    composed = compose(["experiment=mine", "trainer.max_epochs=2", "model=mine/wants_adagrad"])
    assert composed.origin("trainer.max_epochs") == "command line"
    assert composed.origin("trainer.limit_val_batches") == "conf/trainer/smoke.yaml"
    assert composed.origin("trainer.precision") == "conf/trainer/default.yaml"
    assert composed.origin("optimizer.lr").endswith("experiment/mine.yaml")
    assert composed.origin("model.dim").endswith("model/mine/wants_adagrad.yaml")
    assert composed.origin("name") == "conf/train.yaml"


def test_interpolations_are_resolved_and_hydra_is_left_out():
    config = compose(["scheduler=cosine", "trainer.max_epochs=7"]).config
    assert config["scheduler"]["T_max"] == 7
    assert "hydra" not in config


def test_paths_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MARQUEE_DATA", "/somewhere")
    assert compose([]).config["paths"]["data"] == "/somewhere"
    monkeypatch.delenv("MARQUEE_DATA")
    assert compose([]).config["paths"]["data"] == "~/.cache/marquee"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model=mf/bprr"], ["mf/bprr", "did you mean:   model=mf/bpr", "rnn/lstm"]),
        (["model=bpr"], ["did you mean:   model=mf/bpr"]),
        (["data=movilens_100k"], ["data=movielens_100k"]),
        (["a b"], ["command line", "key=value"]),
        (["optimizer=null"], ["null"]),
        (["trainer.max_epochs=${nothing}"], ["nothing"]),
    ],
)
def test_what_cannot_be_composed_is_explained(words, parts):
    with pytest.raises(ConfigError) as caught:
        compose(words)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_configuration_folder_is_named(monkeypatch):
    monkeypatch.setenv("MARQUEE_CONF", "/no/such/folder")
    with pytest.raises(ConfigError, match="/no/such/folder"):
        compose([])


def test_keys_may_be_added_with_or_without_plus_and_groups_are_left_alone():
    words = ["model.dim=3", "+model.dim=3", "model=mf/bpr", "~callbacks", "hydra.verbose=true", "++a=1"]
    assert normalised(words) == [
        "++model.dim=3",
        "++model.dim=3",
        "model=mf/bpr",
        "~callbacks",
        "hydra.verbose=true",
        "++a=1",
    ]
    assert typed(["++model.dim=3", "model=mf/bpr"]) == ["model.dim=3", "model=mf/bpr"]


def test_many_jobs_are_composed_like_one():
    jobs = [["seed=2"], ["data=imdb", "model.dim=8"]]
    assert [job.config for job in compose_all(jobs)] == [compose(words).config for words in jobs]


def test_the_choice_behind_a_node_is_recognised():
    config = compose(["data=movielens_1m", "model=linear/ease"]).config
    assert choice_of("data", config["data"]) == "movielens_1m"
    assert choice_of("model", config["model"]) == "linear/ease"
    assert choice_of("model", {"_target_": "mine.Thing"}) == "Thing"
    assert choice_of("model", None) is None


@pytest.mark.parametrize("value", ["", "0", "banana"])
def test_a_wrong_variable_of_plots_is_named(monkeypatch, value):
    monkeypatch.setenv("MARQUEE_PLOTS", value)
    with pytest.raises(ConfigError, match=f"MARQUEE_PLOTS='{value}' is neither true nor false"):
        compose([])


def test_every_own_group_option_is_valid_yaml_with_a_comment_at_each_key():
    for group in ("optimizer", "scheduler", "trainer", "callbacks", "tracker", "paths", "hydra"):
        assert group in groups()
        for option in options(group):
            text = (conf_folder() / group / f"{option}.yaml").read_text()
            assert text.startswith("#"), f"{group}/{option} opens without a sentence"
            assert isinstance(yaml.safe_load(text), dict)
            for line in text.splitlines():
                key = line.strip().partition(":")[0]
                if (
                    line.startswith((" ", "#", "-"))
                    or not line
                    or line.endswith(":")
                    or key in ("_target_", "defaults")
                ):
                    continue
                assert "#" in line or group in ("hydra", "tracker"), f"{group}/{option}: {line}"


def test_many_jobs_are_composed_as_hydra_composes_each(tmp_path, monkeypatch):
    """Second implementation: Hydra's own compose, one job at a time."""
    import hydra
    from omegaconf import OmegaConf

    jobs = [
        ["data=world_ratings", "model=mf/bpr", "seed=1"],
        ["data=world_ratings", "model=mf/bpr", "seed=2", "optimizer.lr=3e-3", "trainer.max_epochs=7"],
        ["data=imdb", "model=linear/bag_of_words", "tags=[a,b]", "+model.extra={x: 1, y: [2, 3]}"],
        ["data=imdb", "model=linear/bag_of_words", "name='a, b'", "paths.output=elsewhere"],
        ["data=world_ratings", "model=mf/bpr", "model.dim=8", "~tracker.wandb"],
        ["experiment=ml100k_bpr", "seed=3", "sweep=a_name"],
        ["data=world_ratings", "model=mf/bpr", "name=${seed}", "seed=5"],
    ]
    for words, composed in zip(jobs, compose_all(jobs), strict=True):
        with _hydra():
            node = hydra.compose("train", [*search_path_override(), *normalised(words)])
        assert composed.config == OmegaConf.to_container(node, resolve=True), words
        assert composed.overrides == tuple(words)
