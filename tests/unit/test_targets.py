"""Targets: what may be instantiated, and which keys a class takes."""

import sys
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Interval

from marquee.config import targets
from marquee.config.targets import closest, resolve, signature
from marquee.config.values import describe, fits
from marquee.errors import ConfigError


@pytest.mark.parametrize(
    "target", ["subprocess.Popen", "builtins.dict", "marqueex.Thing", "os.path.join", "torchvision.models.ResNet"]
)
def test_only_whitelisted_packages_are_imported(target):
    with pytest.raises(ConfigError, match="may not be instantiated"):
        resolve(target)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("torch.load", "not a class"),
        ("marquee.runs.code.subprocess", "not a class"),
        ("marquee.config.targets.Mapping", "may not be instantiated"),  # collections.abc's, reached through our module
        ("torch.optim.Adm", "Did you mean Adam?"),
        ("marquee.models.mf.bprr.BPR", "no module marquee.models.mf.bprr. Did you mean bpr?"),
        ("BPR", "dotted name"),
    ],
)
def test_what_is_no_class_of_ours_is_refused_with_a_hint(target, said):
    with pytest.raises(ConfigError) as caught:
        resolve(target)
    assert said in str(caught.value)


def test_a_plugin_package_is_allowed_by_one_setting(tmp_path, monkeypatch):
    (tmp_path / "sample_plugin.py").write_text("class Thing:\n    def __init__(self, spec, *, dim: int = 3): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError):
        resolve("sample_plugin.Thing")
    monkeypatch.setenv("MARQUEE_PLUGINS", "other, sample_plugin")
    assert resolve("sample_plugin.Thing") is sys.modules["sample_plugin"].Thing


def test_a_plugin_that_breaks_on_import_is_the_configurations_mistake(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "worse_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARQUEE_PLUGINS", "broken_plugin,worse_plugin")
    with pytest.raises(ConfigError, match="needs the package not_installed_anywhere"):
        resolve("broken_plugin.Thing")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        resolve("worse_plugin.Thing")


def test_in_our_classes_position_is_supplied_and_keyword_is_a_key():
    class Ours:
        def __init__(self, spec: int, *, dim: Annotated[int, Ge(1)], rate: float = 0.5): ...

    Ours.__module__ = "marquee.test"
    found = signature(Ours)
    assert list(found.supplied) == ["spec"]
    assert [(key.name, key.required, key.default) for key in found.keys.values()] == [
        ("dim", True, None),
        ("rate", False, 0.5),
    ]
    assert not found.open


def test_in_foreign_classes_a_table_says_what_is_supplied():
    adam = signature(resolve("torch.optim.Adam"))
    assert list(adam.supplied) == ["params"]
    assert {"lr", "betas", "fused"} <= set(adam.keys)
    plateau = signature(resolve("torch.optim.lr_scheduler.ReduceLROnPlateau"))
    assert list(plateau.supplied) == ["optimizer", "mode"]
    stopping = signature(resolve("pytorch_lightning.callbacks.EarlyStopping"))
    assert not any(key.required for key in stopping.keys.values())
    assert "logger" not in signature(resolve("pytorch_lightning.Trainer")).keys


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (int, [3, -1], [True, "3", 3.5, None], "integer"),
        (float, [3, 0.5], [True, "0.5", None], "number"),
        (bool, [True], [1, "true"], "true or false"),
        (str, ["a"], [1, None], "text"),
        (Annotated[int, Ge(1)], [1], [0, -4], "integer >= 1"),
        (Annotated[float, Interval(ge=0, lt=1)], [0, 0.9], [1, -0.1], "number >= 0 and < 1"),
        (int | None, [None, 1], ["x"], "integer or null"),
        (Literal["a", "b"], ["a"], ["c", 1], "one of a, b"),
        (list[int], [[1, 2], []], [["a"], 1], "list of integer"),
        (tuple[float, float], [[0.9, 1]], [[1], [1, 2, 3]], "list of 2: number, number"),
        (tuple[int, ...], [[1, 2]], [["a"]], "list of integer"),
        (dict[str, int], [{"a": 1}], [{"a": "x"}], "mapping of text to integer"),
    ],
)
def test_values_are_judged_strictly(annotation, good, bad, words):
    assert all(fits(annotation, value) for value in good)
    assert not any(fits(annotation, value) for value in bad)
    assert describe(annotation) == words


def test_an_object_is_never_a_plain_value():
    assert not fits(targets.Parameter, 3)
    assert not fits(targets.Parameter | None, {"name": "x"})
    assert fits(targets.Parameter | None, None)


def test_the_closest_name_forgives_case_family_and_letters():
    assert closest("widht", ["depth", "width"]) == "width"
    assert closest("BPR", ["mf/bpr", "rnn/lstm"]) == "mf/bpr"
    assert closest("xyz", ["width"]) is None
