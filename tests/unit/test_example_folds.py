"""Cross-validation of examples: every one is tested once, classes keep their share, copies stay together."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold as Reference

from marquee.compare.analysis import compare
from marquee.data.example_folds import StratifiedKFold
from marquee.data.spec import TextSpec
from marquee.errors import ConfigError, DataError

from ..finished_runs import write_run


def folds(strata, content=None, n=5, **options):
    content = np.arange(len(strata)) if content is None else content
    return [StratifiedKFold(folds=n, fold=fold, **options).cut(strata, content) for fold in range(n)]


def test_every_example_is_tested_in_one_fold_and_is_in_one_part_of_each():
    cuts = folds(np.arange(1003) % 3)
    assert sorted(np.concatenate([cut.parts["test"] for cut in cuts]).tolist()) == list(range(1003))
    for cut in cuts:
        assert sorted(np.concatenate(list(cut.parts.values())).tolist()) == list(range(1003))
    assert len({cut.fingerprint for cut in cuts}) == 5


def test_classes_have_the_shares_that_scikit_learn_gives_them():
    strata = np.repeat([0, 1, 2], [500, 90, 10])
    ours = [np.bincount(strata[cut.parts["test"]]).tolist() for cut in folds(strata)]
    theirs = [
        np.bincount(strata[test]).tolist()
        for _, test in Reference(5, shuffle=True, random_state=0).split(np.zeros((600, 1)), strata)
    ]
    assert ours == theirs == [[100, 18, 2]] * 5
    shares = [np.bincount(strata[cut.parts["validation"]]).tolist() for cut in folds(strata, validation=0.25)]
    assert shares == [[100, 18, 2]] * 5


def test_copies_are_tested_together_unless_they_are_ignored():
    content = np.arange(400) // 4
    for cut in folds(np.zeros(400, dtype=int), content):
        for name, rows in cut.parts.items():
            others = np.concatenate([r for other, r in cut.parts.items() if other != name])
            assert not np.isin(content[rows], content[others]).any()
        assert cut.report["test examples whose copy stands in train or validation"] == 0
    ignored = folds(np.zeros(400, dtype=int), content, duplicates="ignore")
    assert all(cut.report["test examples whose copy stands in train or validation"] > 40 for cut in ignored)


def test_without_stratification_the_folds_have_one_size():
    strata = np.repeat([0, 1], [13, 87])
    sizes = [len(cut.parts["test"]) for cut in folds(strata, stratified=False)]
    assert sizes == [20] * 5


def test_no_validation_leaves_all_the_rest_to_training():
    for cut in folds(np.arange(100) % 2, validation=0):
        assert {name: len(rows) for name, rows in cut.parts.items()} == {"train": 80, "validation": 0, "test": 20}


def test_the_seed_deals_anew_and_the_fold_does_not():
    one, again, other = (StratifiedKFold(seed=seed).cut(np.zeros(100), np.arange(100)) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.parts["test"].tolist() != other.parts["test"].tolist()


def test_an_official_test_part_is_not_dealt():
    with pytest.raises(DataError, match=r"test part of 25 examples.*split=holdout"):
        StratifiedKFold().cut(np.zeros(100), np.arange(100), np.arange(100) < 25)


def test_a_fold_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"split\.fold=10: the 10 folds are numbered from 0 to 9"):
        StratifiedKFold(fold=10)


def test_too_few_examples_are_refused_with_the_keys():
    with pytest.raises(DataError, match=r"validation part of fold 0 is empty: 6 examples.*split\.folds=2"):
        StratifiedKFold(folds=2, validation=0.1).cut(np.zeros(6), np.arange(6))


def test_the_number_of_folds_is_known_to_comparisons():
    assert StratifiedKFold(folds=7).folds == 7 and StratifiedKFold.fold_key == "fold"


def test_folds_of_texts_are_pooled_although_their_vocabularies_differ(tmp_path):
    for fold, accuracy in enumerate((1.0, 0.5, 0.0)):
        run = write_run(tmp_path, "linear/nbsvm", 1, [accuracy] * 4, split={"fold": fold}, n_units=4)
        spec = TextSpec(100 + fold, 2, ("a", "b")).to_json()
        run.update(
            split={**run.manifest["split"], "fold": fold, "folds": 3, "fold_key": "fold"},
            data={**run.manifest["data"], "spec": spec},
        )
    (block,) = compare([tmp_path]).blocks
    (score,) = block.metrics[0].models
    assert score.mean == pytest.approx(0.5)
    assert "3 folds pooled" in block.protocol
