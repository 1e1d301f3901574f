"""Where jobs run: processes of this machine, forked from one that has imported everything.

Importing torch and Lightning costs some six CPU seconds, so a *nursery* does it once: a process of its own (the fork
server of multiprocessing) that imports and never computes, hence holds no threads, no data and no random state. Each
job is a fork of it. What a job does to its memory, its files or its life concerns neither the launcher nor the others.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from marquee.errors import ConfigError, DataError, JobError
from marquee.runs.environment import cores, script

# gently: after the epoch, with everything saved; now: as SIGTERM; kill: at once
Stop = Literal["gently", "now", "kill"]
_PRELOAD = ("marquee.sweeps.imported",)


class Running(ABC):
    """A job that was started.

    cancelled  whether somebody has ended it where it ran, by hand: it is not tried again
    """

    cancelled = False

    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""

    @abstractmethod
    def stop(self, how: Stop) -> None:
        """Ask it to end. Safe to call when it has."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it runs, for the reader: a process, a cluster's job."""

    def told(self) -> str | None:
        """How it ended, where the place knows more than its exit code says: out of memory, cancelled, a node lost."""
        return None


class Pool(ABC):
    """Somewhere to run frozen jobs.

    capacity     how many run at the same time; the launcher starts no more
    counts_time  whether the launcher keeps the time limit; a cluster, where jobs wait in a queue, does it itself
    outlives     whether jobs go on when their launcher is gone
    """

    capacity: int
    counts_time = True
    outlives = False

    @abstractmethod
    def start(self, files: Sequence[Path]) -> list[Running]:
        """Start the frozen jobs in these files."""

    def adopt(self, place: str) -> Running | None:
        """The job that an earlier launcher started at this place, where it still runs or waits."""
        return None

    def wait(self, running: Sequence[Running], seconds: float) -> None:
        """Return when a job may have ended, after `seconds` at the latest."""
        time.sleep(seconds)


class LocalPool(Pool):
    """`n_jobs` processes on this machine, which share its threads; each has one of `gpus`, where there are any."""

    def __init__(self, n_jobs: int, threads: int, gpus: Sequence[int] = ()):
        self.capacity = n_jobs
        self.threads = threads
        self.gpus = list(gpus)
        self.running: list[LocalJob] = []
        _begin_nursery(threads)

    def start(self, files: Sequence[Path]) -> list[Running]:
        started: list[Running] = []
        for file in files:
            self.running = [job for job in self.running if job.exit_code() is None]
            # The card that the fewest jobs have: with as many jobs as cards, a free one.
            taken = [job.gpu for job in self.running]
            gpu = min(self.gpus, key=taken.count) if self.gpus else None
            self.running.append(LocalJob(file, self.threads, gpu))
            started.append(self.running[-1])
        return started

    def wait(self, running: Sequence[Running], seconds: float) -> None:
        wait([job.process.sentinel for job in running if isinstance(job, LocalJob)], seconds)


class LocalJob(Running):
    """A forked process, in a process group of its own."""

    def __init__(self, file: Path, threads: int, gpu: int | None = None):
        from marquee.sweeps.worker import forked

        self.gpu = gpu
        card = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}  # read when CUDA is first used: in the job
        arguments = (str(file.resolve()), {**os.environ, **card}, threads, script())
        self.process = nursery().Process(target=forked, args=arguments, name=file.stem)
        self.process.start()
        self.swept = False

    def exit_code(self) -> int | None:
        code = self.process.exitcode
        if code is not None and not self.swept:  # what a crashed job has started must not outlive it
            self.swept = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return code

    def stop(self, how: Stop) -> None:
        number = {"gently": signal.SIGINT, "now": signal.SIGTERM, "kill": signal.SIGKILL}[how]
        if self.process.exitcode is not None or self.process.pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:  # not yet a group of its own
                os.kill(self.process.pid, number)

    @property
    def place(self) -> str:
        return f"process {self.process.pid}"


def thread_share(n_jobs: int) -> int:
    """Threads for each of `n_jobs` jobs: an even share of OMP_NUM_THREADS, or of the cores, and one at least."""
    whole = os.environ.get("OMP_NUM_THREADS", "")
    return max((int(whole) if whole.isdigit() and int(whole) > 0 else cores()) // n_jobs, 1)


def nursery() -> Any:
    """The context that makes processes: forked where the system can, begun afresh elsewhere."""
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload(list(_PRELOAD))
    return context


def _begin_nursery(threads: int) -> None:
    """Start the nursery with the threads of one job: OpenMP and BLAS read their number once, when they are loaded."""
    if nursery().get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def in_nursery(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a forked process and return what it returns; MarqueeErrors come through.

    So the launcher itself never imports torch, and a crash while data is prepared is a message.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = nursery().Process(target=_answer, args=(sender, dict(os.environ), function, arguments))
    try:
        process.start()
        sender.close()
        kind, answer = receiver.recv()
    except EOFError:
        process.join()
        raise JobError(
            f"The jobs could not be planned: the process that composes them {ended(process.exitcode)}."
        ) from None
    except KeyboardInterrupt:
        if process.pid is not None:
            process.terminate()
        raise
    finally:
        receiver.close()
    process.join()
    if kind == "error":
        name, text = answer
        raise {"ConfigError": ConfigError, "DataError": DataError}.get(name, JobError)(text)
    return answer


def _answer(sender: Connection, environment: dict[str, str], function: Callable[..., Any], arguments: Any) -> None:
    import threading
    import traceback

    from marquee.errors import MarqueeError
    from marquee.sweeps.worker import end_with_parent

    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        answer = "result", function(*arguments)
    except MarqueeError as error:
        answer = "error", (type(error).__name__, str(error))
    except Exception as error:
        answer = "error", ("JobError", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        sender.send(answer)


def ended(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {
        "SIGKILL": " (often: the system was out of memory)",
        "SIGSEGV": " (a crash in compiled code)",
        "SIGABRT": " (compiled code gave up)",
    }
    return f"was ended by {name}{hints.get(name, '')}"
