"""`trainer.precision` on the command line: refused before there is a run, or said in one line before training."""

from pathlib import Path

from marquee.runs import precision

TRAIN = ["train", "data=world_ratings", "model=linear/ease", "trainer=smoke", "tracker=none"]


def test_a_precision_that_cannot_train_leaves_no_run(shell):
    done = shell(*TRAIN, "trainer.precision=16-true")
    assert done.code == 2 and "fix: trainer.precision=32" in done.err and not Path("outputs/runs").exists()


def test_a_closed_form_ends_in_any_precision_and_says_what_it_is_computed_in(shell):
    done = shell(*TRAIN, "trainer.precision=64-true")
    assert done.code == 0 and done.err.count("EASE is computed in float32") == 1
    assert "EASE is computed in float32" in Path("outputs/latest/log.txt").read_text()


def test_slow_bfloat16_is_told_before_training(shell, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_costs", lambda: 21.8)
    words = ["data=world_reviews", "model=linear/bag_of_words", "trainer=smoke", "tracker=none"]
    done = shell("train", *words, "trainer.precision=bf16-mixed")
    assert done.code == 0 and done.err.count("22 times as long as in float32") == 1


def test_ease_ships_what_it_keeps(shell):
    sizes = {}
    for keep in ("dense", "5"):
        assert shell(*TRAIN, f"model.keep={keep}").code == 0
        sizes[keep] = Path("outputs/latest/inference/model.safetensors").stat().st_size
        assert shell("recommend", "latest", "--user", "1").code == 0
    assert sizes["5"] < sizes["dense"] / 5
    assert "EASE keeps 5 of " in Path("outputs/latest/log.txt").read_text()
