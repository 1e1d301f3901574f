"""The random cut of examples: shares, strata, copies and official test parts."""

import numpy as np
import pytest

from marquee.data.holdout import Holdout
from marquee.data.labels import strata
from marquee.errors import DataError


def cut(n=1000, classes=2, split=None, content=None, test=None):
    strata = np.arange(n) % classes
    return strata, (split or Holdout()).cut(strata, np.arange(n) if content is None else content, test)


def test_parts_are_disjoint_and_complete():
    _, result = cut()
    rows = np.concatenate(list(result.parts.values()))
    assert len(rows) == 1000
    assert len(np.unique(rows)) == 1000


def test_every_class_gives_the_same_share():
    strata = np.repeat([0, 1], [900, 100])
    parts = Holdout(validation=0.1, test=0.2).cut(strata, np.arange(1000)).parts
    assert [np.bincount(strata[parts[name]]).tolist() for name in ("train", "validation", "test")] == [
        [630, 70],
        [90, 10],
        [180, 20],
    ]


def test_an_official_test_part_is_kept_and_validation_comes_from_the_rest():
    test = np.arange(1000) >= 600
    _, result = cut(test=test)
    assert result.parts["test"].tolist() == list(range(600, 1000))
    assert len(result.parts["validation"]) == 60
    assert not np.isin(result.parts["validation"], result.parts["test"]).any()


def test_copies_land_in_one_part():
    content = np.arange(1000) // 4  # every content four times
    _, result = cut(content=content, classes=1)
    for name, rows in result.parts.items():
        others = np.concatenate([r for other, r in result.parts.items() if other != name])
        assert not np.isin(content[rows], content[others]).any()
    assert abs(len(result.parts["test"]) - 200) <= 4


def test_copies_may_straddle_when_they_are_ignored():
    content = np.arange(1000) // 4
    _, result = cut(content=content, classes=1, split=Holdout(duplicates="ignore"))
    assert result.report["validation examples whose copy stands in train"] > 50


def test_copies_across_an_official_border_are_counted_or_dropped():
    content = np.arange(1000)
    content[:5] = content[600:605]
    test = np.arange(1000) >= 600
    _, kept = cut(content=content, test=test)
    assert kept.report["train and validation examples whose copy stands in the official test part"] == 5
    _, dropped = cut(content=content, test=test, split=Holdout(duplicates="drop"))
    assert not np.isin(range(5), np.concatenate([dropped.parts["train"], dropped.parts["validation"]])).any()
    assert dropped.report["copies of test examples left out of train and validation"] == 5


def test_the_same_seed_gives_the_same_cut_and_another_seed_another():
    _, first = cut()
    _, again = cut()
    _, other = cut(split=Holdout(seed=1))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert not np.array_equal(first.parts["test"], other.parts["test"])


def test_the_cut_does_not_depend_on_the_values_of_content_hashes():
    _, first = cut()
    _, other = cut(content=np.arange(1000)[::-1].copy())
    assert np.array_equal(first.parts["test"], other.parts["test"])


def test_a_class_with_one_example_stays_in_train():
    strata = np.r_[np.zeros(99, dtype=int), 1]
    parts = Holdout().cut(strata, np.arange(100)).parts
    assert 99 in parts["train"]


def test_an_empty_part_is_refused_with_the_key():
    with pytest.raises(DataError, match=r"validation part is empty.*split\.validation=0\.01"):
        cut(n=10, split=Holdout(validation=0.01))


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(DataError, match=r"split\.validation=0\.5 and split\.test=0\.5"):
        cut(split=Holdout(validation=0.5, test=0.5))


def test_of_several_labels_the_rarest_is_kept_in_proportion():
    # By hand: label 0 stands in three rows, 1 in two, 2 in one; the last row has none and is a stratum of its own.
    labels = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32)
    assert strata(labels).tolist() == [1, 2, 0, 1, 3]
