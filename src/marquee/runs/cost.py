"""What a run costs: the time of one prediction, memory, the size of what is shipped, and energy."""

import logging
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from marquee.tasks.base import Task

log = logging.getLogger("marquee")

POWERCAP = Path("/sys/class/powercap")
UNITS = 20  # predictions that are timed
MANY = 256  # predictions that are timed together
WARM_UP = 2  # and those before them that are not
SECONDS = 0.2  # a slow model is timed on fewer units: a run should not wait for its measurement
SAMPLE_SECONDS = 30  # a counter of 65 kJ is full after three minutes at 350 W


def cost(inference: Path, task: Task, energy: "EnergyMeter", cuda: bool = False) -> dict[str, Any]:
    """The manifest's `cost`; what this machine cannot tell is null. MB are 10^6 bytes.

    latency_ms          median wall time of one prediction, see `latency`
    batch_latency_ms    wall time of one among up to MANY that are asked for at once; null where nobody asks so
    peak_memory_mb      see `peak_memory`
    peak_gpu_memory_mb  most that torch held on the card at once; only where CUDA is used
    size_mb             the folder `inference`, which is what one would ship
    energy_j            energy of the whole machine over training, see EnergyMeter; energy_of names what it covers

    Whoever trains adds `fit_cpu_s`, CPU seconds of training and validation with all threads; null for a run that was
    resumed.
    """
    memory = peak_memory()  # before the prediction loads the model a second time
    found: dict[str, Any] = {
        "latency_ms": _rounded(latency(inference, task), 3),
        "batch_latency_ms": _rounded(batch_latency(inference, task), 4),
        "peak_memory_mb": _rounded(memory, 1),
        "size_mb": _rounded(sum(file.stat().st_size for file in inference.rglob("*") if file.is_file()) / 1e6, 3),
        "energy_j": _rounded(energy.joules, 1),
        "energy_of": energy.parts,
    }
    if cuda:
        found["peak_gpu_memory_mb"] = _rounded(torch.cuda.max_memory_allocated() / 1e6, 1)
    return found


# Latency -------------------------------------------------------------------------------------------------------------


def latency(inference: Path, task: Task) -> float | None:
    """Median wall milliseconds of one prediction, as the task has it asked: a user's ten best items, a text's label.

    It goes the way of `marquee recommend` and `marquee predict`: on the CPU, from the run's inference folder, one
    unit of the test part at a time, with the threads that the run had. Reading the folder does not count. None where
    that way does not work for this model: a measurement must not cost a run.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # a model that is loaded draws its first weights
            requests = _requests(inference, task)
            milliseconds: list[float] = []
            for number, ask in enumerate(requests):
                start = time.perf_counter()
                if number <= WARM_UP:
                    began = start  # a slow first prediction would leave one to be timed, which is no median
                ask()
                end = time.perf_counter()
                if number >= WARM_UP:
                    milliseconds.append(1000 * (end - start))
                if milliseconds and end - began > SECONDS:
                    break
        return statistics.median(milliseconds) if milliseconds else None
    except Exception as error:
        log.warning("The time of a prediction could not be measured: %s", error)
        return None


def batch_latency(inference: Path, task: Task) -> float | None:
    """Wall milliseconds of one prediction where many are asked for at once, likewise; the best of up to three calls."""
    try:
        kind = task.predictor()
        if kind is None or (asked := task.many(kind(inference), MANY)) is None:
            return None
        ask, n = asked
        found: list[float] = []
        began = time.perf_counter()
        while len(found) < 3 and time.perf_counter() - began < SECONDS:
            start = time.perf_counter()
            ask()
            found.append(1000 * (time.perf_counter() - start) / n)
        return min(found)
    except Exception as error:
        log.warning("The time of many predictions could not be measured: %s", error)
        return None


def _requests(inference: Path, task: Task) -> Iterator[Callable[[], Any]]:
    """One prediction each, for the first units of the test part; a small test part is gone through again."""
    kind = task.predictor()
    asked = task.requests(kind(inference), UNITS) if kind else []
    return (asked[number % len(asked)] for number in range(WARM_UP + UNITS) if asked)


# Memory --------------------------------------------------------------------------------------------------------------


def peak_memory(status: Path = Path("/proc/self/status")) -> float | None:
    """MB of main memory that this process held at most, everything in it included (interpreter, libraries, data).

    From VmHWM, where a forked process begins with what its parent holds at that moment. `getrusage` is the second
    choice: what a process had before an exec still counts there. None on Windows.
    """
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


# Energy --------------------------------------------------------------------------------------------------------------


class EnergyMeter:
    """Joules between entering and leaving: `with EnergyMeter() as meter: train()`, then `meter.joules`.

    They are the machine's, not the process's: whatever else ran at the time is in them, and an idle machine uses some,
    too. Sources are the RAPL counters of the processor packages and the memory (Linux; often readable by root only)
    and, for the CUDA cards `devices`, NVML where pynvml is installed. `parts` names those that could be read; with
    none of them `joules` is None.
    """

    def __init__(self, devices: tuple[int, ...] = (), powercap: Path = POWERCAP):
        self._counters = [*rapl_counters(powercap), *nvml_counters(devices)]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def parts(self) -> list[str]:
        return [counter.name for counter in self._counters]

    @property
    def joules(self) -> float | None:
        return sum(counter.joules for counter in self._counters) if self._counters else None

    def __enter__(self) -> "EnergyMeter":
        self.sample()
        if self._counters:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        self.sample()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Read all counters; one that cannot be read any more is left out from then on."""
        self._counters = [counter for counter in self._counters if counter.sample()]


class Counter:
    """A counter that only grows, in `unit` joules, until it starts again at zero after `limit` (0: never)."""

    def __init__(self, name: str, read: Callable[[], int], unit: float, limit: int = 0):
        self.name = name
        self.joules = 0.0
        self._read, self._unit, self._limit = read, unit, limit
        self._last: int | None = None

    def sample(self) -> bool:
        """Add what was used since the last time; False where the counter cannot be read."""
        try:
            now = self._read()
        except Exception:  # permission denied, a card that is gone: each source has errors of its own
            return False
        if self._last is not None:
            self.joules += ((now - self._last) + (self._limit if now < self._last else 0)) * self._unit
        self._last = now
        return True


def rapl_counters(powercap: Path) -> list[Counter]:
    """The processor packages (cores included) and the memory beside them. `psys` would count them a second time."""
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            limit = int((zone / "max_energy_range_uj").read_text())
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
        if name.startswith("package") or name == "dram":
            counters.append(Counter(name, lambda zone=zone: int((zone / "energy_uj").read_text()), 1e-6, limit))
    return counters


def nvml_counters(devices: tuple[int, ...]) -> list[Counter]:
    """The cards with these numbers in torch; NVML counts millijoules since its driver was loaded."""
    if not devices:
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        counters = []
        for device in devices:
            card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            read = partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, card)
            read()
            counters.append(Counter(f"gpu-{device}", read, 1e-3))
        return counters
    except Exception:  # not installed, no driver, a card without the counter
        return []


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
