"""The process of a service: its socket, its signals, its end."""

import errno
import gc
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from marquee.errors import ConfigError, JobError
from marquee.serving.app import build
from marquee.serving.connections import HEAD, careful
from marquee.serving.service import Service
from marquee.serving.settings import Settings

log = logging.getLogger("marquee")


class Server(uvicorn.Server):
    """Ends by SIGTERM or Ctrl-C when what is under way is answered; a second one ends it at once. SIGHUP reloads."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGINT: self.handle_exit, signal.SIGTERM: self.handle_exit}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._reload
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.service.stopping = True
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    def _reload(self, sig: int, frame: FrameType | None) -> None:
        threading.Thread(target=self.service.reload, name="reload", daemon=True).start()


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raises ConfigError, DataError for a damaged run, JobError for a port in use."""
    listening = bound(settings.host, settings.port)
    try:
        service = Service(settings)
        config = uvicorn.Config(
            build(service), log_level="warning", access_log=False, server_header=False, lifespan="on",
            http=careful(settings.timeout), ws="none", h11_max_incomplete_event_size=HEAD,
            timeout_graceful_shutdown=math.ceil(settings.drain), limit_concurrency=4 * settings.queue + 64,
        )  # fmt: skip
        # What is loaded stays: looking through it for what could be freed costs half of a small answer.
        gc.collect()
        gc.freeze()
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        served = service.served
        print(f"{served.folder.name} {served.predictor.does}: {address}", flush=True)
        print(f"  a page to try it: {address}/   endpoints: {address}/docs   stop: Ctrl-C", flush=True)
        Server(config, service).run(sockets=[listening])
    finally:
        listening.close()
    print("stopped", flush=True)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens nowhere else. Raises JobError, which says what to type, where the port is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror or error}. Type an address of this machine.") from None
    found = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two services have one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"--host {host}: that is no address of this machine.") from None
        other = port + 1 if 1024 <= port < 65535 else 8000
        raise JobError(
            f"--port {port} of {host} cannot be used: {error.strerror or error}.\n"
            f"  fix: marquee serve ... --port {other}, or --port 0 for one that is free"
        ) from None
    found.set_inheritable(False)
    return found
