"""What a service adds to its predictor, what it gains by answering together, and how long titles are looked for."""

import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.serving import trained
from benchmarks.workspace import Workspace

CLIENTS = 64


class Running(NamedTuple):
    """A service: its port, and the CPU seconds that it has used until now."""

    port: int
    cpu_seconds: Callable[[], float]


def _cpu_seconds(pid: int) -> float:
    """Of a process of this machine (Linux), to the hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(space: Workspace, run: str, **settings: Any) -> Iterator[Running]:
    """A service in a process of its own; with size `once` in a thread of this one, for the time it takes.

    settings  options of `marquee serve`, with _ for -
    """
    if space.size == "once":
        with _in_a_thread(space, run, settings) as port:
            yield Running(port, cpu_seconds)
        return
    words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "marquee", "serve", run, "--runs", str(space.folder / "outputs"), "--port", "0"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            told = process.stdout.readline()
            port = int(told.rsplit(":", 1)[1])
            for _ in range(600):
                if _asked(port, "GET", "/ready") == 200:
                    break
                time.sleep(0.05)
            yield Running(port, lambda: _cpu_seconds(process.pid))
        finally:
            process.terminate()


@contextlib.contextmanager
def _in_a_thread(space: Workspace, run: str, settings: dict[str, Any]) -> Iterator[int]:
    import uvicorn

    from marquee.serving.app import build
    from marquee.serving.server import Server, bound
    from marquee.serving.service import Service
    from marquee.serving.settings import Settings

    service = Service(Settings(run, space.folder / "outputs", **settings))
    listening = bound("127.0.0.1", 0)
    server = Server(uvicorn.Config(build(service), log_level="error", lifespan="on"), service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not service.ready:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _asked(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    return connection.getresponse().status


def overhead(space: Workspace) -> Measured:
    """Median milliseconds of a request for ten items by a history of 50, less those of the predictor alone.

    The best of several stretches: other jobs of the machine can only add to it.
    """
    predictor = trained(space, "sequences", "model=transformer/sasrec")
    history = predictor.items["item_id"].tolist()[:50]
    body = json.dumps({"history": history, "k": 10})
    stretches = []
    with served(space, "latest") as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)

        def over_http() -> None:
            connection.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            answered = connection.getresponse()
            assert answered.status == 200, answered.read()
            answered.read()

        over_http()
        for _ in range(space.of(9, 5, 1)):
            ours, alone = in_turns(
                space.of(60, 30, 1), over_http, lambda: predictor.recommend(histories=[history], k=10),
                clock=time.perf_counter,
            )  # fmt: skip
            stretches.append(1000 * (ours - alone))
    return Measured(min(stretches), synthetic=space.source("sequences").synthetic)


def together(space: Workspace) -> Measured:
    """CPU milliseconds an answer of EASE with 64 clients at once; beside it where it takes one user at a time."""
    return _together(space, "ratings", "model=linear/ease", wall=False)


def together_wall(space: Workspace) -> Measured:
    """The same by the clock: other jobs of the machine, and the clients themselves, can only add to both."""
    return _together(space, "ratings", "model=linear/ease", wall=True)


def together_sequences(space: Workspace) -> Measured:
    """CPU milliseconds an answer of SASRec, which costs less alone, so that answering together gains less."""
    return _together(space, "sequences", "model=transformer/sasrec", wall=False)


def _together(space: Workspace, source: str, model: str, wall: bool) -> Measured:
    """Two services of one run in turns, which differ in nothing but the rows that the model is given at once."""
    predictor = trained(space, source, model)
    body = json.dumps({"user": predictor.users[:8].tolist()[-1], "k": 10}).encode()
    found: list[list[float]] = [[], []]
    rounds = space.of(10, 5, 1)
    with served(space, "latest") as service, served(space, "latest", batch_rows=1) as other:
        for place in (service, other):
            asyncio.run(_load(place.port, body, 1))
        for _ in range(space.runs):
            for place, spent in zip((service, other), found, strict=True):
                clock = time.perf_counter if wall else place.cpu_seconds
                start = clock()
                asyncio.run(_load(place.port, body, rounds))
                spent.append(1000 * (clock() - start) / (CLIENTS * rounds))
    return Measured(*map(statistics.median, found), synthetic=space.source(source).synthetic)


async def _load(port: int, body: bytes, rounds: int) -> None:
    """CLIENTS clients, each on a connection of its own, ask `rounds` times."""
    head = "POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(rounds):
            writer.write(head.encode() + b"\r\n\r\n" + body)
            status = await reader.readline()
            assert b" 200 " in status, status
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            await reader.readexactly(length)
        writer.close()

    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS)]
    await asyncio.gather(*(client(*pair) for pair in pairs))


def titles(space: Workspace) -> Measured:
    """Median CPU milliseconds until an unknown title is refused with suggestions, among 39,000."""
    import numpy as np

    from marquee.inference.names import ItemNames

    random = np.random.default_rng(0)
    letters = np.array(list("eeeeetttaaoooiinnsshhrrddllcumwfgypbvk"))
    words = ["".join(random.choice(letters, random.integers(2, 9))) for _ in range(space.of(8000, 8000, 200))]
    chosen = random.zipf(1.3, (space.of(39_000, 39_000, 300), 4)) % len(words)
    known = [f"{' '.join(words[place] for place in row)} ({1930 + n % 90})".title() for n, row in enumerate(chosen)]
    names = ItemNames(np.arange(len(known)), known)
    names.refuse("to build the index")
    spent = []
    for title in known[:: max(len(known) // space.of(200, 50, 2), 1)]:
        wrong = title[1:-3] + "zz)"
        start = cpu_seconds()
        names.refuse(wrong)
        spent.append(1000 * (cpu_seconds() - start))
    return Measured(statistics.median(spent), synthetic=True)


BENCHMARKS = [
    Benchmark("serve_overhead", "ours", 2.5, "ms", "", overhead),
    Benchmark("serve_64_clients", "ratio", 0.2, "CPU ms/answer", "EASE one at a time", together),
    Benchmark("serve_64_clients_wall", "ratio", 0.2, "ms/answer", "EASE one at a time", together_wall),
    Benchmark("serve_64_clients_sasrec", "ratio", 0.2, "CPU ms/answer", "SASRec one at a time", together_sequences),
    Benchmark("unknown_title_39000", "ours", 5, "CPU ms", "", titles),
]
