"""The page: what it says, what it never does, and the numbers behind its figures."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import util

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import f_classif

from marquee.cli.compare import compare as compare_verb
from marquee.compare.analysis import compare
from marquee.compare.collect import find_folders
from marquee.compare.ranks import Ranks
from marquee.compare.report.breakdown import breakdowns
from marquee.compare.report.evidence import gather, to_draw
from marquee.compare.report.figures import figures
from marquee.compare.report.hyperparameters import eta_squared, importance
from marquee.compare.report.page import page
from marquee.compare.report.rank_diagram import cliques
from marquee.compare.report.rows import table
from marquee.errors import ConfigError

from ..finished_runs import write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028'\""


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.inside = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def curve(run, losses, values):
    rows = [f"{epoch},{loss},{value}" for epoch, (loss, value) in enumerate(zip(losses, values, strict=True))]
    text = "\n".join(["epoch,train/loss,validation/ndcg@10", *rows]) + "\n"
    (run.folder / "metrics.csv").write_text(text)


@pytest.fixture
def output(tmp_path):
    base = np.random.default_rng(1).random(60)
    for seed in (1, 2):
        cost = {"latency_ms": 2.0 * seed, "peak_memory_mb": None, "size_mb": 3.5, "energy_j": None}
        run = write_run(tmp_path, "mf/bpr", seed, base, settings={"dim": 8}, validation=0.2, durations={"fit": 9.0},
                        cost=cost)  # fmt: skip
        curve(run, [0.9, 0.5, 0.3], [0.1 * seed, 0.2, 0.3])
        run = write_run(tmp_path, "mf/bpr", seed, base - 0.05, settings={"dim": 16}, validation=0.3)
        curve(run, [0.8, 0.4], [0.1, 0.2])
        write_run(tmp_path, "linear/ease", seed, base - 0.2, validation=0.1, durations={"fit": 1.0})
    write_run(tmp_path, "mf/bpr", 3, base, status="failed", error=HOSTILE)
    write_run(tmp_path, "mf/bpr", 1, base, task={"mask_seen": False}, validation=0.1)
    return tmp_path


def made(output):
    return page(compare([output]), gather([output]), [str(output)], output)


def test_the_page_says_what_was_compared_how_and_what_is_missing(output):
    html = made(output)
    reader = Reader(html)
    for said in (
        "Comparison of 7 runs", "Seeds 1, 2", "Block 1 of 2", "full ranking of 400 items, seen items masked",
        "Not in one table with block 1: task.mask_seen=false, not true.", "significant best", "mf/bpr dim=8",
        "baseline/popular", "oracle (ceiling)", "Inference latency (ms)", "Size (MB)", "sign-flip permutation",
    ):  # fmt: skip
        assert said in reader.text, said
    assert "Peak memory" not in reader.text  # no run has it
    assert "Energy" not in reader.text
    heads = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert heads[0] == 1 and all(later - earlier <= 1 for earlier, later in zip(heads, heads[1:], strict=False))
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {label["for"] for label in reader.of("label")}
    assert {field["id"] for field in [*reader.of("input"), *reader.of("select")]} == labelled


def test_names_and_messages_are_text_whatever_they_hold(output):
    html = made(output)
    reader = Reader(html)
    assert " ".join(HOSTILE.split()) in reader.text
    assert len(reader.of("script")) == 3  # the data, the library, the page's own
    assert not reader.of("img")
    run = write_run(output, "x</script><b>y", 5, np.arange(60) / 60, data="a<script>b", validation=0.1)
    curve(run, [1, 2], [0.1, 0.2])
    reader = Reader(made(output))
    assert (len(reader.of("script")), reader.of("b")) == (3, [])
    assert "x</script><b>y" in reader.text


def test_the_page_names_no_address_that_a_browser_would_load(output):
    html = made(output)
    reader = Reader(html)
    loading = {"src", "srcset", "data", "background", "poster"}
    assert not [attributes for _, attributes in reader.elements if loading & set(attributes)]
    assert reader.of("link") == []
    policy = next(meta["content"] for meta in reader.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    links = [a["href"] for a in reader.of("a") if not a["href"].startswith("#")]
    assert links
    assert all((output / link).exists() for link in links)  # relative to the page's folder


def test_data_stand_once_and_read_back(output):
    html = made(output)
    content = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])
    names = re.findall(r'"data":\{"name":"([^"]+)"\}', json.dumps(content["figures"], separators=(",", ":")))
    assert set(names) == set(content["data"])
    curves = content["data"]["block1-validation-curves"]
    first = next(row for row in curves if row["label"] == "mf/bpr dim=8" and row["epoch"] == 1)
    # Seeds 1 and 2 begin at 0.1 and 0.2.
    assert (first["mean"], first["low"], first["high"], first["n"]) == pytest.approx((0.15, 0.1, 0.2, 2))


def test_tables_mark_what_is_significant_and_keep_numbers_to_sort_by(output):
    block = compare([output], reference="linear/ease").blocks[0]
    found = table(block, block.metrics[0])
    assert found.columns[3:7] == [
        "Difference from the best",
        "p (corrected)",
        "Difference from linear/ease",
        "p (corrected)",
    ]
    assert [row.kind for row in found.rows] == ["model"] * 3 + ["baseline"] * 2 + ["oracle"]
    assert [row.winner for row in found.rows] == [True] + [False] * 5
    latency = [row.cells[found.columns.index("Inference latency (ms)")].key for row in found.rows]
    assert latency == [3.0, None, None, None, None, None]  # the mean of 2 and 4


def test_configurations_are_chosen_for_figures_on_validation(output):
    block = compare([output]).blocks[0]
    chosen = to_draw(block, gather([output]), 2)
    # dim=8 is better on test, dim=16 on validation; each model comes once before any comes twice.
    assert [row.label for row in chosen] == ["mf/bpr dim=16", "linear/ease"]


def test_eta_squared_is_the_share_between_groups():
    # By hand: means 1.5 and 4.5 of a total mean 3; between 4 * 1.5^2 = 9, total 4 + 1 + 1 + 4 = 10.
    assert eta_squared(np.array([1.0, 2.0, 4.0, 5.0]), ["a", "a", "b", "b"]) == pytest.approx(0.9)
    # A second implementation: F of the one-way analysis of variance, turned into the share.
    values, levels = np.random.default_rng(0).random(30), np.arange(30) % 3
    f = f_classif(values[:, None], levels)[0][0]
    assert eta_squared(values, levels.tolist()) == pytest.approx(f * 2 / (f * 2 + 27))


def test_importance_says_what_chance_gives_and_leaves_out_what_explains_all(tmp_path):
    generator = np.random.default_rng(0)
    for place in range(24):
        settings = {"dim": 8 * (1 + place % 2), "l2": float(generator.random()), "fixed": 1}
        write_run(tmp_path, "mf/bpr", place, [0.1, 0.2], settings=settings, validation=0.1 + 0.1 * (place % 2))
    runs = list(gather([tmp_path]).runs.values())
    dim, l2 = importance(runs, ["model.dim", "model.l2", "model.fixed", "seed"])[:2]
    assert (dim.key, dim.share, dim.chance, dim.levels, dim.n) == ("model.dim", pytest.approx(1), 1 / 23, 2, 24)
    assert (l2.binned, l2.levels) == (True, 4)
    assert importance(runs[:3], ["model.dim"]) == []


def test_groups_of_examples_are_their_classes(tmp_path):
    values = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    for seed in (1, 2):
        run = write_run(tmp_path, "rnn/lstm", seed, values, monitor="accuracy",
                        metrics={"test/accuracy": values.mean()}, validation=0.1)  # fmt: skip
        frame = {"example": np.arange(6), "target": ["bad", "good"] * 3, "correct": values}
        pd.DataFrame(frame).to_parquet(run.folder / "per_unit.parquet")
        run.update(task={"unit": "example", "measured": [], "protocol": "", "shown": []})
    block = compare([tmp_path]).blocks[0]
    (classes,) = breakdowns(block, gather([tmp_path]), block.configurations, "accuracy")
    assert [(bar.group, bar.mean) for bar in classes.bars] == [("bad (n=3)", pytest.approx(1 / 3)),
                                                               ("good (n=3)", pytest.approx(2 / 3))]  # fmt: skip


def test_groups_of_users_are_their_activity_and_the_popularity_of_what_was_held_out(tmp_path):
    from safetensors.numpy import save_file

    values = [1.0, 0.0, 1.0, 0.0]
    run = write_run(
        tmp_path,
        "mf/bpr",
        1,
        values,
        split={"_target_": "marquee.data.interactions.splits.LeaveOneOut"},
        validation=0.1,
    )
    (run.folder / "inference").mkdir()
    # Lengths 1, 2, 3, 4; the last items are 0, 0, 1, 2, which occur 5, 5, 3 and 2 times.
    items = [0, 1, 0, 0, 0, 1, 0, 1, 2, 2]
    offsets = np.array([0, 1, 3, 6, 10])
    save_file({"offsets": offsets, "items": np.array(items)}, run.folder / "inference" / "histories.safetensors")
    block = compare([tmp_path]).blocks[0]
    activity, popularity = breakdowns(block, gather([tmp_path]), block.configurations, "ndcg@10")
    assert [(bar.group, bar.mean) for bar in activity.bars] == [
        (f"{n} interactions (n=1)", value) for n, value in zip((1, 2, 3, 4), values, strict=True)
    ]
    assert [(bar.group, bar.mean) for bar in popularity.bars] == [
        ("2 interactions (n=1)", 0.0), ("3 interactions (n=1)", 1.0), ("5 interactions (n=2)", 0.5)
    ]  # fmt: skip


def test_groups_need_readable_tables(output):
    block = compare([output]).blocks[0]
    evidence = gather([output])
    for run in evidence.runs.values():
        (run.source / "per_unit.parquet").write_bytes(b"no table")
    assert breakdowns(block, evidence, block.configurations, "ndcg@10") == []


def test_models_are_joined_where_they_are_no_further_apart_than_the_critical_difference():
    average = [1.0, 2.0, 3.5, 4.0]
    ranks = Ranks(["a", "b"], list("wxyz"), [average, average], average, 5.0, 0.01, 1.6, [])
    assert cliques(ranks) == [(0, 1), (1, 2), (2, 3)]
    ranks.p = 0.5  # no difference at all
    assert cliques(ranks) == [(0, 3)]


def test_a_page_of_five_hundred_runs_is_at_most_five_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    for place in range(500):
        l2, dropout, validation = generator.random(3).tolist()
        settings = {"dim": place, "l2": l2, "dropout": dropout, "layers": place % 3}
        run = write_run(tmp_path, "mf/bpr", 1, generator.random(5), settings=settings, validation=validation)
        curve(run, generator.random(200), generator.random(200))
    comparison, evidence = compare([tmp_path]), gather([tmp_path])
    drawn = figures(comparison, evidence)
    html = page(comparison, evidence, ["sweep"], tmp_path, drawn)
    assert len(html.encode()) <= 5_000_000
    by_name = {figure.name: figure for figure in drawn}
    assert "8 of 500 configurations are drawn" in " ".join(by_name["validation-curves"].notes)
    assert len({row["label"] for row in by_name["parallel-coordinates"].rows["parallel-1"]}) == 200
    assert "the first 200 of 500" in " ".join(by_name["parallel-coordinates"].notes)
    assert sum(row["kind"] == "model" for row in by_name["scores-ndcg-10"].rows["scores-ndcg-10"]) == 30
    assert max(len(rows) for rows in by_name["validation-curves"].rows.values()) <= 8 * 100


def test_without_the_extra_the_message_says_what_to_install(output, monkeypatch, tmp_path):
    import argparse

    real = util.find_spec
    monkeypatch.setattr("marquee.compare.report.find_spec", lambda name: None if name == "altair" else real(name))
    words = dict.fromkeys(["metric", "by", "reference", "format", "output", "plots"])
    for own in ({"format": "html"}, {"output": tmp_path / "x.html"}, {"plots": tmp_path / "x"}):
        with pytest.raises(ConfigError, match=r"altair\.\n.*pip install 'marquee\[report\]'"):
            compare_verb(argparse.Namespace(paths=[output], **{**words, **own}))


def test_a_comparison_in_the_terminal_imports_no_charts(output):
    script = (
        "import sys; from marquee.cli.main import main; code = main(sys.argv[1:]);"
        "print([m for m in ('altair', 'jinja2', 'vl_convert') if 'marquee' in m or m in sys.modules], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, "compare", str(output)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_a_run_that_cannot_be_read_is_listed_and_breaks_nothing(output):
    (find_folders([output])[0] / "manifest.json").write_text("{")
    assert "unreadable" in Reader(made(output)).text
