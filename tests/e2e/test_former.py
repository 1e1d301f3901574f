"""Runs of an earlier version, before classes had moved and tasks described themselves, are read like today's."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import marquee
from marquee.config.former import KEYS, MOVED, modern
from marquee.config.targets import resolve

from .commands import FAST


def as_recorded_before(folder: Path) -> None:
    """Rewrite a run's folder in the words of schema version 1 and inference format 1."""
    former = {new: old for old, new in MOVED.items()}

    def renamed(value):
        if isinstance(value, dict):
            return {key: renamed(part) for key, part in value.items()}
        return [renamed(part) for part in value] if isinstance(value, list) else former.get(value, value)

    def config_of(config):
        config = renamed(config)
        size = config["task"].pop("evaluation_batch_size", None)
        if size is not None:
            config["model"]["view"]["evaluation_batch_size"] = size
        for key in ("item_features", "user_features"):
            config["data"].pop(key, None)
        return config

    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["config"] = config_of(manifest["config"])
    manifest["split"]["config"] = renamed(manifest["split"]["config"])
    for key in ("item_features", "user_features"):
        manifest["data"]["spec"].pop(key, None)
    del manifest["task"]
    manifest["schema_version"] = 1
    file.write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text(yaml.safe_dump(manifest["config"]))
    if (folder / "inference" / "model.json").exists():
        content = json.loads((folder / "inference" / "model.json").read_text())
        content = {"format": 1, "model": manifest["config"]["model"], "spec": manifest["data"]["spec"]}
        (folder / "inference" / "model.json").write_text(json.dumps(content))
    import pandas as pd

    if (folder / "per_unit.parquet").exists():
        table = pd.read_parquet(folder / "per_unit.parquet").rename(columns={"example": "unit"})
        table.to_parquet(folder / "per_unit.parquet")


def test_every_name_that_has_moved_leads_to_a_class():
    for new in MOVED.values():
        assert isinstance(resolve(new), type), new


def test_who_types_a_former_name_or_key_is_told_todays(shell):
    refused = shell("check", "model.view._target_=marquee.data.views.Sequences")
    assert refused.code == 2
    assert "marquee.data.views.Sequences is marquee.data.interactions.views.Sequences now" in refused.err
    refused = shell("check", "data=world_reviews", "model.view.evaluation_batch_size=64")
    assert refused.code == 2 and "it is task.evaluation_batch_size now" in refused.err


def test_a_former_configuration_is_renewed_and_todays_is_left_alone():
    old = {"model": {"view": {"_target_": "marquee.data.text_views.TextBatches", "evaluation_batch_size": 64}},
           "task": {"_target_": "marquee.tasks.classification.Classification"}}  # fmt: skip
    new = {"model": {"view": {"_target_": "marquee.data.text.views.TextBatches"}},
           "task": {"_target_": "marquee.tasks.classification.Classification",
                    KEYS["model.view.evaluation_batch_size"].split(".")[1]: 64}}  # fmt: skip
    assert modern(old) == new == modern(new)


@pytest.mark.parametrize("kind", ["bpr", "lstm"])
def test_a_run_recorded_before_is_listed_shown_used_and_compared_with_todays(kind, trained, shell, tmp_path):
    today, before = (tmp_path / "outputs" / "runs" / name for name in ("00000000-today", "11111111-before"))
    for folder in (today, before):
        shutil.copytree(trained[kind], folder)
    manifest = json.loads((before / "manifest.json").read_text())
    for folder, seed in ((today, 1), (before, 2)):  # another seed, or one of them would count as a repetition
        content = json.loads((folder / "manifest.json").read_text())
        content["id"], content["seed"], content["config"]["seed"] = folder.name, seed, seed
        (folder / "manifest.json").write_text(json.dumps(content))
    as_recorded_before(before)
    assert before.name in shell("ls").out
    shown = shell("show", before.name)
    assert shown.code == 0 and f"{manifest['metrics']['test/' + manifest['monitor']]:.4f}" in shown.out
    # One block and one row of two seeds: neither names nor places tell the two apart.
    content = json.loads(shell("compare", "outputs", "--format", "json").out)
    (block,) = content["blocks"]
    (row,) = block["configurations"]
    assert sorted(row["runs"]) == [today.name, before.name] and row["seeds"] == [1, 2]
    assert block["n_units"] > 100 and not any("not used" in note for note in block["notes"])
    models = [marquee.load(folder).model.state_dict() for folder in (today, before)]
    assert all(bool((models[0][name] == models[1][name]).all()) for name in models[0])
    same = shell("diff", today.name, before.name)
    assert same.code == 0 and "_target_" not in same.out


@pytest.mark.parametrize("kind", ["bpr", "lstm"])
def test_a_run_recorded_before_is_resumed_to_the_weights_of_one_that_never_stopped(kind, shell, tmp_path):
    words = [*FAST[kind], "tracker=none", "scheduler=cosine", "scheduler.T_max=4"]
    assert shell("train", *words, "trainer.max_epochs=4", "paths.output=whole").code == 0
    assert shell("train", *words, "trainer.max_epochs=2").code == 0
    folder = (tmp_path / "outputs" / "latest").resolve()
    as_recorded_before(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    resumed = shell("train", f"resume={folder.name}", "trainer.max_epochs=4", "tracker=none")
    assert resumed.code == 0, resumed.err
    found = json.loads((folder / "manifest.json").read_text())
    whole = json.loads((tmp_path / "whole" / "latest" / "manifest.json").read_text())
    assert found["schema_version"] == 2 and found["status"] == "finished"
    assert found["checkpoint"]["weights_sha256"] == whole["checkpoint"]["weights_sha256"]
    assert found["metrics"] == whole["metrics"] and found["task"] == whole["task"]
