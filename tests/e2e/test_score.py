"""Parquet through a finished run, in parts: what is there is not made again, whoever was killed, on either engine."""

import json
import os
import shutil
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import marquee as package
from marquee.apply.scoring import parts as scoring
from marquee.apply.scoring.rows import scored

from .commands import begin, environment
from .conftest import answer
from .test_export import refused


@pytest.fixture
def sessions(trained, tmp_path):
    """Three files of histories: by id, of 5, 0 and 7 rows."""
    ids = package.load(trained["ease"]).known.item_ids
    generator = np.random.default_rng(1)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, n in (("a", 5), ("b", 0), ("c", 7)):
        rows = [generator.choice(ids, generator.integers(1, 9), replace=False).tolist() for _ in range(n)]
        table = pa.table({"session": pa.array(range(n), pa.int64()), "history": pa.array(rows, pa.list_(pa.int64()))})
        parquet.write_table(table, folder / f"{name}.parquet")
    return folder


def score(*words):
    done = answer("score", *words)
    assert done.code == 0, done.err
    return done.out


def read(folder):
    return {file.name: pd.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))}


def test_every_known_user_gets_what_recommend_gives_them_and_nothing_is_made_twice(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "USERS_A_PART", 400)
    out = tmp_path / "out"
    assert "3 parts scored, 0 already there" in score(trained["ease"], "--output", out, "-k", "4", "--batch", "150")
    table = pd.concat(read(out).values())
    wanted = package.load(trained["ease"]).recommend(k=4)
    assert table["user"].tolist() == wanted["user"].unique().tolist() and len(table) == 1000
    assert np.concatenate(table["items"].tolist()).tolist() == wanted["item_id"].tolist()
    np.testing.assert_allclose(np.concatenate(table["scores"].tolist()), wanted["score"], rtol=1e-5)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir() if file.suffix == ".parquet"}
    assert "0 parts scored, 3 already there" in score(trained["ease"], "--output", out, "-k", "4")
    (out / sorted(before)[1]).unlink()
    assert "1 part scored, 2 already there" in score(trained["ease"], "--output", out, "-k", "4")
    after = {file.name: file.stat().st_mtime_ns for file in out.iterdir() if file.suffix == ".parquet"}
    assert {name for name in before if before[name] != after[name]} == {sorted(before)[1]}


def test_histories_are_scored_row_for_row_in_files_named_by_run_and_input(trained, sessions, tmp_path):
    out = tmp_path / "out"
    score(trained["ease"], "--input", sessions, "--output", out, "-k", "3", "--batch", "2")
    predictor, found = package.load(trained["ease"]), read(out)
    fingerprint = json.loads((trained["ease"] / "manifest.json").read_text())["fingerprint"]
    for name in ("a", "b", "c"):
        file = sessions / f"{name}.parquet"
        made = found.pop(f"part-{fingerprint[:8]}-{scoring.file_sum(file)[:16]}.parquet")
        source = pd.read_parquet(file)
        assert made["session"].tolist() == source["session"].tolist() if len(source) else len(made) == 0
        for history, items in zip(source["history"], made["items"]):
            assert items.tolist() == predictor.recommend(histories=[history.tolist()], k=3)["item_id"].tolist()
    assert not found
    pd.DataFrame({"session": [9], "history": [predictor.known.item_ids[:2].tolist()]}).to_parquet(
        sessions / "d.parquet"
    )
    assert "1 part scored, 3 already there" in score(trained["ease"], "--input", sessions, "--output", out, "-k", "3")


def test_texts_and_images_keep_their_rows(trained, tmp_path):
    from PIL import Image

    texts = pd.DataFrame({"id": [3, 1], "text": ["a wonderful film", "dull"], "label": ["old", "old"]})
    (tmp_path / "texts").mkdir()
    texts.to_parquet(tmp_path / "texts" / "t.parquet")
    score(trained["lstm"], "--input", tmp_path / "texts", "--output", tmp_path / "labels")
    (made,) = read(tmp_path / "labels").values()
    wanted = package.load(trained["lstm"]).predict(texts["text"].tolist())
    assert made["id"].tolist() == [3, 1] and made["text"].tolist() == texts["text"].tolist()
    pd.testing.assert_frame_equal(made[list(wanted)], wanted, check_dtype=False)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(folder / "x.png")
    pd.DataFrame({"image": ["x.png"]}).to_parquet(folder / "paths.parquet")
    pd.DataFrame({"image": [(folder / "x.png").read_bytes()]}).to_parquet(tmp_path / "bytes.parquet")
    score(trained["cnn"], "--input", folder, "--output", tmp_path / "by_path")
    score(trained["cnn"], "--input", tmp_path / "bytes.parquet", "--output", tmp_path / "by_bytes")
    (one,), (other,) = read(tmp_path / "by_path").values(), read(tmp_path / "by_bytes").values()
    assert one["image"].tolist() == ["x.png"] and "image" not in other
    pd.testing.assert_frame_equal(one.drop(columns="image"), other)


def test_inputs_that_cannot_be_scored_are_refused_before_anything_is(trained, sessions, tmp_path):
    out = tmp_path / "out"
    where = ("--output", out)
    pd.DataFrame({"session": [1.5], "history": [[1]]}).to_parquet(sessions / "z.parquet")
    refused(
        answer("score", trained["ease"], "--input", sessions, *where), 3, "z.parquet has other columns than", "double"
    )
    (sessions / "z.parquet").write_bytes(b"PAR1 no")
    refused(
        answer("score", trained["ease"], "--input", sessions, *where), 3, "z.parquet is no readable Parquet", "sha256"
    )
    (sessions / "z.parquet").unlink()
    refused(answer("score", trained["lstm"], "--input", sessions, *where), 3, "reads a column text", "session, history")
    refused(answer("score", trained["lstm"], *where), 2, "--input names what is to be scored")
    refused(answer("score", trained["ease"], "--input", tmp_path / "none", *where), 3, "does not exist")
    (tmp_path / "empty").mkdir()
    refused(answer("score", trained["ease"], "--input", tmp_path / "empty", *where), 3, "holds no .parquet file")
    refused(answer("score", trained["ease"], "--input", sessions, "--output", sessions), 2, "are one folder")
    pd.DataFrame({"user": [1], "history": [[1]]}).to_parquet(tmp_path / "both.parquet")
    refused(answer("score", trained["ease"], "--input", tmp_path / "both.parquet", *where), 3, "the input has both")
    pd.DataFrame({"user": [1.5]}).to_parquet(tmp_path / "half.parquet")
    refused(answer("score", trained["ease"], "--input", tmp_path / "half.parquet", *where), 3, "is of the type double")
    assert not out.exists()
    pd.DataFrame({"user": [1, 99999]}).to_parquet(tmp_path / "who.parquet")
    refused(answer("score", trained["ease"], "--input", tmp_path / "who.parquet", *where), 3, "who.parquet", "99999")
    assert not list(out.glob("*part-*"))


def test_what_another_run_has_scored_is_left_alone(trained, tmp_path):
    out = tmp_path / "out"
    score(trained["ease"], "--output", out)
    refused(answer("score", trained["bpr"], "--output", out), 2, "was scored with run", trained["bpr"].name)
    refused(answer("score", trained["ease"], "--output", out, "-k", "5"), 2, "was scored with k 10, and this is 5")
    (tmp_path / "mine").mkdir()
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "mine" / "thesis.parquet")
    refused(answer("score", trained["ease"], "--output", tmp_path / "mine"), 2, "marquee score has not written")


def test_killed_it_loses_the_open_part_and_no_more(trained, tmp_path, world_cache):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(60):
        users = np.roll(np.arange(1, 1001), number)  # other bytes in each file
        pd.DataFrame({"user": users}).to_parquet(source / f"{number:02d}.parquet")
    words = ("score", str(trained["ratings"]), "--input", str(source), "--output", str(out))
    process = begin(*words, env=environment(tmp_path / "outputs", world_cache))
    end = time.monotonic() + 120
    while len(list(out.glob("part-*.parquet"))) < 2 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait(timeout=60)
    whole = read(out)
    assert 2 <= len(whole) < 60 and all(len(table) == 1000 for table in whole.values())
    for number in range(len(whole) + 3, 60):  # the rest would only take time
        (source / f"{number:02d}.parquet").unlink(missing_ok=True)
    there = sum(
        (out / part.name).exists()
        for part in scoring._of_files(
            package.load(trained["ratings"]), source, out, scoring._identity(trained["ratings"])
        )
    )
    n = len(list(source.iterdir()))
    assert there == len(whole)
    assert f"{n - there} parts scored, {there} already there" in score(*words[1:])
    assert not list(out.glob(".part-*"))  # what the killed process had open


@pytest.mark.slow  # Ray takes half a minute to start where the machine is busy
def test_both_engines_write_the_same_bytes(trained, sessions, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        _both_engines(trained, sessions, tmp_path)
    finally:
        ray.shutdown()


def _both_engines(trained, sessions, tmp_path):
    for engine in ("local", "ray"):
        score(trained["ease"], "--input", sessions, "--output", tmp_path / engine, "--engine", engine)
    one, other = (
        {file.name: file.read_bytes() for file in (tmp_path / engine).glob("part-*")} for engine in ("local", "ray")
    )
    assert one == other and len(one) == 3
    pd.DataFrame({"session": [1], "history": [[-5]]}).to_parquet(sessions / "bad.parquet")
    refused(
        answer("score", trained["ease"], "--input", sessions, "--output", tmp_path / "ray", "--engine", "ray"),
        3, "bad.parquet, row 0", "-5",
    )  # fmt: skip


def test_sparks_map_in_pandas_takes_the_same_function(trained, monkeypatch):
    """The example of the documentation, where pyspark is installed and finds a Java."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("there is no Java here")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # its workers are else the system's Python
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        users = spark.createDataFrame([(1,), (2,)], "user long")
        run = partial(scored, run=str(trained["ease"]), k=3)
        found = users.mapInPandas(run, "user long, items array<long>, scores array<double>").toPandas()
    finally:
        spark.stop()
    wanted = package.load(trained["ease"]).recommend(users=[1, 2], k=3)
    assert np.concatenate(found["items"].tolist()).tolist() == wanted["item_id"].tolist()


def test_the_function_takes_and_gives_iterators_of_tables(trained):
    """As engines call it: nothing is read before it is asked for."""
    asked = []

    def frames():
        for users in ([1, 2], [3]):
            asked.append(users)
            yield pd.DataFrame({"user": users, "kept": users})

    found = scored(frames(), trained["ease"], k=2)
    first = next(found)
    assert asked == [[1, 2]] and first["kept"].tolist() == [1, 2] and [len(row) for row in first["items"]] == [2, 2]
    assert next(found)["user"].tolist() == [3]
