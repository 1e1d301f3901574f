"""Exports of runs that `update` and `forget` made, of runs that no longer are what was measured, and of killed ones."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

import marquee as package
from marquee.apply.exporting import archive
from marquee.apply.exporting import export as exporting
from marquee.tasks.recommendation import Recommendation

from .conftest import answer, manifest_of
from .test_export import export, refused


@pytest.fixture
def outputs(trained, tmp_path, world_cache, monkeypatch):
    monkeypatch.setenv("MARQUEE_CACHE", str(world_cache))
    monkeypatch.setenv("MARQUEE_OUTPUT", str(tmp_path / "outputs"))

    def copied(kind):
        target = tmp_path / "outputs" / "runs" / trained[kind].name
        shutil.copytree(trained[kind], target)
        return target

    return copied


def test_a_child_is_certified_on_the_test_that_it_was_judged_by(outputs, tmp_path):
    """Its data is not that of its configuration: it has a user more, or one less. The recorded metric says so."""
    parent = outputs("bpr")
    known = package.load(parent).known
    late = 2**31 + np.arange(3)
    events = {"user": [999999] * 3, "item": known.item_ids[:3], "timestamp": late, "value": [4.0] * 3}
    pd.DataFrame(events).to_csv(tmp_path / "events.csv", index=False)
    runs = tmp_path / "outputs" / "runs"
    done = answer("update", parent, "--events", tmp_path / "events.csv", "--epochs", "1")
    assert done.code == 0, done.err
    assert answer("forget", parent, "--user", "5").code == 0
    for ending, n in (("updated", 1001), ("forgot", 999)):
        (child,) = runs.glob(f"*-{ending}")
        for words in (["--index", "--index-from", "100"], ["--format", "torch"]):
            target = tmp_path / (ending + words[-1])
            export(child, target, *words)
            told = json.loads((target / "parity.json").read_text())
            assert told["before"] == pytest.approx(manifest_of(child)["metrics"]["test/ndcg@10"], abs=1e-9)
            assert told["passed"] and told["changed_units"] == 0
            assert len(package.load(target).users) == n
            assert f"parent {parent.name}" in (target / "README.md").read_text(encoding="utf-8")


def test_a_test_that_gives_another_value_than_was_recorded_certifies_nothing(outputs, tmp_path):
    folder = outputs("ease")
    manifest = manifest_of(folder)
    manifest["metrics"]["test/ndcg@10"] += 0.01
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(answer("export", folder, tmp_path / "out"), 4, "its own test gives ndcg@10", "was recorded")
    assert not (tmp_path / "out").exists()


def test_a_metric_that_is_no_number_is_worse_than_any(outputs, tmp_path, monkeypatch):
    folder = outputs("ease")
    evaluator_of, made = Recommendation.evaluator, []

    def second_is_nan(found):
        real = found.compute
        found.compute = lambda states: ({**real(states)[0], "ndcg@10": float("nan")}, real(states)[1])
        return found

    def counted(task):
        made.append(evaluator_of(task))
        return second_is_nan(made[-1]) if len(made) % 2 == 0 else made[-1]

    monkeypatch.setattr(Recommendation, "evaluator", counted)
    refused(answer("export", folder, tmp_path / "out", "--format", "torch"), 4, "is not the run", "became nan")


def test_what_a_killed_export_left_is_swept_and_a_living_one_is_not(outputs, tmp_path):
    folder, target = outputs("ease"), tmp_path / "out"
    dead, alive, other = (tmp_path / f".{name}" for name in ("out.export-dead", "out.export-live", "out-2.export-x"))
    for place in (dead, alive, other):
        place.mkdir()
        (place / ".lock").touch()
        (place / "model.onnx").write_text("half")
    with FileLock(alive / ".lock"):
        export(folder, target, "--format", "torch")
        assert not dead.exists() and alive.exists() and other.exists()
    left = tmp_path / "into" / "runs" / ".import-dead"
    left.mkdir(parents=True)
    (left / ".lock").touch()
    export(folder, tmp_path / "packed", "--format", "run")
    assert answer("import", *(tmp_path / "packed").glob("*.zip"), "--runs", tmp_path / "into").code == 0
    assert [path.name for path in left.parent.iterdir()] == [folder.name]


def test_killed_between_the_two_renames_the_former_export_comes_back(outputs, tmp_path):
    folder, target = outputs("ease"), tmp_path / "out"
    export(folder, target, "--format", "torch")
    left = tmp_path / ".out.export-dead"
    left.mkdir()
    (left / ".lock").touch()
    os.replace(target, left / "former")
    refused(answer("export", folder, target, "--format", "torch", "--int8"), 2, "--int8 belongs to")
    assert (target / "export.json").is_file() and not left.exists()


def test_ctrl_c_leaves_the_former_export_in_its_place(outputs, tmp_path, monkeypatch):
    folder, target = outputs("ease"), tmp_path / "out"
    export(folder, target, "--format", "torch")
    real = os.replace

    def interrupted(source, place):
        if os.fspath(source).endswith("export") and os.fspath(place) == os.fspath(target):
            raise KeyboardInterrupt
        real(source, place)

    monkeypatch.setattr(exporting.os, "replace", interrupted)
    done = answer("export", folder, target, "--format", "torch")
    assert done.code == 130 and "Traceback" not in done.err
    assert (target / "export.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outputs"]


def test_a_byte_that_changed_in_an_archive_is_damage_wherever_it_stands(outputs, tmp_path):
    folder, file = outputs("bpr"), tmp_path / "good.zip"
    archive.pack(folder, file)
    content = file.read_bytes()
    for place in range(10, len(content), len(content) // 40):
        (tmp_path / "bad.zip").write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        done = answer("import", tmp_path / "bad.zip", "--runs", tmp_path / "into")
        assert done.code in (0, 2, 3) and "Traceback" not in done.err, (place, done.err)
        if done.code == 0:  # what changed says nothing of the run: the time of an entry
            (there,) = (tmp_path / "into" / "runs").iterdir()
            assert (there / "inference" / "model.safetensors").read_bytes() == (
                folder / "inference" / "model.safetensors"
            ).read_bytes()
        shutil.rmtree(tmp_path / "into", ignore_errors=True)
