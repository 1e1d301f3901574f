"""Processes of their own for tests, forked from one that has imported everything, instead of started anew.

A new interpreter imports torch and Lightning for some six CPU seconds. The nursery of the product's sweeps
(`marquee.sweeps.pool`) has done so once for each process of pytest, and here it has drawn the embedded worlds too. What
is forked from it is a real process: it has a pid, a group, an environment and a folder of its own, it can be killed,
and the sweeps that it begins share its nursery.
"""

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from marquee.sweeps import pool

REPOSITORY = Path(__file__).resolve().parent.parent
_alive: list[Any] = []  # Forked, and subprocess.Popen that leads a group


@cache
def nursery() -> Any:
    """The context that forks processes; the first call starts it, with one thread, and does not wait for it."""
    preload = (*pool._PRELOAD, "tests.worlds")
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    with mock.patch.object(pool, "_PRELOAD", preload), mock.patch.dict(os.environ, PYTHONPATH=path):
        context = pool.nursery()
        pool._begin_nursery(1)
    return context


class Forked:
    """A process that calls `main(*arguments)` and ends with what it returns; to be used as a subprocess.Popen.

    Its standard output and error go to files, or both to one, so that nobody has to read them while it runs.
    """

    def __init__(
        self,
        main: Callable[..., int | None],
        *arguments: Any,
        env: Mapping[str, str] | None = None,
        together: bool = False,
    ):
        self._folder = tempfile.TemporaryDirectory(prefix="forked-", ignore_cleanup_errors=True)
        self._out, self._err = (Path(self._folder.name, name) for name in ("out", "out" if together else "err"))
        for file in (self._out, self._err):
            file.touch()  # may be read before the process has begun
        context = nursery()
        shared = forkserver._forkserver._forkserver_address  # None where processes are not forked
        streams = str(self._out), str(self._err)
        settings = dict(os.environ if env is None else env)
        self._process = context.Process(target=_run, args=(main, arguments, settings, streams, shared))
        self._process.start()
        self.pid: int = self._process.pid
        _alive.append(self)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0, *self._read())
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it wrote to its standard output and error."""
        self.wait(timeout)
        return self._read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def told(self) -> str:
        """What it has written to its standard output until now."""
        return self._read()[0]

    def _read(self) -> tuple[str, str]:
        return self._out.read_text("utf-8", "replace"), self._err.read_text("utf-8", "replace")


def spawned(command: list[str], env: Mapping[str, str]) -> subprocess.Popen:
    """A program started anew, leading a group of its own; standard output and error are one.

    Ctrl-C reaches it as from a terminal, also where the tests run in the background of a shell that ignores it.
    """
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               stdin=subprocess.DEVNULL, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    _alive.append(process)
    return process


def run(main: Callable[..., int | None], *arguments: Any, env: Mapping[str, str] | None = None, timeout: float = 600):
    """`main(*arguments)` in a process of its own, as subprocess.run would have it."""
    process = Forked(main, *arguments, env=env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess([main.__name__, *map(str, arguments)], process.returncode, out, err)


def _run(main: Callable, arguments: tuple, settings: dict, streams: tuple[str, str], shared: str | None) -> None:
    """What the forked process does: it becomes as a process is that a shell has started, and ends as one."""
    os.setsid()
    atexit._clear()  # what the nursery left to do at its own end
    os.environ.clear()
    os.environ.update(settings)
    for stream, file in enumerate(streams, 1):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, stream)
        os.close(handle)
    sys.stdout.reconfigure(line_buffering=True)  # so that `told` is as new as a terminal would be
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if shared is not None:  # sweeps begun here fork their jobs from the same nursery
        forkserver._forkserver._forkserver_address = shared
        forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None
    try:
        code = main(*arguments)
    finally:
        atexit._run_exitfuncs()
    sys.exit(code)


def count() -> int:
    """How many processes there have been: what `end_all` should leave alone."""
    return len(_alive)


def end_all(since: int = 0) -> None:
    """End what a failed test has left running: it would keep the others from the processor, and pytest from its end."""
    for process in _alive[since:]:
        with suppress(ProcessLookupError):  # with what it has started itself: it leads a group
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()


# Registered after multiprocessing's own handler, which waits for all processes, hence called before it.
atexit.register(end_all)
