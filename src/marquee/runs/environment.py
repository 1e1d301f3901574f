"""What a run ran on: interpreter, packages, machine, threads, and the graphics card where torch has been loaded."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What was typed: the other processes of a distributed run are started by it. Read at import: later sys.argv is changed.
SCRIPT = sys.argv[0]

PACKAGES = (
    "torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy", "pandas", "scipy",
    "scikit-learn", "pyarrow", "pillow", "pydantic", "safetensors", "wandb", "tensorboard",
)  # fmt: skip

# Of these another version may change the last digits of a result.
DECISIVE = ("torch", "numpy", "pytorch-lightning")


def environment() -> dict[str, Any]:
    """A flat record with one nested table, `packages` (version by name)."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "gpu": gpu(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def script() -> str:
    """The file that starts this command line again: the processes of a distributed job are begun with it."""
    if Path(SCRIPT).stem == "marquee" and Path(SCRIPT).is_file():
        return str(Path(SCRIPT).resolve())
    return str(Path(__file__).resolve().parents[1] / "__main__.py")


def cores() -> int:
    """The cores that this process may use, which on a shared machine are fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu() -> str | None:
    """The names of the CUDA cards. Never imports torch: listing runs must stay fast."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
