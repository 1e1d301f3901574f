"""What a run leaves in `plots/`: every figure of a classification, readable, complete, and the same in W&B."""

import html
import json

import pytest
from PIL import Image

from .commands import FAST, marquee

pytest.importorskip("captum", reason="captum is not installed (extra explain)")

JUDGED = {"confusion", "calibration", "coverage", "roc", "precision-recall"}


def run(output, cache, *words):
    done = marquee("train", *words, "plots=true", "trainer.max_epochs=2", output=output, cache=cache)
    assert done.returncode == 0, done.stderr
    return output / "latest"


def names(folder, ending):
    return {file.stem for file in (folder / "plots").glob(f"*.{ending}")}


def test_a_run_on_images_shows_how_it_was_judged_and_what_it_looked_at(tmp_path, world_cache):
    folder = run(tmp_path, world_cache, *FAST["cnn"], "tracker=wandb")
    curves = {"learning-loss", "learning-accuracy"}
    assert names(folder, "svg") == JUDGED | curves
    assert names(folder, "png") == JUDGED | curves | {"mistakes", "uncertain", "contributions"}
    for file in (folder / "plots").glob("*.png"):
        with Image.open(file) as picture:
            picture.load()
            assert min(picture.size) > 150 and len(set(picture.convert("L").resize((64, 64)).tobytes())) > 8, file
    tracked = {file.name.partition("_")[0] for file in folder.glob("wandb/*/files/media/images/plots/*.png")}
    assert tracked == names(folder, "png")
    assert json.loads((folder / "manifest.json").read_text())["durations"]["plots"] > 0
    assert "plots" not in (folder / "log.txt").read_text(), "a figure went wrong"


def test_a_run_on_texts_shows_its_mistakes_and_which_words_spoke_for_what_was_said(tmp_path, world_cache):
    folder = run(tmp_path, world_cache, *FAST["lstm"], "tracker=wandb")
    assert names(folder, "html") == {"mistakes", "uncertain", "contributions"}
    page = (folder / "plots" / "contributions.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 8 and "<mark class=for style=" in page
    assert "integrated gradients" in page
    mistakes = (folder / "plots" / "mistakes.html").read_text(encoding="utf-8")
    assert "true positive, said negative" in mistakes or "true negative, said positive" in mistakes
    assert len(list(folder.glob("wandb/offline-run*/files/media/html/plots/*.html"))) == 3


def test_two_closed_forms_without_curves_and_the_words_of_a_linear_model(tmp_path, world_cache):
    folder = run(tmp_path, world_cache, "data=world_reviews", "model=linear/nbsvm", "tracker=none")
    assert names(folder, "svg") == JUDGED | {"terms"}
    page = html.unescape((folder / "plots" / "contributions.html").read_text(encoding="utf-8"))
    assert "exact: with the bias they add up to the logit" in page


def test_plots_are_left_out_where_nobody_wants_them(tmp_path, world_cache):
    done = marquee("train", *FAST["cnn"], "plots=false", "trainer=smoke", "tracker=none", output=tmp_path,
                   cache=world_cache)  # fmt: skip
    assert done.returncode == 0 and not (tmp_path / "latest" / "plots").exists()
