"""Grids: the product as Hydra's own sweeper makes it, lists that advance together, and one batch for all of it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from marquee.errors import ConfigError
from marquee.sweeps.grid import expand
from marquee.sweeps.settings import check_settings


@pytest.mark.parametrize(
    "words",
    [
        ["model=mf/bpr,linear/ease", "seed=1,2,3", "data=world_ratings"],
        ["seed=range(0,3)", "++model.dim=choice(8,16)", "~callbacks.early_stopping"],
        ["model.channels=[4,8],[8,16]", "name='a, b',c", "seed=1", "seed=2,3"],
        ["optimizer.lr=range(0.1,0.5,0.1)", "tags=[]", "data.path=null"],
    ],
)
def test_the_product_is_that_of_hydras_own_sweeper(words):
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (expected,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), max_batch_size=None)
    # But for `~key`, which Hydra hands on as `~key=null`: that deletes the key only where it is null.
    assert expand(words) == [
        [word.removesuffix("=null") if word[0] == "~" else word for word in job] for job in expected
    ]


def test_zipped_lists_advance_together_and_the_rest_is_a_product():
    words = ["++model.dim=32,64", "seed=1,2", "++optimizer.lr=0.01,0.001"]
    assert expand(words, ["model.dim", "optimizer.lr"]) == [  # by hand
        ["++model.dim=32", "++optimizer.lr=0.01", "seed=1"],
        ["++model.dim=32", "++optimizer.lr=0.01", "seed=2"],
        ["++model.dim=64", "++optimizer.lr=0.001", "seed=1"],
        ["++model.dim=64", "++optimizer.lr=0.001", "seed=2"],
    ]
    assert expand(words, [["model.dim", "optimizer.lr"]]) == expand(words, ["model.dim", "optimizer.lr"])


def test_several_groups_are_zipped_each_for_itself():
    jobs = expand(["a=1,2", "b=3,4", "c=5,6", "d=7,8"], [["a", "c"], ["b", "d"]])
    assert jobs == [["a=1", "c=5", "b=3", "d=7"], ["a=1", "c=5", "b=4", "d=8"],
                    ["a=2", "c=6", "b=3", "d=7"], ["a=2", "c=6", "b=4", "d=8"]]  # fmt: skip


def test_groups_of_choices_can_be_zipped_with_values():
    jobs = expand(["model=mf/bpr,linear/ease", "trainer.max_epochs=5,1"], [["model", "trainer.max_epochs"]])
    assert jobs == [["model=mf/bpr", "trainer.max_epochs=5"], ["model=linear/ease", "trainer.max_epochs=1"]]


@pytest.mark.parametrize(
    ("words", "zipped", "parts"),
    [
        (["model.dim=32,64", "seed=1,2,3"], ["model.dim", "seed"], ["model.dim has 2", "seed has 3"]),
        (["model.dim=32", "seed=1,2"], ["model.dim", "seed"], ["model.dim is not swept", "one value"]),
        (["model.dim=1,2", "seed=1,2"], ["model.dmi", "seed"], ["model.dmi is not swept", "did you mean: model.dim"]),
        (["seed=1,2", "a=1,2"], [["seed", "a"], ["a", "seed"]], ["twice"]),
        (["seed=1,2"], ["seed"], ["two or more"]),
        (["seed=1,2"], [3], ["no group of keys"]),
    ],
)
def test_a_wrong_zip_is_one_clear_message(words, zipped, parts):
    with pytest.raises(ConfigError) as caught:
        expand(words, zipped)
    for part in ("hydra.sweeper.zip", *parts):
        assert part in str(caught.value)


def test_a_glob_goes_through_the_families_of_a_group():
    names = ["item_knn", "knn_baseline", "user_knn"]
    assert expand(["model=glob(neighbours/*)"]) == [[f"model=neighbours/{name}"] for name in names]
    with pytest.raises(ConfigError, match="has no values"):
        expand(["model=glob(nothing/*)"])


def test_an_interval_is_no_grid():
    with pytest.raises(ConfigError, match="hydra/sweeper=optuna"):
        expand(["optimizer.lr=interval(0.1,0.2)"])


def test_swept_lists_may_come_from_yaml_and_a_typed_one_wins():
    assert expand(["model.dim=8"], params={"seed": "1,2", "model.dim": "16,32"}) == [
        ["seed=1", "model.dim=8"],
        ["seed=2", "model.dim=8"],
    ]


def test_the_syntax_of_zip_survives_hydras_grammar():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parse = OverridesParser.create().parse_override
    assert parse("hydra.sweeper.zip=[model.dim,optimizer.lr]").value() == ["model.dim", "optimizer.lr"]
    assert parse("hydra.sweeper.zip=[[model.dim,data],[a,b]]").value() == [["model.dim", "data"], ["a", "b"]]


class Launcher:
    def __init__(self):
        self.batches = []

    def launch(self, batch, initial_job_idx):
        self.batches.append(batch)
        return [Failed() for _ in batch]


class Failed:
    @property
    def return_value(self):
        raise AssertionError("a failed job's value is asked for")


def test_all_jobs_are_one_batch_and_a_failed_one_is_the_launchers_matter():
    from hydra_plugins.marquee.sweepers import GridSweeper

    sweeper = GridSweeper()
    sweeper.settings = {"zip": [], "params": None}
    sweeper.launcher = Launcher()
    assert len(sweeper.sweep(["seed=range(0,1000)"])) == 1000
    assert [len(batch) for batch in sweeper.launcher.batches] == [1000]


def test_hydra_finds_both_sweepers_and_their_file_imports_nothing_heavy():
    script = (
        "import sys; from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper\n"
        "names = {found.__name__ for found in Plugins.instance().discover(Sweeper)}\n"
        "assert {'GridSweeper', 'OptunaSweeper'} <= names, names\n"
        "assert not {'torch', 'optuna', 'pandas', 'pytorch_lightning'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_settings_are_all_told_with_what_is_allowed():
    from hydra_plugins.marquee.sweepers import OptunaSweeper

    with pytest.raises(ConfigError) as caught:
        check_settings(OptunaSweeper, {"n_trials": 0, "sampler": "tpee", "pruner": None, "storage": 3})
    for part in ("hydra.sweeper.n_trials", "integer >= 1", "one of tpe, cmaes", "hydra.sweeper.pruner",
                 "hydra.sweeper.storage"):  # fmt: skip
        assert part in str(caught.value)
    settings = SimpleNamespace(**check_settings(OptunaSweeper, {"n_trials": 7}))
    assert (settings.n_trials, settings.sampler, settings.pruner, settings.space) == (7, "tpe", "none", None)
