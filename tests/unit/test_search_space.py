"""Search spaces: what ships suits its model, what is typed is read as Hydra reads it, what is wrong is told."""

import pytest
import yaml

from marquee.cli.main import main
from marquee.config.compose import compose
from marquee.config.folders import options
from marquee.config.values import fits, spelled
from marquee.errors import ConfigError
from marquee.search.space import Range, check_space, check_spaces, ranged, typed_range
from marquee.sweeps.grid import parsed


def test_every_space_that_ships_suits_its_model():
    checked = check_spaces()
    assert {words.removeprefix("hydra.sweeper.space=") for words, _ in checked} == set(options("search"))
    assert [(words, str(found[0])) for words, found in checked if found] == []
    assert set(options("search")) - {"none"} <= set(options("model"))


def test_check_all_covers_the_search_spaces(monkeypatch, capsys):
    monkeypatch.setattr("marquee.config.check.check_all", list)
    assert main(["check", "--all"]) == 0
    assert capsys.readouterr().out == f"{len(options('search'))} configurations checked, 0 with problems\n"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("++optimizer.lr=tag(log,interval(1e-4,1e-1))", {"low": 1e-4, "high": 0.1, "log": True, "step": None}),
        ("model.dropout=interval(0.0,0.5)", {"low": 0.0, "high": 0.5, "log": False, "step": None}),
        ("model.layers=interval(1,4)", {"low": 1, "high": 4, "log": False, "step": None}),
        ("model.layers=range(1,10,3)", {"low": 1, "high": 7, "log": False, "step": 3}),  # Hydra's end is left out
        ("model.dim=choice(16,32,64)", {"choices": [16, 32, 64]}),
        ("model.dim=16,32", {"choices": [16, 32]}),
        ("model.channels=[4,8],[8,16]", {"choices": [[4, 8], [8, 16]]}),
        ("model.pooling=max,'mean'", {"choices": ["max", "mean"]}),
    ],
)
def test_hydras_own_syntax_types_a_range(word, expected):
    (override,) = parsed([word])
    assert typed_range(override).plain() == expected


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"low": "1e-4", "high": 1.0}, "is text to YAML; write 1.0e-4"),
        ({"low": 2, "high": 1}, "must be below high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "begins above 0"),
        ({"low": 1, "hihg": 2}, "did you mean high?"),
        ({"low": 1, "high": 8, "log": True, "step": 2}, "exclude each other"),
        ({"low": 1, "high": True}, "must be a number"),
        ({"choices": []}, "at least one value"),
        ({"choices": [1], "low": 0}, "stands alone"),
        (3, "is no range"),
    ],
)
def test_a_wrong_range_is_told_with_its_file(entry, said):
    with pytest.raises(ConfigError) as caught:
        ranged("model.dim", entry, "conf/search/mine.yaml")
    assert said in str(caught.value) and "conf/search/mine.yaml: model.dim" in str(caught.value)


def test_each_value_that_the_model_does_not_take_is_found_before_any_trial():
    base = compose(["data=world_ratings", "model=mf/bpr"])
    space = {
        "model.dmi": Range("model.dmi", "conf/search/x.yaml", choices=(8, 16)),
        "model.dim": Range("model.dim", "conf/search/x.yaml", 0, 8),  # the upper end is fine, the lower is not
        "model.l2": Range("model.l2", "conf/search/x.yaml", choices=(0.1, "much")),
        "model.item_bias": Range("model.item_bias", "conf/search/x.yaml", choices=(True, False)),
    }
    with pytest.raises(ConfigError) as caught:
        check_space(base, space)
    text = str(caught.value)
    for part in ("No trial was started: 3 problems", "model.dmi", "did you mean model.dim", "conf/search/x.yaml",
                 "found:   0 (integer)", "much"):  # fmt: skip
        assert part in text
    assert "model.item_bias" not in text.replace("takes view, dim, l2, item_bias", "")


def test_a_value_is_a_word_that_hydra_reads_back():
    for value in (True, None, 3, 1e-5, "max", "a, b", "it's", "1e3", "null", [4, 8], {"a": [1, "x y"]}):
        (override,) = parsed([f"key={spelled(value)}"])
        assert override.value() == value and type(override.value()) is type(value)


def test_numbers_in_jobs_are_short_and_stay_inside_the_range():
    rate = Range("optimizer.lr", "", 1e-4, 0.1, log=True)
    assert rate.word(0.00012345678) == "optimizer.lr=0.0001235"
    assert rate.word(0.0999999999) == "optimizer.lr=0.1"
    narrow = Range("x", "", 0.99991, 0.99993)
    assert narrow.word(0.999912345678) == "x=0.999912346"
    assert Range("x", "", 1, 1000, log=True).word(371) == "x=371"
    assert Range("x", "", 0.0, 0.5, step=0.1).word(0.30000000000000004) == "x=0.3"


def test_every_key_of_a_search_space_says_why():
    from ..e2e.test_style import CONF, uncommented

    for name in options("search"):
        text = (CONF / "search" / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# ") and uncommented(text) == [], name
        assert fits(dict, yaml.safe_load(text) or {})
