"""Recipes that replicate published numbers: what their heads may say, the verdicts, and that the page agrees."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "scripts"))

import replicate  # noqa: E402
import results  # noqa: E402
from replications import evidence, files, page, recipes, verdicts  # noqa: E402
from replications.recipes import Bound, Figure, Measured  # noqa: E402

from marquee.errors import ConfigError, DataError  # noqa: E402

HEAD = """\
# @package _global_
# Command:   marquee train experiment=replicate/sample
# Jobs:      seed=1,2,3
# Minutes:   1.4 on one NVIDIA H100 80GB HBM3
# Reference: recall@10 >= 0.305, ndcg@10 ≥ .175 (Petrov (2023), full ranking)
# Ours:      recall@10 0.3012 ± 0.0020, ndcg@10 0.1740 ± 0.0011 (3 jobs; torch 2.13.0, numpy 2.4.6,
#            marquee 0.1.0, data 0123abcd; NVIDIA H100 80GB HBM3)
# Chosen:    the paper's values
# Note:      40 epochs: not converged
#            and a second line
defaults:
  - override /data: world_ratings   # stays
"""


@pytest.fixture
def sample(tmp_path):
    """Writes a recipe's text and reads it; `sample(old, new)` with something replaced."""

    def make(old="", new=""):
        assert old in HEAD
        file = tmp_path / "sample.yaml"
        file.write_bytes(HEAD.replace(old, new).encode() if old else HEAD.encode())
        return recipes.parse("sample", file)

    return make


# Heads ---------------------------------------------------------------------------------------------------------------


def test_a_head_is_read_whole(sample):
    recipe = sample()
    assert recipe.jobs == ("seed=1,2,3",)
    assert recipe.bounds == (Bound("recall@10", True, "0.305"), Bound("ndcg@10", True, ".175"))
    assert recipe.source == "Petrov (2023), full ranking"
    assert recipe.ours == Measured(
        (Figure("recall@10", 0.3012, 0.0020), Figure("ndcg@10", 0.1740, 0.0011)), 3,
        {"torch": "2.13.0", "numpy": "2.4.6", "marquee": "0.1.0", "data": "0123abcd"}, "NVIDIA H100 80GB HBM3",
    )  # fmt: skip
    assert (recipe.minutes, recipe.chosen) == ("1.4", "the paper's values")
    assert recipe.notes == ("40 epochs: not converged", "and a second line")
    assert recipe.metrics("mrr@10") == ["recall@10", "ndcg@10"]


def test_a_row_without_a_reference_is_judged_by_what_it_has_or_by_what_its_runs_are_watched_by(sample):
    reference = "recall@10 >= 0.305, ndcg@10 ≥ .175 (Petrov (2023), full ranking)"
    assert sample(reference, "none (ours is a contribution)").metrics("mrr@10") == ["recall@10", "ndcg@10"]
    ours = HEAD[HEAD.index("# Ours") : HEAD.index("# Chosen")]
    recipe = sample(f"{reference}\n{ours}", "none (nobody has)\n# Ours:      ?\n")
    assert recipe.metrics("mrr@10") == ["mrr@10"]
    assert (recipe.ours, recipe.unmeasured, recipe.bounds, recipe.source) == (None, "not run yet", (), "nobody has")


@pytest.mark.parametrize(
    "old, new, line, told",
    [
        ("# @package _global_", "# A recipe", 1, "begins with `# @package _global_`"),
        ("replicate/sample", "replicate/other", 2, "allowed: marquee train experiment=replicate/sample"),
        ("seed=1,2,3", "seed=range(3)", 3, "seed=1,2,3 or split.fold=0,1,2,3,4"),
        ("seed=1,2,3", "three seeds", 3, "`Jobs: three seeds` cannot be read"),
        ("seed=1,2,3", "'seed=1", 3, "`Jobs: 'seed=1` cannot be read"),
        ("seed=1,2,3", "seed=1,2,1", 3, "1 once, which stands here twice"),
        ("seed=1,2,3", "seed=1 seed=2", 3, "seed once, which stands here twice"),
        ("≥ .175 (", "≥ .175, recall@10 >= 0.4 (", 5, "recall@10 once"),
        ("0.0011 (3", "0.0011, ndcg@10 0.2 (3", 6, "ndcg@10 once"),
        ("± 0.0011", "± -0.0011", 6, "none (why)"),
        ("1.4 on one", "an hour on one", 4, "0.5 on 2 cores"),
        (">= 0.305", "about 0.305", 5, "rmse <= 0.934 (source)"),
        (" (Petrov (2023), full ranking)", "", 5, "rmse <= 0.934 (source)"),
        ("(3 jobs; ", "(three; ", 6, "ndcg@10 0.3326 ± 0.0047 (3 jobs; torch 2.13.0; AMD EPYC)"),
        ("; NVIDIA H100 80GB HBM3)", ")", 6, "none (why)"),
        ("# Ours:      recall@10", "# Ours:      recall@20", 6, "has no recall@10, which `Reference` has"),
        ("# Chosen:    the paper's values\n", "", 1, "the head has no Chosen"),
        ("# Chosen: ", "# Tuned:  ", 8, "allowed: Command, Jobs, Minutes, Reference, Ours, Chosen, Note"),
        ("# Chosen:    the", "# Ours:      the", 8, "stands here a second time; first on line 6"),
        ("#            and a second", "# and a second", 10, "`# and a second line` is no entry of a head"),
        ("# Command:   m", "#            m", 2, "none has begun"),
    ],
)
def test_a_head_that_cannot_be_read_is_named_with_its_line_and_what_is_allowed(sample, old, new, line, told):
    with pytest.raises(ConfigError) as error:
        sample(old, new)
    assert f"sample.yaml, line {line}: " in str(error.value) and told in str(error.value)


def test_a_file_that_is_no_text_is_named(sample):
    file = sample().file
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"sample.yaml, line 1: it is no text in UTF-8"):
        recipes.parse("sample", file)


def test_jobs_are_a_grid_and_other_seeds_take_the_place_of_its_own(sample):
    assert recipes.cells(["split.fold=0,1", "seed=1,2"]) == [
        ("split.fold=0", "seed=1"), ("split.fold=0", "seed=2"), ("split.fold=1", "seed=1"), ("split.fold=1", "seed=2")
    ]  # fmt: skip
    assert sample().words("7,8") == ["seed=7,8"]
    with pytest.raises(ConfigError, match="sample has no seeds, its jobs are split.fold=0,1. Leave --seeds out"):
        sample("seed=1,2,3", "split.fold=0,1").words("7")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_new_figures_take_the_place_of_the_old_and_all_else_stays(sample, end):
    recipe = sample()
    recipe.file.write_bytes(HEAD.replace("\n", end).encode())
    new = Measured(
        (Figure("recall@10", 0.31234, 0.00206), Figure("ndcg@10", 0.18, None)), 1, {"torch": "2.14.0"}, "AMD"
    )
    assert recipes.rewrite(recipe, new, "0.50 on 2 cores (CPU time)")
    before, after = HEAD.split("\n"), recipe.file.read_bytes().decode().split(end)
    assert after[3] == "# Minutes:   0.50 on 2 cores (CPU time)"
    assert after[5] == "# Ours:      recall@10 0.3123 ± 0.0021, ndcg@10 0.1800 (1 job; torch 2.14.0; AMD)"
    assert [*after[:3], after[4], *after[6:]] == [*before[:3], before[4], *before[7:]]
    again = recipes.parse("sample", recipe.file)
    assert again.ours.figure("ndcg@10") == Figure("ndcg@10", 0.18) and again.ours.machine == "AMD"
    assert not recipes.rewrite(again, new, "0.50 on 2 cores (CPU time)")


def test_numbers_below_zero_are_written_and_read_again(sample):
    ours = HEAD[HEAD.index("recall@10 >=") : HEAD.index("# Chosen")]
    recipe = sample(ours, "recall@10 >= -0.5 (a source)\n# Ours:      ?\n")
    new = Measured((Figure("recall@10", -0.25, 0.1), Figure("r2", -0.0, None)), 2, {"torch": "2.14.0"}, "AMD")
    recipes.rewrite(recipe, new, "1 on 2 cores")
    again = recipes.parse("sample", recipe.file)
    assert again.ours == new and verdicts.of_recipe(again) == "beyond: check"  # .25 above -.5


def test_long_figures_are_folded_and_read_again(sample):
    recipe = sample()
    versions = dict.fromkeys(recipes.PACKAGES, "10.200.300")
    new = Measured(
        (Figure("recall@10", 0.3, 0.1), Figure("ndcg@10", 0.2, 0.1)), 10, versions, "Intel(R) Xeon(R) @ 2 GHz"
    )
    recipes.rewrite(recipe, new, "1 on 2 cores")
    assert max(map(len, recipe.file.read_text().splitlines())) <= 120
    assert recipes.parse("sample", recipe.file).ours == new


# Verdicts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mean, sd, bound, expected",
    [  # by hand: the tolerance is the larger of 2 sd and 1 % of the published number
        (0.300, None, Bound("ndcg@10", True, "0.300"), "reached"),
        (0.330, 0.001, Bound("ndcg@10", True, "0.300"), "reached"),  # 10 % above, and not more
        (0.331, 0.001, Bound("ndcg@10", True, "0.300"), "beyond: check"),
        (0.297, None, Bound("ndcg@10", True, "0.300"), "within tolerance"),  # 1 % below
        (0.2969, 0.001, Bound("ndcg@10", True, "0.300"), "missed"),
        (0.290, 0.005, Bound("ndcg@10", True, "0.300"), "within tolerance"),  # 2 sd below
        (0.2899, 0.005, Bound("ndcg@10", True, "0.300"), "missed"),
        (0.900, 0.0, Bound("rmse", False, "0.934"), "reached"),
        (0.940, 0.003, Bound("rmse", False, "0.934"), "within tolerance"),
        (0.9434, 0.003, Bound("rmse", False, "0.934"), "missed"),
        (0.840, 0.003, Bound("rmse", False, "0.934"), "beyond: check"),
    ],
)
def test_a_number_is_judged_by_spread_and_share_whichever_way_is_better(mean, sd, bound, expected):
    assert verdicts.against_published(Figure(bound.metric, mean, sd), bound) == expected


@pytest.mark.parametrize(
    "mean, own, expected",
    [  # by hand: the larger of 3 sd of the recipe and 1 % of its number, to both sides
        (0.303, Figure("x", 0.300), "reproduced"),
        (0.2969, Figure("x", 0.300), "differs"),
        (0.315, Figure("x", 0.300, 0.005), "reproduced"),
        (0.3151, Figure("x", 0.300, 0.005), "differs"),
        (0.303, Figure("x", 0.300, 0.0), "reproduced"),
    ],
)
def test_a_number_reproduces_its_recipe_within_three_deviations_or_a_hundredth(mean, own, expected):
    assert verdicts.against_own(Figure("x", mean, 0.1), own) == expected


def test_the_worst_metric_speaks_for_a_row(sample):
    assert verdicts.of_recipe(sample()) == "within tolerance"  # .3012 of .305: 2 sd are .004; .1740 of .175: 1 %
    assert verdicts.of_recipe(sample("0.3012 ± 0.0020", "0.3012 ± 0.0018")) == "missed"
    assert verdicts.of_recipe(sample("0.1740", "0.1750")) == "within tolerance"


def test_other_versions_are_named_with_both_and_a_build_of_a_version_is_no_other():
    manifest = {"environment": {"packages": {"torch": "2.13.0+cpu", "numpy": "2.5.0"}}, "code": {"version": "0.1.0"},
                "data": {"fingerprint": "fedcba9876543210"}}  # fmt: skip
    now = evidence.versions_of(manifest)
    assert now == {"torch": "2.13.0", "numpy": "2.5.0", "marquee": "0.1.0", "data": "fedcba98"}
    before = {"torch": "2.13.0", "numpy": "2.4.6", "data": "0123abcd"}
    assert evidence.other_versions(before, now) == ["numpy 2.4.6, here 2.5.0", "data 0123abcd, here fedcba98"]


class Ran(NamedTuple):
    """A run as far as it is looked at here."""

    manifest: dict


def ran(fit, card, resumed=False, precision=32):
    """A run of 60 CPU seconds and `fit` seconds by the clock, on a card or not."""
    return Ran({
        "environment": {"cpu": "AMD EPYC", "cores": 2, "gpu": "NVIDIA H100 80GB HBM3" if card else None},
        "cost": {"fit_cpu_s": None if resumed else 60.0, **({"peak_gpu_memory_mb": 1.0} if card else {})},
        "durations": {"fit": fit}, "metrics": {"test/ndcg@10": 0.1 * fit / 30, "test/recall@10": 0.2},
        "resumed": [{}] if resumed else None, "config": {"trainer": {"precision": precision, "max_epochs": 3}},
    })  # fmt: skip


def test_a_card_is_named_with_minutes_of_the_clock_and_a_processor_with_those_of_its_cores(sample, monkeypatch):
    """By hand: 30 s and 60 s are 1.5 minutes; two runs of 60 CPU seconds are 2.0."""
    monkeypatch.setattr(evidence.Evidence, "differences", ([], []))
    card = evidence.Evidence(sample(), ((), ()), (ran(30, True), ran(60, True)))
    assert (card.minutes, card.machine) == ("1.5 on one NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3")
    assert card.spent == "1.5 minutes on NVIDIA H100 80GB HBM3"
    assert card.figure("ndcg@10") == Figure("ndcg@10", 0.15, 0.0707)  # .1 and .2
    plain = evidence.Evidence(sample(), ((), ()), (ran(30, False), ran(60, False)))
    assert (plain.minutes, plain.machine) == ("2.0 on 2 cores (CPU time)", "AMD EPYC")
    resumed = evidence.Evidence(sample(), ((), ()), (ran(30, False, resumed=True), ran(60, False)))
    assert resumed.minutes == "1.0 on 2 cores (CPU time; without 1 of 2 jobs, resumed)"
    with pytest.raises(ConfigError, match=r"runs of it have no mrr@10\.\n  they have: ndcg@10, recall@10"):
        plain.figure("mrr@10")


def test_a_precision_that_is_not_the_recipes_is_told_beside_the_machine(tmp_path, monkeypatch):
    folder = tmp_path / "experiment" / "replicate"
    folder.mkdir(parents=True)
    (folder / "sample.yaml").write_text(HEAD + "trainer:\n  max_epochs: 3\n")
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path))
    recipe = recipes.read("sample")
    runs = (ran(30, True, precision="bf16-mixed"),)
    found = evidence.Evidence(recipe, (("seed=1",),), runs)
    assert found.differences == ([], ["trainer.precision=bf16-mixed, not 32"])
    assert found.machine == "NVIDIA H100 80GB HBM3 with trainer.precision=bf16-mixed"
    assert found.minutes == "0.50 on one NVIDIA H100 80GB HBM3"
    longer = ran(30, True)
    longer.manifest["config"]["trainer"]["max_epochs"] = 30
    assert evidence.Evidence(recipe, (("seed=1",),), (longer,)).differences[0] == ["trainer.max_epochs=30, not 3"]


@pytest.mark.parametrize(
    "then, now, told",
    [
        ({"model": {"dim": 8}}, {"model": {"dim": 8}}, []),
        ({"model": {"dim": 8}}, {"model": {"dim": 9}}, ["model.dim=8, not 9"]),
        ({"data": {}}, {"data": {"ties": "file"}}, []),  # a key that is newer than the run
        ({"data": {"path": "a.csv"}}, {"data": {"path": "b.csv"}}, ["data.path=a.csv, not b.csv"]),
        ({"data": {"item_features": {"genres": "multi_hot"}}}, {"data": {"item_features": None}},
         ['data.item_features={"genres": "multi_hot"}, not null']),
        ({"data": {"item_features": {"a": "words"}}}, {"data": {"item_features": {"a": "words", "b": "words"}}},
         ["data.item_features.b=null, not words"]),
        ({"callbacks": {}}, {"callbacks": {"early_stopping": {"_target_": "x"}}},
         ['callbacks.early_stopping=null, not {"_target_": "x"}']),
        ({"callbacks": {"early_stopping": {"_target_": "x"}}}, {"callbacks": {}},
         ['callbacks.early_stopping={"_target_": "x"}, not null']),
        ({"scheduler": {"_target_": "x"}}, {"scheduler": None}, ['scheduler={"_target_": "x"}, not null']),
        ({"trainer": {"max_steps": 9}}, {"trainer": {}}, ["trainer.max_steps=9, not null"]),
        ({"callbacks": {"pruning": {"_target_": "x"}}, "tags": ["a"]}, {"callbacks": {}, "tags": []}, []),
    ],
)  # fmt: skip
def test_a_run_is_another_experiment_where_a_recipe_now_says_more_less_or_other_than_it_was_trained_with(
    then, now, told
):
    assert evidence.changes(Ran({"config": then}), now) == told


def test_a_metric_without_a_value_is_not_among_those_that_runs_have(sample, monkeypatch):
    """NaN is null in a record."""
    run = ran(30, False)
    run.manifest["metrics"]["test/ndcg@10"] = None
    with pytest.raises(ConfigError, match=r"runs of it have no ndcg@10\.\n  they have: recall@10$"):
        evidence.Evidence(sample(), ((),), (run,)).figure("ndcg@10")


def test_a_metric_that_runs_will_not_have_is_told_before_they_start(sample):
    task = {"_target_": "marquee.tasks.recommendation.Recommendation", "ks": [10], "candidates": None}
    evidence.refuse_unknown_metrics(sample(), {"task": task})
    with pytest.raises(ConfigError, match=r"no recall@10\. Did you mean recall_uniform100@10\?"):
        evidence.refuse_unknown_metrics(sample(), {"task": {**task, "candidates": "uniform"}})
    evidence.refuse_unknown_metrics(sample(), {"task": {"_target_": "marquee.tasks.nothing.Nothing"}})


# Words ---------------------------------------------------------------------------------------------------------------


def test_words_of_the_machine_pass_and_those_of_another_experiment_do_not():
    fine = ["hydra.launcher.n_jobs=2", "hydra/launcher=slurm", "tracker=none", "tracker.wandb.mode=online", "threads=1",
            "paths.output=/x", "plots=false", "trainer=auto", "++trainer.devices=1"]  # fmt: skip
    evidence.refuse_other_experiments(["sample"], fine)
    for word in ("model.dim=3", "trainer=smoke", "trainer.max_epochs=1", "data=imdb", "~model.dim", "resume=latest",
                 "trackers=none", "sweep=x"):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            evidence.refuse_other_experiments(["sample"], [word, "tracker=none"])
        typed = "fix: marquee train experiment=replicate/sample"
        assert word in str(error.value) and typed in str(error.value) and "tracker=none" in str(error.value)
    with pytest.raises(ConfigError, match="--seeds 4,5"):
        evidence.refuse_other_experiments(["sample"], ["seed=4,5"])


def test_an_unknown_name_is_told_with_the_closest_and_a_pattern_means_all_that_fit(tmp_path, monkeypatch):
    folder = tmp_path / "experiment" / "replicate"
    folder.mkdir(parents=True)
    for name in ("zz_ease", "zz_ials", "zy_ease"):
        (folder / f"{name}.yaml").write_text(HEAD.replace("sample", name))
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path))
    assert recipes.chosen(["zz_*", "zy_ease", "zz_ease"]) == ["zz_ease", "zz_ials", "zy_ease"]
    with pytest.raises(ConfigError, match=r"zz_easy is no recipe of .* Did you mean zz_ease\?"):
        recipes.chosen(["zz_easy"])
    with pytest.raises(ConfigError, match=r"xx_\* is no recipe"):
        recipes.chosen(["xx_*"])


@pytest.mark.parametrize("name", ["zz_ease", "zz_" + "a_very_long_name_" * 5])
def test_the_list_keeps_names_whole_in_80_columns(tmp_path, monkeypatch, capsys, name):
    folder = tmp_path / "experiment" / "replicate"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(HEAD.replace("sample", name))
    monkeypatch.setenv("MARQUEE_CONF", str(tmp_path))
    assert replicate.main([name, "--list"]) == 0
    told = capsys.readouterr().out
    assert name in told and all(len(line) <= 80 or line == name for line in told.splitlines())
    assert re.search(r"1\.4 +recall@10 ≥ 0\.305 +0\.3012 ± 0\.0020 +within$", told, re.M)
    assert re.search(r"ndcg@10 ≥ \.175 +0\.1740 ± 0\.0011 +within$", told, re.M)


def test_a_page_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MARQUEE_OUTPUT", str(tmp_path))
    assert replicate.main(["--page", "--output", str(tmp_path / "nowhere" / "page.md")]) == 2
    assert "page.md cannot be written" in capsys.readouterr().err


def test_a_page_that_is_no_text_is_named_and_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MARQUEE_OUTPUT", str(tmp_path))
    page_file = tmp_path / "page.md"
    page_file.write_bytes(b"# Page\n\xff\xfe\n")
    assert replicate.main(["--page", "--output", str(page_file)]) == 2
    assert "page.md is no text in UTF-8" in capsys.readouterr().err
    assert page_file.read_bytes() == b"# Page\n\xff\xfe\n"


def test_a_heading_with_a_space_behind_it_is_the_same_section(tmp_path):
    (tmp_path / "page.md").write_text("# Page\n\n## Replications  \n\nold\n\n## other\n\nkept\n")
    results.put_sections(tmp_path / "page.md", "# Page\n", {page.TITLE: "## Replications\n\nnew\n"}, first=True)
    assert (tmp_path / "page.md").read_text() == "# Page\n\n## Replications\n\nnew\n\n## other\n\nkept\n"


@pytest.mark.parametrize("ours, verdict", [("0.3012 ± 0.0020", "missed"), ("0.4012 ± 0.0020", "beyond: check")])
def test_a_row_that_is_far_off_its_reference_is_not_put_on_the_page_without_a_note(sample, ours, verdict):
    note = HEAD[HEAD.index("# Note") : HEAD.index("defaults")]
    recipe = sample(note, "")
    text = recipe.file.read_text().replace("0.3012 ± 0.0020", ours).replace("0.305", "0.330")
    recipe.file.write_text(text)
    with pytest.raises(ConfigError, match=f"a row that is `{verdict}` says why in a `Note`"):
        page.section([recipes.parse("sample", recipe.file)], {}, "")


def test_a_folder_for_runs_is_named_and_no_formula(capsys):
    assert replicate.main(["ml1m_popular", "paths.output=${oc.env:HOME}"]) == 2
    assert "here the name of a folder is wanted" in capsys.readouterr().err


def test_seeds_are_whole_numbers_each_once():
    assert replicate._seeds("1,01,2") == "1,2"


def test_what_belongs_to_running_is_refused_elsewhere(capsys):
    for words in (["--seeds", "1"], ["ml100k_*", "--list", "--seeds", "1"], ["--page", "--seeds", "1"]):
        assert replicate.main(words) == 2
        assert "--seeds 1 is for running" in capsys.readouterr().err
    for words, told in ((["ml1m_popular", "--output", "x"], "Runs: paths.output="), (["--list", "--page"], "--list")):
        assert replicate.main(words) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        replicate.main(["ml100k_ease", "--seeds", "one"])
    assert "'one' are no seeds" in capsys.readouterr().err


# Raw files -----------------------------------------------------------------------------------------------------------


def config(tmp_path, **data):
    return {
        "data": {"_target_": "marquee.data.interactions.sequences.SequenceFile", **data},
        "split": {"_target_": "marquee.data.interactions.splits.LeaveOneOut"},
        "paths": {key: str(tmp_path / key) for key in ("data", "cache", "output")},
    }


def test_all_missing_files_are_told_at_once_with_their_sums_and_where_they_come_from(tmp_path):
    with pytest.raises(DataError) as error:
        files.look([
            ("a", config(tmp_path, path="ml-1m/sequences.txt.gz")), ("b", config(tmp_path, path="gowalla/train.txt")),
            ("c", config(tmp_path, path="ml-1m/sequences.txt.gz")), ("a", config(tmp_path, path="own.txt")),
        ])  # fmt: skip
    told = str(error.value)
    assert told.startswith("No job was started. a, c: ") and "\n\na: data.path=own.txt was not found" in told
    # sha256 of the file that the recipes were measured on, unpacked.
    sha256 = "15127e11881559e6221377d0ceea6396c9f5f72e29139810672848b07b56fdbc"
    assert f"sha256 of ml-1m/sequences.txt: {sha256}\n  from the preprocessing of SASRec" in told
    # One that its data set has an address of: its sum alone.
    assert "sha256 of gowalla/train.txt: 0f086326b28a56c2e6dcb81d86ee72d4ccb7eed3a8d26788392356d8f51111cc\n\n" in told


def test_a_file_with_other_content_is_remarked_on_whether_packed_or_not(tmp_path, monkeypatch):
    import gzip
    import hashlib

    (tmp_path / "data" / "s").mkdir(parents=True)
    file = tmp_path / "data" / "s" / "x.txt.gz"
    file.write_bytes(gzip.compress(b"1 2 3 4\n"))
    right = hashlib.sha256(b"1 2 3 4\n").hexdigest()
    sums = tmp_path / "sums.yaml"
    monkeypatch.setattr(files, "SUMS", sums)
    sums.write_text(f"s/x.txt: {{sha256: {right}}}\n")
    assert files.look([("a", config(tmp_path, path="s/x.txt.gz"))]) == []
    sums.write_text(f"s/x.txt: {{sha256: {'f' * 64}}}\n")
    (note,) = files.look([("a", config(tmp_path, path="s/x.txt.gz"))])
    assert right in note and "f" * 64 in note and "x.txt.gz is not what the recipes were measured on" in note


def test_the_sums_are_those_of_the_published_files(real_data):
    """By the list that lies beside the data: of files that are not packed."""
    listed = dict(line.split()[::-1] for line in (real_data / "SHA256SUMS").read_text().splitlines())
    known = files.known()
    plain = [name for name in known if name in listed]
    assert len(plain) > 8 and all(listed[name] in known[name]["sha256"] for name in plain)
    packed = "ml-1m/sequences.txt"
    assert files.content_sha256(real_data / f"{packed}.gz") in known[packed]["sha256"]


# What ships ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return [recipes.read(name) for name in recipes.names()]


@pytest.fixture(scope="module")
def composed(shipped):
    """The first job of each recipe, by name."""
    from marquee.config.compose import compose_all

    jobs = [[f"experiment=replicate/{recipe.name}", *recipes.cells(recipe.jobs)[0]] for recipe in shipped]
    return {recipe.name: job for recipe, job in zip(shipped, compose_all(jobs))}


def test_every_recipe_passes_the_check_with_its_jobs(composed):
    from marquee.config.check import problems

    found = {name: problems(job) for name, job in composed.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_recipe_that_is_far_off_its_reference_says_why(shipped):
    far = (verdicts.MISSED, verdicts.CHECK)
    assert [recipe.name for recipe in shipped if verdicts.of_recipe(recipe) in far and not recipe.note] == []


def test_figures_are_of_all_jobs_that_a_recipe_has(shipped):
    measured = [recipe for recipe in shipped if recipe.ours]
    assert [recipe.name for recipe in measured if recipe.ours.jobs != len(recipes.cells(recipe.jobs))] == []


def test_no_recipe_is_left_open(shipped):
    """One that cannot be run here says so: `none (why)`. Figures without minutes have not been measured."""
    left = [recipe.name for recipe in shipped if recipe.unmeasured == "not run yet"]
    assert left + [recipe.name for recipe in shipped if recipe.ours and recipe.minutes == "?"] == []


def test_the_page_has_the_figures_of_the_recipes_and_the_other_way_round(shipped, composed):
    """The lines that a row should have, made of its head alone, are those of the page; the model is its choice."""
    section = results.sections(REPOSITORY / "docs" / "results.md").get(page.TITLE, "")
    on_page = {name: lines for table in page.tables(section) for name, lines in table.rows.items()}
    measured = [recipe for recipe in shipped if recipe.ours]
    for recipe in shipped:
        assert recipe.ours or f"- `{recipe.name}`: {recipe.unmeasured}. " in section, f"{recipe.name} is on no list"
    assert set(on_page) == {recipe.name for recipe in measured}
    for recipe in measured:
        model, whole = composed[recipe.name].choices["model"], page.whole_of(shipped, recipe.name)
        assert on_page[recipe.name] == page.lines(recipe, model, whole), recipe.name
        assert page.remarks(recipe) in section
