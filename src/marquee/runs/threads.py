"""Threads and how they wait: set in the environment, where OpenMP reads it once, before torch is imported."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from marquee.runs.environment import cores


def set_threads(config: Mapping[str, Any]) -> None:
    """Set the thread count and the wait policy, which OpenMP reads once, when torch is loaded.

    `threads` of the configuration wins, then OMP_NUM_THREADS, then the cores that this process may use, shared among
    the processes of a distributed run. Waiting threads sleep: two that spin on a busy machine cost ten times as much.
    """
    trainer = config.get("trainer") or {}
    devices = trainer.get("devices") if trainer.get("accelerator") == "cpu" else 1
    processes = devices if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0 else 1
    wanted = config.get("threads")
    wanted = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0 else None
    if wanted is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(wanted)
    else:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(cores() // processes, 1)))
        # One number for both: the threads of a matrix product decide its last digits, so a run that went on with
        # another number of them would not end with the same weights.
        os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    if wanted is not None and "torch" in sys.modules:  # a later job of a sweep
        sys.modules["torch"].set_num_threads(wanted)
