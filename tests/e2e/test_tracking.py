"""What trackers receive, read back from what they wrote; and that none of them can harm or hold up a run."""

import csv
import json
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wandb
import yaml

from marquee.models.mf.bpr import BPR
from marquee.runs.record import Run
from marquee.tracking.wandb import WandbTracker, choose_id, wandb_id

from ..wandb_files import whole
from .commands import FAST, marquee
from .conftest import manifest_of


class Offline:
    """An offline W&B run, read back."""

    def __init__(self, folder: Path):
        (self.file,) = folder.rglob("*.wandb")
        self.config, self.summary, self.history, self.exit_code = {}, {}, [], None
        for record in whole(self.file):
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
    assert bpr.summary["cost/latency_ms"] == manifest["cost"]["latency_ms"]
    assert bpr.summary["oracle/ndcg@10"] == pytest.approx(manifest["oracle"]["ndcg@10"])
    assert bpr.exit_code == 0


def test_every_run_has_a_wandb_id_of_its_own_that_follows_from_the_run(trained):
    ids = {}
    for folder in trained.values():
        manifest = manifest_of(folder)
        ids[Offline(folder).run.run_id] = wandb_id(manifest["fingerprint"], folder.name, manifest["started"])
    assert len(ids) == len(trained)
    assert all(found == expected for found, expected in ids.items())
    # The same configuration twice is one fingerprint in two folders, and two W&B runs; so it is on two machines.
    first = wandb_id("f" * 64, "ffffffff-world", "2026-01-01T00:00:00.000+00:00")
    assert first != wandb_id("f" * 64, "ffffffff-world-2", "2026-01-01T00:00:00.000+00:00")
    assert first != wandb_id("f" * 64, "ffffffff-world", "2026-01-01T00:00:00.001+00:00")


def test_runs_of_one_configuration_that_begin_at_once_never_share_a_wandb_run(tmp_path):
    def begin(number):
        run = Run.create(tmp_path, "f" * 64, "world", {"config": {}, "seed": 1})
        return choose_id(run, {})

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(begin, range(64)))) == 64


def test_a_run_keeps_the_wandb_id_that_it_has_got(tmp_path):
    """Whoever gave it: W&B's agent, or Marquee before its ids were made as they are."""
    run = Run.create(tmp_path, "f" * 64, "world", {"config": {}, "seed": 1})
    (run.folder / "wandb" / "run-20260101_000000-k3yb0ard").mkdir(parents=True)
    assert choose_id(run, {}) == "k3yb0ard"


def test_under_wandbs_own_agent_its_run_id_wins(tmp_path):
    run = Run.create(tmp_path, "f" * 64, "world", {"config": {}, "seed": 1})
    agent = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1"}
    assert choose_id(run, agent) is None, "none is asked for, so W&B takes WANDB_RUN_ID"
    assert choose_id(run, {"WANDB_RUN_ID": "r1"}) == choose_id(run, {}) != "r1"


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


def test_a_run_of_a_sweep_is_in_the_group_of_its_name(shell, tmp_path, bpr):
    assert bpr.run.run_group == "", "a run of no sweep has no group"
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=1", "sweep=dims").code == 0
    assert Offline(tmp_path / "outputs").run.run_group == "dims"


def test_under_an_agent_the_run_is_recorded_as_the_agents(shell, tmp_path, monkeypatch):
    """In a process of its own, as an agent starts it: W&B reads these variables once."""
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1agent")
    output, cache = tmp_path / "outputs", Path(os.environ["MARQUEE_CACHE"])
    done = marquee("train", *FAST["bpr"], "trainer.max_epochs=1", output=output, cache=cache)
    assert done.returncode == 0, done.stderr
    run = Offline(output).run
    assert (run.run_id, run.sweep_id) == ("r1agent", "s1")


def test_a_server_that_cannot_be_reached_costs_neither_the_run_nor_its_record(shell, tmp_path, monkeypatch):
    monkeypatch.setattr("marquee.tracking.wandb.INIT_SECONDS", 2)  # of the server alone: offline has its own time
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb.teardown()  # forget the address that earlier runs used
    answer = shell("train", *FAST["bpr"], "trainer.max_epochs=1", "tracker.wandb.mode=online", "sweep=dims")
    wandb.teardown()
    assert answer.code == 0
    run = (tmp_path / "outputs" / "latest").resolve()
    assert answer.err.count("warning: W&B") == 1 and f"later: marquee sync {run}" in answer.err
    (place,) = (run / "wandb").glob("offline-run-*")
    offline, manifest = Offline(place), manifest_of(run)
    assert offline.summary["test/ndcg@10"] == pytest.approx(manifest["metrics"]["test/ndcg@10"])
    assert offline.run.run_id == wandb_id(manifest["fingerprint"], run.name, manifest["started"])
    assert (offline.run.run_group, offline.exit_code) == ("dims", 0)


def test_online_without_a_login_nothing_is_asked_and_the_run_is_tracked_offline(shell, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wandb.teardown()
    answer = shell("train", *FAST["bpr"], "trainer.max_epochs=1", "tracker.wandb.mode=online")
    wandb.teardown()
    assert answer.code == 0 and "nobody is logged in (wandb login)" in answer.err
    assert Offline(tmp_path / "outputs").summary["status"] == "finished"


# W&B's own agent -----------------------------------------------------------------------------------------------------

SWEEP = Path(__file__).resolve().parents[2] / "scripts" / "wandb_sweep.yaml"


def agent_command(sweep):
    """The command line of an agent's run with the first (or smallest) value of each parameter, by W&B's own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    args = {name: {"value": spec["values"][0] if "values" in spec else spec["min"]}
            for name, spec in sweep["parameters"].items()}  # fmt: skip
    values = {"args_no_hyphens": create_sweep_command_args({"args": args})["args_no_hyphens"]}
    words = []
    for word in create_sweep_command(list(sweep["command"])):
        words += values["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    return words


def test_the_commands_of_wandbs_agent_are_sound_configurations(shell):
    sweep = yaml.safe_load(SWEEP.read_text())
    program, verb, *words = agent_command(sweep)
    assert (program, verb) == ("marquee", "train") == (sweep["program"], "train")
    assert len([word for word in words if word.split("=")[0] in sweep["parameters"]]) == len(sweep["parameters"]) > 2
    assert "tracker.wandb.mode=online" in words
    for name, spec in sweep["parameters"].items():
        for value in spec.get("values") or (spec["min"], spec["max"]):
            answer = shell("check", *words, f"{name}={value}")
            assert answer.code == 0, answer.err


def test_the_metric_that_wandb_searches_by_is_one_that_is_logged(trained):
    sweep = yaml.safe_load(SWEEP.read_text())
    manifest = manifest_of(trained["ratings"])
    assert "model=transformer/sasrec" in sweep["command"] and "sasrec" in manifest["model"]
    recorded = Offline(trained["ratings"])
    name = sweep["metric"]["name"]
    assert name == f"validation/{manifest['monitor']}" and sweep["metric"]["goal"] == f"{manifest['mode']}imize"
    assert recorded.summary[name] == pytest.approx(manifest["metrics"][name])
    assert any(name in row for row in recorded.history)


def test_wandb_is_closed_after_a_failure_too(shell, monkeypatch):
    """What W&B is told, and not what its service has written: that may lose the end of a run that has just begun."""
    told = []

    class Told:
        def __init__(self, run):
            self.run, self.summary = run, {}

        def finish(self, exit_code):
            told.append((self.summary["status"], exit_code))
            self.run.finish(exit_code=exit_code)

    finish = WandbTracker.finish

    def listens(self, manifest):
        self._run = Told(self._run)
        finish(self, manifest)

    def breaks(self, batch):
        raise RuntimeError("the power is gone")

    monkeypatch.setattr(WandbTracker, "finish", listens)
    monkeypatch.setattr(BPR, "loss", breaks)
    assert shell("train", *FAST["bpr"], "trainer.max_epochs=3").code == 4
    assert told == [("failed", 1)]


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("pruned", 0), ("failed", 1), ("interrupted", 1)])
def test_wandb_shows_as_crashed_what_failed_and_not_what_a_search_stopped_early(status, code):
    class Recorded:
        summary: dict = {}

        def finish(self, exit_code):
            self.exit_code = exit_code

    tracker, recorded = WandbTracker(), Recorded()
    tracker._run = recorded
    tracker.finish({"status": status})
    assert (recorded.exit_code, recorded.summary) == (code, {"status": status})


def test_what_cannot_be_sent_in_time_is_told_with_what_to_type(tmp_path, capsys):
    class Slow:
        summary: dict = {}
        dir = str(tmp_path / "run-20260101_000000-abc" / "files")

        def finish(self, exit_code):
            raise TimeoutError

    tracker = WandbTracker(mode="online")
    tracker._run = Slow()
    tracker.finish({"status": "finished"})
    assert f"Later: wandb sync --include-online {tmp_path / 'run-20260101_000000-abc'}" in capsys.readouterr().err


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
    manifest = manifest_of(folder)
    first, second = ({record.run.run_id for record in whole(file) if record.HasField("run")}
                     for file in sorted(folder.rglob("*.wandb"), key=os.path.getmtime))  # fmt: skip
    assert first == second == {wandb_id(manifest["fingerprint"], folder.name, manifest["started"])}
    assert [row["epoch"] for row in csv.DictReader((folder / "metrics.csv").open())] == ["0", "1", "2"]
