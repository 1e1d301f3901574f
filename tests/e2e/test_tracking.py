"""What trackers receive, read back from what they wrote; and that none of them can harm or hold up a run."""

import csv
import json
import logging
import os
import socket
import struct
import zlib
from pathlib import Path

import pytest
import yaml
from wandb.proto import wandb_internal_pb2

from marquee.tracking.wandb import WandbTracker, wandb_id

from .commands import FAST
from .conftest import manifest_of

BLOCK = 32768  # of the LevelDB log format: records are framed in blocks and never cross their borders
FIRST, MIDDLE, LAST, WHOLE = 2, 3, 4, 1


def records(file: Path):
    """The protocol-buffer records of an offline W&B run, checksums verified.

    A file opens with 7 bytes (":W&B", a magic number, a version); a frame is checksum, length, kind, content.
    """
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", content[position : position + 7])
        data = content[position + 7 : position + 7 + length]
        assert zlib.crc32(data, zlib.crc32(bytes([kind]))) == checksum
        position += 7 + length
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


class Offline:
    """An offline W&B run, read back."""

    def __init__(self, folder: Path):
        (self.file,) = folder.rglob("*.wandb")
        self.config, self.summary, self.history, self.exit_code = {}, {}, [], None
        for record in records(self.file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
            elif kind == "history":
                self.history.append({_name(item): json.loads(item.value_json) for item in record.history.item})
            elif kind == "summary":
                self.summary.update({_name(item): json.loads(item.value_json) for item in record.summary.update})
            elif kind == "exit":
                self.exit_code = record.exit.exit_code


def _name(item) -> str:
    return item.key or "/".join(item.nested_key)


@pytest.fixture(scope="module")
def bpr(trained) -> Offline:
    return Offline(trained["bpr"])


def test_wandb_holds_the_resolved_configuration_family_and_tags(trained, bpr):
    manifest = manifest_of(trained["bpr"])
    held = {key: value for key, value in bpr.config.items() if not key.startswith("_")}
    assert {key: held[key] for key in manifest["config"]} == manifest["config"]
    assert "${" not in json.dumps(held)
    assert held["fingerprint"] == manifest["fingerprint"]
    assert bpr.run.job_type == "mf" and held["family"] == "mf"
    assert set(bpr.run.tags) == {"mf", "shown", "twice"}
    assert bpr.run.project == "marquee"
    assert bpr.run.display_name == manifest["id"]


def test_wandb_holds_the_curves_of_every_epoch(trained, bpr):
    epochs = {row["epoch"]: row["validation/ndcg@10"] for row in bpr.history if "validation/ndcg@10" in row}
    curve = list(csv.DictReader((trained["bpr"] / "metrics.csv").open()))
    assert epochs == {int(row["epoch"]): pytest.approx(float(row["validation/ndcg@10"])) for row in curve}
    assert len(epochs) == 2
    assert sum("train/loss" in row for row in bpr.history) == 2


def test_wandb_ends_with_the_summary_of_the_manifest(trained, bpr):
    manifest = manifest_of(trained["bpr"])
    assert bpr.summary["status"] == "finished"
    assert {name: bpr.summary[name] for name in manifest["metrics"]} == pytest.approx(manifest["metrics"])
    popular = manifest["baselines"]["baseline/popular"]["ndcg@10"]
    assert bpr.summary["baseline/popular/ndcg@10"] == pytest.approx(popular)
    assert bpr.summary["oracle/ndcg@10"] == pytest.approx(manifest["oracle"]["ndcg@10"])
    assert bpr.exit_code == 0


def test_every_run_has_a_wandb_id_of_its_own_that_follows_from_the_run(trained):
    ids = {}
    for folder in trained.values():
        ids[Offline(folder).run.run_id] = wandb_id(manifest_of(folder)["fingerprint"], folder.name)
    assert len(ids) == len(trained)
    assert all(found == expected for found, expected in ids.items())
    # The same configuration twice is one fingerprint in two folders, and two W&B runs.
    assert wandb_id("f" * 64, "ffffffff-world") != wandb_id("f" * 64, "ffffffff-world-2")


def test_wandb_needs_no_network_no_answer_and_no_place_but_the_run(shell, tmp_path, monkeypatch):
    connect = socket.socket.connect

    def local(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"), f"asked for {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    answer = shell("train", *FAST["bpr"], "trainer.max_epochs=1")
    assert answer.code == 0 and answer.err == ""
    assert "wandb: " not in answer.out
    run = (tmp_path / "outputs" / "latest").resolve()
    assert [path.relative_to(run).parts[0] for path in tmp_path.rglob("*.wandb")] == ["wandb"]
    assert not (tmp_path / "wandb").exists()


def test_wandb_is_closed_after_a_failure_too(shell, tmp_path, monkeypatch):
    def breaks(self, batch):
        raise RuntimeError("the power is gone")

    monkeypatch.setattr("marquee.models.mf.bpr.BPR.loss", breaks)
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=1").code == 4
    run = Offline(tmp_path / "outputs")
    assert run.summary["status"] == "failed"
    assert run.exit_code == 1


def test_a_tracker_that_breaks_does_not_cost_the_run(shell, tmp_path, monkeypatch, caplog):
    finish = WandbTracker.finish

    def breaks(self, manifest):
        finish(self, manifest)
        raise OSError("the tracker is gone")

    monkeypatch.setattr(WandbTracker, "finish", breaks)
    with caplog.at_level(logging.WARNING):
        answer = shell("train", *FAST["bpr"], "trainer.max_epochs=1")
    assert answer.code == 0
    assert manifest_of(tmp_path / "outputs" / "latest")["status"] == "finished"
    assert "WandbTracker could not be closed: the tracker is gone" in caplog.text


def test_tensorboard_events_hold_curves_and_final_metrics(trained):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained["lstm"] / "tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    manifest = manifest_of(trained["lstm"])
    assert [event.value for event in events.Scalars("validation/accuracy")] == pytest.approx(
        [float(row["validation/accuracy"]) for row in csv.DictReader((trained["lstm"] / "metrics.csv").open())]
    )
    assert "train/loss" in names
    final = events.Scalars("final/test/accuracy")[-1].value
    assert final == pytest.approx(manifest["metrics"]["test/accuracy"])


def test_the_table_of_curves_is_written_whatever_the_tracker(shell, tmp_path):
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=1", "tracker=none").code == 0
    run = tmp_path / "outputs" / "latest"
    assert len(list(csv.DictReader((run / "metrics.csv").open()))) == 1
    assert not list(run.glob("wandb")) and not list(run.glob("tensorboard"))
    assert yaml.safe_load((run / "config.yaml").read_text())["tracker"] == {}


def test_a_resumed_run_goes_on_in_the_same_table_and_the_same_wandb_run(shell, tmp_path, monkeypatch):
    from marquee.models.mf.bpr import BPR

    learn, steps = BPR.loss, []

    def breaks(self, batch):
        steps.append(batch)
        if len(steps) > 9:
            raise RuntimeError("the power is gone")
        return learn(self, batch)

    monkeypatch.setattr(BPR, "loss", breaks)
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=3").code == 4
    folder = (tmp_path / "outputs" / "latest").resolve()
    monkeypatch.setattr(BPR, "loss", learn)
    assert shell("train", "resume=latest").code == 0
    first, second = ({record.run.run_id for record in records(file) if record.HasField("run")}
                     for file in sorted(folder.rglob("*.wandb"), key=os.path.getmtime))  # fmt: skip
    assert first == second == {wandb_id(manifest_of(folder)["fingerprint"], folder.name)}
    assert [row["epoch"] for row in csv.DictReader((folder / "metrics.csv").open())] == ["0", "1", "2"]
