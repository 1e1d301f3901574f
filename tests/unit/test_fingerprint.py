"""Identity: everything that can change a result changes it, and nothing else does."""

import copy

import pytest

from marquee.config.compose import compose
from marquee.config.fingerprint import EXCLUDED, canonical, fingerprint, identity

CODE = {"sha256": "c"}


@pytest.fixture(scope="module")
def config():
    return compose(["data=movielens_100k", "model=mf/bpr"]).config


def of(config, data="d", split="s", code=CODE):
    return fingerprint(config, data, split, code)


def changed(config, key, value):
    new = copy.deepcopy(config)
    *parents, leaf = key.split(".")
    node = new
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    return new


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_key_counts_except_the_listed_ones(config):
    first = of(config)
    for key in leaves(config):
        excluded = any(key == name or key.startswith(name + ".") for name in EXCLUDED)
        assert (of(changed(config, key, "another value")) == first) is excluded, key


def test_the_exclusion_list_is_short_and_says_what_it_always_said():
    assert EXCLUDED == (
        "paths", "tracker", "plots", "hydra", "resume", "name", "tags", "sweep", "callbacks.pruning", "data.path",
        "model.run_folders", "task.extractor_folder",
        "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    )  # fmt: skip


def test_data_split_and_code_count(config):
    assert len({of(config), of(config, data="x"), of(config, split="x"), of(config, code={"sha256": "x"})}) == 4


def test_the_order_of_keys_does_not_count(config):
    assert of(dict(reversed(list(config.items())))) == of(config)
    assert canonical({"b": 1e-3, "a": [True, None, 2.0]}) == '{"a":[true,null,2.0],"b":0.001}'


def test_one_batch_and_all_batches_are_two_experiments(config):
    one, all_ = (changed(config, "trainer.limit_train_batches", value) for value in (1, 1.0))
    assert of(one) != of(all_)


def test_true_is_not_one():
    assert canonical(True) != canonical(1)


def test_the_configuration_itself_is_left_whole(config):
    before = copy.deepcopy(config)
    identity(config)
    assert config == before


def test_a_known_value():
    # sha256 of {"code":"c","config":{"seed":1},"data":"d","split":"s"}, by `printf '%s' ... | sha256sum`
    assert of({"seed": 1, "name": "x"}) == "03a0a40396280b97aa498eb571c02f13f85a402bcf54a4e3dd6e1cd5258b5790"
