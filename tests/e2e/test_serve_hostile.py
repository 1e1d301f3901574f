"""Who asks a service in order to hurt it: by another name, with bytes that never end, with images that take long."""

import asyncio
import base64
import io
import json
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from PIL import Image
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol

from marquee.serving.app import build
from marquee.serving.connections import HEAD, careful
from marquee.serving.server import bound
from marquee.serving.service import Service
from marquee.serving.settings import Settings

from .serving import Client, refused

RECOMMEND = "/v1/recommend"


@pytest.fixture(scope="module")
def film(trained):
    client = Client(trained["ease"], token=None)
    yield client
    client.close()


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
def test_without_a_token_this_machine_is_asked_by_its_own_names(film, host):
    assert film.get("/v1/run", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8000", "evil.example#localhost", "", "0.0.0.0"]
)
def test_a_foreign_name_that_leads_here_is_not_answered(film, host):
    """DNS rebinding: the page of evil.example would read the answers as its own."""
    for path in ("/", "/v1/run", "/live", "/openapi.json", "/nowhere"):
        error = refused(film.get(path, headers={"host": host}), 421, "host", "localhost", "token")
        assert "Toy" not in error["message"]
    refused(film.post(RECOMMEND, {"user": 1}, headers={"host": host}), 421, "host")


def test_with_a_token_any_name_may_lead_here(trained):
    client = Client(trained["ease"])
    try:
        assert client.get("/v1/run", headers={"host": "films.example"}).status_code == 200
    finally:
        client.close()


def test_a_long_unknown_name_is_not_repeated_in_full(film):
    local = {"headers": {"host": "localhost", "content-type": "application/json"}}
    for body in ({"user": "x" * 100_000}, {"history": ["x" * 100_000]}):
        answered = film.post(RECOMMEND, json.dumps(body), **local)
        assert answered.status_code == 404 and len(answered.content) < 1500


# Bytes ---------------------------------------------------------------------------------------------------------------


def test_bodies_that_come_slowly_count_while_they_come(film):
    """Seventeen half bodies of the largest size, none of them complete: the last are refused, and nothing is kept."""
    most = film.service.settings.max_body
    statuses = []

    async def slow(number):
        parts = [{"type": "http.request", "body": b"x" * (most - 1), "more_body": True}]

        async def receive():
            if parts:
                return parts.pop()
            while len(statuses) < 1:
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": RECOMMEND, "query_string": b"", "root_path": "",
                 "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")]}  # fmt: skip
        await film.app(scope, receive, send)

    async def all_of_them():
        await asyncio.gather(*(slow(number) for number in range(17)))

    film._run(all_of_them())
    assert statuses[0] == 429 and statuses.count(429) == 1 and film.service.body == film.service.working == 0


@pytest.fixture(scope="module", params=[AutoHTTPProtocol, H11Protocol], ids=["auto", "h11"])
def port(request, trained):
    """Of a service that gives up the head of a request after half a second."""
    service = Service(Settings(str(trained["ease"]), trained["ease"].parent))
    listening = bound("127.0.0.1", 0)
    config = uvicorn.Config(
        build(service), http=careful(0.5, request.param), ws="none", log_level="error", lifespan="on",
        h11_max_incomplete_event_size=HEAD,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        for _ in range(500):
            if service.ready:
                break
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def told(connection):
    """All that comes until the connection is closed."""
    connection.settimeout(10)
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("begin", [b"", b"GET /live HTTP/1.1\r\nHost: loc"])
def test_a_head_that_never_arrives_is_given_up(port, begin):
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(begin)
        assert told(slow).startswith(b"HTTP/1.1 408")


def test_also_the_second_head_of_a_connection(port):
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /live HT")
        assert b"HTTP/1.1 408" in told(slow)


def test_a_head_without_end_is_given_up(port):
    with socket.create_connection(("127.0.0.1", port)) as endless:
        sent = 0
        try:
            endless.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n")
            for _ in range(1000):
                endless.sendall(b"X-A: " + b"a" * 10_000 + b"\r\n")
                sent += 10_000
        except OSError:  # closed at the other end
            pass
        assert sent < 9_000_000


def test_a_body_that_takes_longer_than_a_head_may_is_no_slow_head(port):
    body = json.dumps({"user": 1}).encode()
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body))  # fmt: skip
        time.sleep(0.8)
        slow.sendall(body)
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")
    large = httpx.post(f"http://127.0.0.1:{port}{RECOMMEND}", content=b"x" * 9_000_000)
    assert large.status_code == 413  # and not 431, of the body that came afterwards


# Images --------------------------------------------------------------------------------------------------------------


def saved(image, kind, **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def test_images_that_take_for_ever_are_refused_before_they_are_decoded(trained):
    """Each scan of a JPEG goes through all pixels, and takes some forty bytes of the file."""
    client = Client(trained["cnn"], max_pixels=64 * 64)
    try:
        file = saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
        last = file[file.rindex(b"\xff\xda") : -2]
        kind = {"headers": {"content-type": "image/jpeg"}}
        assert client.post("/v1/predict", file[:-2] + 50 * last + file[-2:], **kind).status_code == 200
        refused(client.post("/v1/predict", file[:-2] + 200 * last + file[-2:], **kind), 413, "too_large", "100 scans")
        one = base64.b64encode(saved(Image.new("RGB", (64, 64)), "PNG")).decode()
        assert client.post("/v1/predict", {"images": [one] * 4}).status_code == 200
        refused(client.post("/v1/predict", {"images": [one] * 5}), 413, "too_large", "20,480 pixels", "16,384")
    finally:
        client.close()
