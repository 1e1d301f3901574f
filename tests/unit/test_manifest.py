"""A run's folder and manifest: reserved once, written whole, found by any of its names."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml

from marquee.errors import ConfigError, JobError
from marquee.runs.finding import find_run
from marquee.runs.record import KEYS, Run, point_latest, read_manifest, slugged

PRINT = "0123456789abcdef" * 4


def make(output, fingerprint=PRINT, slug="World Ratings/bpr", **content):
    return Run.create(output, fingerprint, slug, {"config": {"seed": 1}, "seed": 1, **content})


def test_a_new_run_says_running_and_has_every_key(tmp_path):
    run = make(tmp_path)
    assert run.folder == tmp_path / "runs" / "01234567-world-ratings-bpr"
    manifest = read_manifest(run.folder)
    assert set(KEYS) <= set(manifest)
    assert (manifest["status"], manifest["schema_version"], manifest["id"]) == ("running", 2, run.folder.name)
    assert manifest["environment"]["python"]
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == {"seed": 1}
    assert (tmp_path / "latest").resolve() == run.folder


def test_the_same_fingerprint_runs_again_into_a_numbered_folder(tmp_path):
    names = [make(tmp_path).folder.name for _ in range(3)]
    assert names == ["01234567-world-ratings-bpr", "01234567-world-ratings-bpr-2", "01234567-world-ratings-bpr-3"]


def test_runs_started_at_the_same_moment_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: make(tmp_path), range(16)))
    assert len({run.folder for run in runs}) == 16
    assert (tmp_path / "latest" / "manifest.json").is_file()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_updates_and_the_end_reach_the_disk(tmp_path):
    run = make(tmp_path)
    run.update(metrics={"test/ndcg@10": np.float32(0.5), "bad": float("nan")}, checkpoint={"path": run.folder / "x"})
    run.finish("finished", durations={"fit": 1.5})
    manifest = Run.open(run.folder).manifest
    assert manifest["metrics"] == {"test/ndcg@10": 0.5, "bad": None}
    assert (manifest["status"], manifest["durations"]) == ("finished", {"fit": 1.5})
    assert manifest["finished"] >= manifest["started"]
    assert [name for name in os.listdir(run.folder) if name.startswith(".manifest")] == []


def test_a_failed_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    run = make(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(JobError, match="No space left"):
        run.update(status="finished")
    assert read_manifest(run.folder)["status"] == "running"


def test_an_output_that_cannot_be_written_is_a_job_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"paths\.output"):
        make(tmp_path / "file")


def test_restarting_keeps_a_record_of_it(tmp_path):
    run = make(tmp_path)
    run.finish("interrupted", error="stopped by Ctrl-C")
    run.restart(["trainer.max_epochs=9"])
    manifest = read_manifest(run.folder)
    assert (manifest["status"], manifest["error"], manifest["finished"]) == ("running", None, None)
    assert manifest["resumed"][0]["overrides"] == ["trainer.max_epochs=9"]


def test_latest_is_a_text_file_where_links_are_not_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError("not permitted")))
    run = make(tmp_path)
    assert (tmp_path / "latest").is_file()
    assert find_run("latest", tmp_path) == run.folder.resolve()


def test_a_run_is_found_by_all_its_names(tmp_path):
    one, other = make(tmp_path), make(tmp_path, "fedc" * 16, "imdb-lstm")
    for name in (str(one.folder), one.folder.name, "0123", "01234567-world", PRINT, PRINT[:20]):
        assert find_run(name, tmp_path) == one.folder.resolve()
    assert find_run("imdb-lstm", tmp_path) == other.folder.resolve()
    assert find_run("latest", tmp_path) == other.folder.resolve()
    assert find_run(str(one.folder / "manifest.json"), tmp_path) == one.folder.resolve()


def test_a_lost_pointer_is_no_loss(tmp_path):
    make(tmp_path)
    last = make(tmp_path, "fedc" * 16)
    (tmp_path / "latest").unlink()
    assert find_run("latest", tmp_path) == last.folder.resolve()


def test_ambiguous_and_unknown_names_list_candidates(tmp_path):
    with pytest.raises(ConfigError, match="holds none yet"):
        find_run("latest", tmp_path)
    make(tmp_path)
    make(tmp_path)
    assert find_run("01234567-world-ratings-bpr", tmp_path).name == "01234567-world-ratings-bpr"  # exact beats prefix
    with pytest.raises(ConfigError, match="may be any of") as caught:
        find_run("0123", tmp_path)
    assert "bpr-2" in str(caught.value)
    with pytest.raises(ConfigError, match="no run 9999") as caught:
        find_run("9999", tmp_path)
    assert "01234567-world-ratings-bpr" in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"without manifest\.json"):
        find_run(str(tmp_path / "folder"), tmp_path)


def test_damaged_and_later_manifests_are_refused(tmp_path):
    folder = make(tmp_path).folder
    later = {**read_manifest(folder), "schema_version": 99}
    (folder / "manifest.json").write_text(json.dumps(later))
    with pytest.raises(ConfigError, match="Upgrade"):
        read_manifest(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(folder)


def test_folder_names_are_plain():
    assert slugged("World: Ratings / BPR!") == "world-ratings-bpr"
    assert slugged("???") == "run"
    assert len(slugged("x" * 500)) == 60


def test_pointing_again_replaces(tmp_path):
    one, other = make(tmp_path), make(tmp_path)
    point_latest(tmp_path, one.folder)
    assert (tmp_path / "latest").resolve() == one.folder.resolve() != other.folder.resolve()


MISSHAPEN = [
    ("status", ["running"]), ("config", "x"), ("config.task", 7), ("config.scheduler", ["x"]), ("overrides", True),
    ("overrides", [5]), ("code", 5), ("code.commit", -1), ("environment.packages", "x"), ("data", "x"),
    ("data.fingerprint", 5), ("data.spec", []), ("split.config", ["x"]), ("task", "x"), ("task.unit", {}),
    ("task.measured", [1]), ("seed", []), ("started", "yesterday"), ("finished", 5), ("durations.fit", {"a": 1}),
    ("metrics", True), ("metrics.test/ndcg@10", "\x1b]0;x\x07"), ("baselines", {"a": 1}), ("oracle.ndcg@10", []),
    ("cost.latency_ms", "x"), ("process", "x"), ("process.pid", "../../etc"),
    ("schema_version", "2"),
]  # fmt: skip


@pytest.mark.parametrize("key, value", MISSHAPEN, ids=lambda part: str(part)[:20])
def test_a_manifest_that_holds_something_of_another_kind_is_named_with_its_key(tmp_path, key, value):
    """Edited by hand or somebody else's: readers rely on the kinds, and would end with a traceback."""
    run = Run.create(tmp_path, "a" * 64, "world", {"config": {}})
    manifest = json.loads((run.folder / "manifest.json").read_text())
    *parents, leaf = key.split(".", 1) if key.count(".") else [key]
    for parent in parents:
        manifest[parent] = manifest.get(parent) or {}
    (manifest[parents[0]] if parents else manifest)[leaf] = value
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=rf"manifest.json is not as a run writes it: {key.split('.')[0]}"):
        read_manifest(run.folder)
