"""Building: nodes become objects, inner ones first, with what the framework supplies."""

from pathlib import Path
from typing import Annotated

import pytest
import torch
from annotated_types import Ge

from marquee.config.build import build, paths
from marquee.data.dataset import Split
from marquee.errors import ConfigError

MODULE = "built_plugin"


class Inner:
    def __init__(self, *, size: int = 1):
        self.size = size


class Outer(Split):
    def __init__(self, spec: str, *, inner: Inner, place: Path, pair: tuple[int, int] = (0, 0), parts: list[Inner] = (),
                 dim: Annotated[int, Ge(1)] = 1):  # fmt: skip
        self.spec, self.inner, self.place, self.pair, self.parts, self.dim = spec, inner, place, pair, parts, dim


@pytest.fixture(autouse=True)
def allow_this_module(monkeypatch):
    monkeypatch.setenv("MARQUEE_PLUGINS", __name__.split(".")[0])


def test_inner_nodes_are_built_first_and_values_get_their_annotated_type():
    inner = {"_target_": f"{__name__}.Inner", "size": 3}
    node = {"_target_": f"{__name__}.Outer", "inner": inner, "place": "a/b", "pair": [1, 2], "parts": [inner, inner]}
    outer = build(node, "spec")
    assert (outer.spec, outer.inner.size, outer.place, outer.pair) == ("spec", 3, Path("a/b"), (1, 2))
    assert [part.size for part in outer.parts] == [3, 3]
    assert node["inner"] == inner, "the node itself stays as it was"


def test_foreign_classes_get_what_is_supplied():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = build({"_target_": "torch.optim.Adam", "lr": 0.5, "betas": [0.8, 0.9]}, [weight])
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.5, (0.8, 0.9))
    plateau = build({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 2}, optimizer, mode="max")
    assert (plateau.mode, plateau.patience) == ("max", 2)


def test_text_is_text_and_never_evaluated():
    node = {"_target_": f"{__name__}.Outer", "inner": None, "place": "__import__('os').getcwd()"}
    assert build(node, "x").place == Path("__import__('os').getcwd()")


def test_the_whitelist_holds_at_every_depth():
    with pytest.raises(ConfigError, match="may not be instantiated"):
        build(
            {"_target_": f"{__name__}.Outer", "inner": {"_target_": "subprocess.Popen", "args": ["ls"]}, "place": "x"},
            "x",
        )


def test_no_node_builds_nothing():
    assert build(None) is None
    assert build({}) is None


def test_paths_know_home():
    assert paths({"data": "~/x", "cache": "/c", "output": "o"}).data == Path.home() / "x"
