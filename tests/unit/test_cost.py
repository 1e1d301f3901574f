"""What a run costs: measured for every family, on counters that are made up, and without touching any result."""

import json
import os
import sys
import types
from pathlib import Path

import pytest
import torch

from marquee.cli.main import main
from marquee.runs import cost as costs
from marquee.runs.cost import Counter, EnergyMeter, nvml_counters, peak_memory, rapl_counters
from marquee.tracking.curves import Curves

from ..forked import run

KEYS = {"latency_ms", "batch_latency_ms", "peak_memory_mb", "size_mb", "energy_j", "energy_of", "fit_cpu_s"}
BPR = ["data=world_ratings", "model=mf/bpr", "model.dim=8", "model.view.batch_size=8192", "trainer.max_epochs=2"]


@pytest.fixture
def train(tmp_path, world_cache, monkeypatch, capsys):
    """`marquee train WORDS` in this process; the run's folder and its manifest."""
    monkeypatch.setenv("MARQUEE_OUTPUT", str(tmp_path / "outputs"))
    monkeypatch.setenv("MARQUEE_CACHE", str(world_cache))

    def run(*words, code=0):
        assert main(["train", "tracker=none", *words]) == code
        capsys.readouterr()
        folder = (tmp_path / "outputs" / "latest").resolve()
        return folder, json.loads((folder / "manifest.json").read_text())

    return run


@pytest.mark.parametrize(
    "words",
    [
        BPR,
        ["data=world_ratings", "model=linear/ease"],
        ["data=world_ratings", "model=baseline/random"],
        ["data=world_reviews", "model=linear/bag_of_words"],
        ["data=world_reviews", "model=baseline/majority"],
        ["data=world_posters", "model=cnn/poster", "model.channels=[4,8]", "model.dense=16"],
    ],
    ids=lambda words: words[1].removeprefix("model="),
)
def test_every_family_records_what_a_prediction_costs(train, words):
    folder, manifest = train(*words, "trainer.limit_train_batches=2")
    cost = manifest["cost"]
    assert set(cost) == KEYS
    assert cost["latency_ms"] > 0 and cost["peak_memory_mb"] > 0
    shipped = sum(file.stat().st_size for file in (folder / "inference").rglob("*"))
    assert cost["size_mb"] == pytest.approx(shipped / 1e6, abs=6e-4)


def test_measuring_changes_neither_weights_nor_metrics_nor_identity(train, monkeypatch):
    _, measured = train(*BPR)
    monkeypatch.setattr("marquee.runs.train.cost", lambda *arguments: {"size_mb": 0.0})
    _, plain = train(*BPR)
    assert plain["cost"]["size_mb"] == 0.0
    for key in ("fingerprint", "metrics", "baselines"):
        assert measured[key] == plain[key]
    assert measured["checkpoint"]["weights_sha256"] == plain["checkpoint"]["weights_sha256"]


def test_a_slow_first_prediction_leaves_as_many_to_be_timed(monkeypatch):
    seconds = iter(
        [5.0, 5.0] + [0.001] * 3 + [0.01] * 17
    )  # the first two are the warm-up; then 0.2 s are enough for all
    clock = [0.0]
    monkeypatch.setattr(costs.time, "perf_counter", lambda: clock[0])

    def ask():
        clock[0] += next(seconds)

    monkeypatch.setattr(costs, "_requests", lambda inference, task: [ask] * 22)
    assert costs.latency(None, None) == pytest.approx(10)


def test_timing_a_prediction_leaves_the_random_stream_where_it_was(train, monkeypatch):
    states = []
    measure = costs.latency

    def watched(*arguments):
        before = torch.get_rng_state()
        found = measure(*arguments)
        states.append(torch.equal(before, torch.get_rng_state()))
        return found

    monkeypatch.setattr(costs, "latency", watched)
    _, manifest = train(*BPR)
    assert states == [True] and manifest["cost"]["latency_ms"] > 0


def test_a_rerun_is_identical_and_diff_says_nothing_of_cost(train, capsys):
    folder, _ = train(*BPR)
    assert main(["rerun", str(folder)]) == 0
    assert "identical" in capsys.readouterr().out
    assert main(["diff", str(folder), "latest"]) == 0
    assert "latency" not in capsys.readouterr().out


def test_show_has_a_line_on_cost(train, capsys):
    folder, manifest = train(*BPR)
    manifest["cost"] = {"latency_ms": 0.5, "peak_memory_mb": 812.0, "size_mb": 1.25, "energy_j": None, "energy_of": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["show", str(folder)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cost ")]
    assert line.split(None, 1)[1] == "0.5 ms a prediction, 812 MB of memory, 1.25 MB to ship"


def test_a_prediction_that_cannot_be_made_costs_no_run(train, monkeypatch):
    def breaks(*arguments, **settings):
        raise RuntimeError("no such thing")

    monkeypatch.setattr("marquee.inference.recommender.RecommendPredictor.recommend", breaks)
    folder, manifest = train(*BPR)
    assert manifest["status"] == "finished" and manifest["cost"]["latency_ms"] is None
    assert "no such thing" in (folder / "log.txt").read_text()


# Time over the parts of a resumed run --------------------------------------------------------------------------------


def test_the_training_time_of_a_resumed_run_is_that_of_all_its_parts(train, monkeypatch):
    from marquee.models.mf.bpr import BPR as Model

    learn, steps = Model.loss, []

    def breaks(self, batch):
        steps.append(batch)
        if len(steps) > 9:
            raise RuntimeError("the power is gone")
        return learn(self, batch)

    monkeypatch.setattr(Model, "loss", breaks)
    words = [*BPR, "trainer.max_epochs=3"]
    folder, _ = train(*words, code=4)
    *table, last = (folder / "metrics.csv").read_text().splitlines()
    cells = last.split(",")
    (folder / "metrics.csv").write_text("\n".join([*table, ",".join([*cells[:2], "5000.5", *cells[3:]])]) + "\n")
    monkeypatch.setattr(Model, "loss", learn)
    _, manifest = train(f"resume={folder}")
    assert 5000.5 < manifest["durations"]["fit"] < 5300
    seconds = [float(line.split(",")[2]) for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    assert len(seconds) == 3 and seconds == sorted(seconds) and seconds[2] > 5000.5


def test_time_of_epochs_that_are_trained_again_does_not_count(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,seconds,train/loss\n0,9,10.0,3\n1,19,20.0,2\n2,29,30.0,1\n")
    assert Curves(file).before == 30.0, "nothing is left to train"
    curves = Curves(file)
    curves.log_metrics({"epoch": 1, "train/loss": 5.0}, 19)
    assert curves.before == 10.0
    assert [row["epoch"] for row in curves.rows] == ["0", 1] and 10.0 <= curves.rows[1]["seconds"] < 70
    assert Curves(tmp_path / "new.csv").before == 0.0


# Memory --------------------------------------------------------------------------------------------------------------


def test_peak_memory_is_the_kernels_high_water_mark(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t 9999999 kB\nVmHWM:\t  250000 kB\nVmRSS:\t 1000 kB\n")
    assert peak_memory(status) == 256.0  # 250,000 * 1024 / 10^6


def test_without_proc_the_systems_accounting_is_asked(tmp_path):
    assert peak_memory(tmp_path / "absent") > 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the high-water mark of a fork")
def test_a_forked_worker_does_not_count_what_its_parent_once_held():
    told = run(_fork_after_holding_much).stdout
    parent, child = map(float, told.split())
    assert parent > 600 and child < parent - 500


def _fork_after_holding_much():
    held = bytearray(600_000_000)
    del held
    parent = peak_memory()
    if os.fork() == 0:
        print(parent, peak_memory(), flush=True)
        os._exit(0)
    os.wait()


# Energy --------------------------------------------------------------------------------------------------------------


def zone(folder, number, name, microjoules, limit=262_143_328_850):
    place = folder / f"intel-rapl:{number}"
    place.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", limit)):
        (place / file).write_text(f"{value}\n")
    return place / "energy_uj"


def test_energy_is_the_packages_and_the_memory_and_nothing_twice(tmp_path):
    """psys holds the packages, core is a part of its package, and intel-rapl-mmio is the package once more."""
    files = {
        name: zone(tmp_path, number, name, 1_000_000)
        for number, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys"))
    }
    (tmp_path / "intel-rapl-mmio:0").mkdir()
    with EnergyMeter(powercap=tmp_path) as meter:
        for name, joules in (("package-0", 30), ("core", 20), ("dram", 5), ("package-1", 40), ("psys", 90)):
            files[name].write_text(str(1_000_000 + joules * 1_000_000))
    assert meter.joules == pytest.approx(75)
    assert meter.parts == ["package-0", "dram", "package-1"]


def test_a_counter_that_starts_again_at_zero_is_followed(tmp_path):
    file = zone(tmp_path, 0, "package-0", 990_000_000, limit=1_000_000_000)
    (counter,) = rapl_counters(tmp_path)
    for value in (990_000_000, 999_000_000, 4_000_000, 500_000_000, 3_000_000):  # J: 9, 1 + 4, 496, 500 + 3
        file.write_text(str(value))
        assert counter.sample()
    assert counter.joules == pytest.approx(9 + 5 + 496 + 503)


def test_a_machine_that_does_not_tell_has_no_energy(tmp_path):
    with EnergyMeter(powercap=tmp_path / "absent") as meter:
        pass
    assert meter.joules is None and meter.parts == []


def test_a_counter_that_may_not_be_read_is_left_out(tmp_path):
    file = zone(tmp_path, 0, "package-0", 1)
    file.unlink()
    file.mkdir()  # what root cannot read either
    assert rapl_counters(tmp_path) == []
    zone(tmp_path, 1, "package-1", 5)
    meter = EnergyMeter(powercap=tmp_path)
    with meter:
        (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules is None


def test_the_cards_that_are_used_are_asked_by_their_own_id(monkeypatch):
    """NVML's numbers are not torch's where CUDA_VISIBLE_DEVICES is set, and it counts millijoules."""
    used = {"GPU-second": 7_000}
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda card: used[card],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    cards = [types.SimpleNamespace(uuid="first"), types.SimpleNamespace(uuid="second")]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: cards[number])
    with EnergyMeter((1,), powercap=Path(os.devnull)) as meter:
        used["GPU-second"] += 12_500
    assert (meter.joules, meter.parts) == (12.5, ["gpu-1"])
    assert nvml_counters((0,)) == [] and nvml_counters(()) == []


def test_a_counter_adds_only_what_came_after_its_first_reading():
    values = iter([100, 150, 150])
    counter = Counter("made up", lambda: next(values), unit=2.0)
    assert [counter.sample() for _ in range(4)] == [True, True, True, False]
    assert counter.joules == 100.0
