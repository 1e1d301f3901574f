"""Rows of all kinds through `marquee score`: what stands beside them is kept as it is, and a wrong one is named."""

import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock
from pyarrow import parquet

import marquee as package
from marquee.apply.scoring import parts as scoring
from marquee.apply.scoring.rows import scored

from .conftest import answer
from .test_export import refused
from .test_score import score


@pytest.fixture
def write(tmp_path):
    def written(name, **columns):
        (tmp_path / name).mkdir(exist_ok=True)
        file = tmp_path / name / f"{len(list((tmp_path / name).iterdir()))}.parquet"
        parquet.write_table(pa.table(columns), file)
        return tmp_path / name

    return written


def made(folder):
    return [parquet.read_table(file) for file in sorted(folder.glob("part-*.parquet"))]


def test_what_stands_beside_a_row_is_kept_bit_for_bit(trained, write, tmp_path):
    """Large integers with gaps among them, texts that begin with none, categories, times of a zone, decimals, lists."""
    n = 300
    beside = {
        "large": pa.array([None, *(2**60 + 1 + number for number in range(n - 1))], pa.int64()),
        "late": pa.array([None] * 200 + ["x"] * 100),
        "words": pa.array([str(number) for number in range(n)]).dictionary_encode(),
        "when": pa.array(range(n), pa.timestamp("us", tz="UTC")),
        "price": pa.array(range(n), pa.decimal128(10, 2)),
        "parts": pa.array([[number, None] for number in range(n)], pa.list_(pa.int32())),
    }
    source = write("in", user=pa.array(np.arange(n) + 1), **beside, items=pa.array(["former"] * n))
    score(trained["ease"], "--input", source, "--output", tmp_path / "out", "-k", "2", "--batch", "70")
    (table,) = made(tmp_path / "out")
    assert table.column_names == ["user", *beside, "items", "scores"]
    for name, values in beside.items():
        assert table.schema.field(name).type == values.type, name
        assert table[name].to_pylist() == values.to_pylist(), name
    wanted = package.load(trained["ease"]).recommend(users=list(range(1, n + 1)), k=2)["item_id"].tolist()
    assert sum(table["items"].to_pylist(), []) == wanted


def test_parts_have_one_schema_whatever_stands_in_them(trained, write, tmp_path):
    """A file without rows, and users for whom nothing is left, among others."""
    ids = package.load(trained["ease"]).known.item_ids
    kinds = pa.list_(pa.int64())
    source = write("in", session=pa.array([1]), history=pa.array([ids.tolist()], kinds))
    write("in", session=pa.array([], pa.int64()), history=pa.array([], kinds))
    write("in", session=pa.array([2]), history=pa.array([ids[:1].tolist()], kinds))
    score(trained["ease"], "--input", source, "--output", tmp_path / "out", "-k", "2")
    tables = made(tmp_path / "out")
    assert len({str(table.schema) for table in tables}) == 1
    whole = parquet.read_table(tmp_path / "out").sort_by("session")
    assert [len(items) for items in whole["items"].to_pylist()] == [0, 2]
    for kind, column, value in (("lstm", "text", "fine"), ("cnn", "image", None)):
        source = write(
            kind, **{column: pa.array([], pa.string() if value else pa.binary()), "id": pa.array([], pa.int8())}
        )
        score(trained[kind], "--input", source, "--output", tmp_path / f"{kind}-out")
        (table,) = made(tmp_path / f"{kind}-out")
        assert len(table) == 0 and {"id", "label"} <= set(table.column_names) and "items" not in table.column_names


def test_the_row_that_cannot_be_scored_is_named_with_its_file(trained, write, tmp_path):
    source = write("in", user=pa.array([1] * 150 + [99999] + [2] * 9))
    words = ("--output", tmp_path / "out", "--batch", "100")
    refused(answer("score", trained["ease"], "--input", source, *words), 3, "0.parquet, row 150: User 99999 is not in")
    source = write("gap", user=pa.array([1] * 120 + [None]))
    refused(answer("score", trained["ease"], "--input", source, *words), 3, "0.parquet, row 120: column user is empty")


def test_tables_that_nobody_could_score_are_refused_before_anything_is(trained, write, tmp_path):
    out = tmp_path / "out"
    folder = tmp_path / "twice"
    folder.mkdir()
    parquet.write_table(
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["user", "user"]), folder / "a.parquet"
    )
    refused(answer("score", trained["ease"], "--input", folder, "--output", out), 3, "a.parquet has two columns user")
    source = write("in", history=pa.array([[1]]))
    refused(answer("score", trained["bpr"], "--input", source, "--output", out), 2, "BPR", "cannot score a history")
    source = write("users", user=pa.array([1]))
    refused(answer("score", trained["ease"], "--input", source, "--output", source / "out"), 2, "lies inside --input")
    source = write("words", user=pa.array(["1", "2"]).dictionary_encode())
    score(trained["ease"], "--input", source, "--output", out)  # how pandas writes categories


def test_ctrl_c_and_a_second_process_leave_whole_parts(trained, write, tmp_path, monkeypatch):
    for number in range(3):
        source = write("in", user=pa.array(np.arange(1, 60) + number))
    out, written = tmp_path / "out", []
    words = ("score", trained["ease"], "--input", source, "--output", out)

    def interrupted(frames, *given):
        written.append(1)
        for table in scored(frames, *given):
            yield table
            if len(written) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "scored", interrupted)
    assert answer(*words).code == 130
    assert [len(table) for table in made(out)] == [59]
    assert not list(out.glob(".part-*"))
    with FileLock(out / ".lock"):
        refused(answer(*words), 4, "is being written by another marquee score")
    done = answer(*words)
    assert "2 parts scored, 1 already there" in done.out, done.err
