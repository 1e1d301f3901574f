"""Figures as files: which are written, that they are what they are called, and that nothing in them is cut off."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from marquee.compare.analysis import compare
from marquee.compare.report.evidence import gather
from marquee.compare.report.figures import figures
from marquee.compare.report.hyperparameters import parallel_rows
from marquee.errors import JobError
from marquee.plots.judged import calibration, coverage
from marquee.plots.paper import write_plots
from marquee.plots.terms import bars

from ..finished_runs import CLASSES, write_run


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    generator = np.random.default_rng(0)
    for data in ("films", "books"):
        for place, model in enumerate(["mf/bpr", "linear/ease", "rnn/gru4rec"]):
            assert model in CLASSES
            for seed in (1, 2):
                values = np.clip(generator.random(40) * 0.2 + 0.1 * place, 0, 1)
                run = write_run(folder, model, seed, values, data=data, validation=0.1 * place + 0.001 * seed,
                                durations={"fit": (1.0, 1000.0, 100.0)[place]})  # fmt: skip
                epochs = 1 if model == "linear/ease" else 3
                lines = [f"{epoch},{1 / (epoch + 1)},{0.1 * epoch + 0.01 * seed}" for epoch in range(epochs)]
                text = "\n".join(["epoch,train/loss,validation/ndcg@10", *lines]) + "\n"
                (run.folder / "metrics.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def written(output, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return write_plots(figures(compare([output]), gather([output])), folder, ("svg", "png", "pdf"))


def test_each_figure_is_written_in_each_format(written):
    names = {file.stem for file in written}
    for name in ("block1-validation-curves", "block2-training-loss", "block1-importance", "critical-difference",
                 "block1-quality-cost-ndcg-10", "block1-scores-ndcg-10"):  # fmt: skip
        assert name in names
    assert len(written) == 3 * len(names)
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(file.name for file in written)
    for file in written:
        content = file.read_bytes()
        if file.suffix == ".svg":
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            assert content.startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}[file.suffix])


def test_figures_are_a_column_wide_and_sharp(written):
    for file in written:
        if file.suffix == ".svg":
            width = float(ElementTree.fromstring(file.read_bytes()).get("width"))
            # 96 to the inch: between 2.5 inches and a page's 7.
            assert 240 <= width <= 672, file.name
            png = Image.open(io.BytesIO(file.with_suffix(".png").read_bytes()))
            assert png.width == pytest.approx(4 * width, abs=4)


def test_text_in_figures_is_text_of_at_least_seven_points(written):
    for file in written:
        if file.suffix == ".svg":
            sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', file.read_text())]
            assert sizes and min(sizes) * 0.75 >= 7, file.name  # points a pixel


def test_titles_are_as_the_field_writes_them(written):
    texts = {file.stem: file.read_text() for file in written if file.suffix == ".svg"}
    assert "Validation NDCG@10" in texts["block1-validation-curves"]
    assert "Training time (s), log scale" in texts["block1-quality-cost-ndcg-10"]
    assert "oracle (ceiling)" in texts["block1-quality-cost-ndcg-10"]
    assert "Test NDCG@10 on books, ratio" in texts["block1-scores-ndcg-10"]
    assert "best possible" in texts["block1-scores-ndcg-10"]
    assert "CD = 2.34" in texts["critical-difference"]  # Demšar 2006, table 5a: 2.343 * sqrt(3 * 4 / (6 * 2))


def test_no_figure_is_empty(written):
    for file in written:
        if file.suffix == ".png":
            colours = Image.open(file).convert("RGB").getcolors(1 << 20)
            assert len(colours) > 20, file.name


def test_a_model_of_one_epoch_is_a_level_line_and_has_no_loss_curve(output):
    made = {figure.name: figure for figure in figures(compare([output]), gather([output]))}
    level = [row for row in made["block1-validation-curves"].rows["block1-validation-curves"]
             if row["label"] == "linear/ease"]  # fmt: skip
    assert [row["epoch"] for row in level] == [1, 3]
    assert level[0]["mean"] == level[1]["mean"] == pytest.approx(0.015)  # of 0.01 and 0.02
    losses = made["block1-training-loss"].rows["block1-training-loss"]
    assert {row["label"] for row in losses} == {"mf/bpr", "rnn/gru4rec"}


def test_scores_stand_beside_baselines_and_the_best_possible_score(tmp_path):
    for seed, value in ((1, 0.2), (2, 0.4)):
        write_run(tmp_path, "mf/bpr", seed, [value, value], validation=0.1, metrics={"test/log_loss": 0.5 * seed})
    write_run(tmp_path, "linear/ease", 1, [0.0, 0.2], validation=0.2, metrics={"test/log_loss": 0.6})
    made = figures(compare([tmp_path], ["log_loss", "ndcg@10"]), gather([tmp_path]))
    ndcg, loss = (figure for figure in made if figure.name.startswith("scores"))  # the watched metric comes first
    assert (ndcg.name, ndcg.title) == ("scores-ndcg-10", "Test NDCG@10 on world, ratio")
    rows = ndcg.rows["scores-ndcg-10"]
    # By hand: (0.2 + 0.4) / 2 and (0 + 0.2) / 2; baselines and the oracle as the manifests have them.
    assert [(row["label"], row["kind"], row["mean"], row["n"]) for row in rows] == [
        ("best possible", "oracle", 0.9, 1), ("mf/bpr", "model", 0.3, 2), ("linear/ease", "model", 0.1, 1),
        ("baseline/popular", "baseline", 0.05, 1), ("baseline/random", "baseline", 0.01, 1),
    ]  # fmt: skip
    assert ndcg.rows["scores-ndcg-10-dots"] == [
        {"label": "mf/bpr", "of": "seed 1", "value": 0.2}, {"label": "mf/bpr", "of": "seed 2", "value": 0.4}
    ]  # fmt: skip
    # One seed has no spread: its line is the bootstrap interval over its two users, whose means are 0, 0.1 or 0.2.
    assert [(row["low"], row["high"], row["end"]) for row in rows[1:3]] == [(None, None, 0.4), (0, 0.2, 0.2)]
    assert [(row["label"], row["mean"]) for row in loss.rows["scores-log-loss"]] == [
        ("linear/ease", 0.6), ("mf/bpr", 0.75)
    ]  # fmt: skip
    assert "best score that any model could reach" in ndcg.caption
    assert "Dashed" not in loss.caption


def test_long_names_of_configurations_are_broken_and_not_cut(tmp_path):
    for dim in (8, 16):
        settings = {"dim": dim, "number_of_negatives": dim, "regularisation_of_items": dim}
        write_run(tmp_path, "mf/bpr", 1, [0.1, 0.2], settings=settings, validation=0.1 * dim)
    made = [figure for figure in figures(compare([tmp_path]), gather([tmp_path])) if figure.name == "scores-ndcg-10"]
    assert made[0].rows["scores-ndcg-10"][1]["label"].split("\n") == [
        "mf/bpr dim=8 number_of_negatives=8", "regularisation_of_items=8"
    ]  # fmt: skip
    (svg, _) = write_plots(made, tmp_path / "figures")
    assert "number_of_negatives=16" in svg.read_text()
    assert "…" not in svg.read_text()


def test_the_front_of_each_cost_is_what_no_other_beats(output):
    block = figures(compare([output]), gather([output]))
    (figure,) = (entry for entry in block if entry.name == "block1-quality-cost-ndcg-10")
    front = {row["label"]: row["front_fit_seconds"] for row in figure.rows[figure.name]}
    # rnn/gru4rec is the best, mf/bpr the fastest; linear/ease is worse and slower than the best.
    assert front == {"rnn/gru4rec": True, "linear/ease": False, "mf/bpr": True}


def test_values_lie_on_their_axis_by_order_or_by_logarithm():
    class Row:
        def __init__(self, label, **differing):
            self.label, self.differing = label, differing

    few = [(Row("a", dim=8), 0.1), (Row("b", dim=64), 0.2), (Row("c", dim=16), 0.3)]
    rows, marks = parallel_rows(few, ["dim"], "NDCG@10")
    assert [row["position"] for row in rows if row["axis"] == "dim"] == [0.0, 1.0, 0.5]
    assert [mark["text"] for mark in marks if mark["axis"] == "dim"] == ["8", "16", "64"]
    assert [row["position"] for row in rows if row["axis"] == "NDCG@10"] == [0.0, 0.5, 1.0]
    many = [(Row(str(power), l2=10.0**-power), 0.1 * power) for power in range(9)]
    rows, marks = parallel_rows(many, ["l2"], "NDCG@10")
    places = [row["position"] for row in rows if row["axis"] == "l2"]
    assert places == pytest.approx([1 - place / 8 for place in range(9)])
    assert [mark["text"] for mark in marks if mark["axis"] == "l2"] == ["1e-08", "0.0001", "1"]


def test_axes_of_a_model_that_is_always_right_and_sure_have_a_length():
    right, p = np.ones(10, dtype=bool), np.tile([1.0, 0.0], (10, 1))
    (specification,) = coverage(right, p).variants.values()
    assert specification["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0.95, 1]
    assert specification["layer"][0]["mark"]["point"], "one confidence is one point, which no line shows"
    (specification,) = calibration(np.zeros(10, dtype=int), p).variants.values()
    assert specification["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0.9, 1]


def test_variants_whose_names_are_written_alike_have_files_of_their_own(tmp_path):
    """Classes -1, 0 and 1; of a and A; and names that a file cannot have."""
    classes = ["1", "-1", "1 2", "a", "A", "!", "?", "很" * 300]
    made = bars(["x", "y"], np.ones((2, 8)), classes)
    made.variants.update(dict.fromkeys(classes, made.variants["1"]))  # `bars` shows six of them
    files = write_plots([made], tmp_path, formats=("svg",))
    assert len({file.name.casefold() for file in files}) == len(list(tmp_path.iterdir())) == 8
    assert files[0].name == "terms-1.svg" and files[1].name == "terms-1-2.svg"


def test_a_folder_that_cannot_be_made_is_one_message(output, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="file/figures cannot be written"):
        write_plots(figures(compare([output]), gather([output])), tmp_path / "file" / "figures")
