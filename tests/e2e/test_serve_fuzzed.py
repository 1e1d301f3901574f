"""Requests that nobody would mean, drawn from a seed: none of them is a bug of the service, and none stays in memory.

In the suite some dozens; by hand `MARQUEE_FUZZED=1000 pytest tests/e2e/test_serve_fuzzed.py`.
"""

import base64
import gc
import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .serving import Client

N = int(os.environ.get("MARQUEE_FUZZED", "60"))
PATHS = ["/v1/recommend", "/v1/predict", "/v1/generate", "/v1/reply", "/v1/advise", "/v1/chat", "/v1/reload"]
KEYS = ["user", "users", "history", "histories", "features", "k", "candidates", "exclude", "filter_seen", "explain",
        "texts", "images", "n", "seed", "settings", "format", "to", "position", "messages", "force", ""]  # fmt: skip
ODD = ["", " ", "1", "a" * 3000, "\x00", "\ud800", "\U0010ffff", "é", "北京", "-1", "1e999", "../../etc/passwd",
       "<script>", "%00", "'; drop table", "\u202e", "NaN", "p(pos)", "|", "\n" * 50]  # fmt: skip
NUMBERS = [0, 1, -1, 5, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")]


def value(random, depth=0):
    kind = random.integers(0, 8 if depth < 4 else 5)
    if kind < 2:
        return NUMBERS[random.integers(len(NUMBERS))]
    if kind < 4:
        return ODD[random.integers(len(ODD))]
    if kind == 4:
        return [True, False, None][random.integers(3)]
    if kind == 5:
        return {ODD[random.integers(len(ODD))]: value(random, depth + 1) for _ in range(random.integers(0, 4))}
    return [value(random, depth + 1) for _ in range(random.integers(0, 5))]


def picture(random):
    file = io.BytesIO()
    pixels = random.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    kind = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"][random.integers(6)]
    Image.fromarray(pixels).save(file, kind)
    content = bytearray(file.getvalue())
    how = random.integers(0, 4)
    if how == 0:
        for place in random.integers(0, len(content), 5):
            content[place] = random.integers(256)
    elif how == 1:
        content = content[: random.integers(len(content))]
    elif how == 2 and kind == "PNG":  # a bomb
        head = b"IHDR" + struct.pack(">IIBBBBB", *random.choice([4000, 9000, 70_000], 2).tolist(), 8, 2, 0, 0, 0)
        content[12:33] = head + struct.pack(">I", zlib.crc32(head))
    return bytes(content)


def request(random):
    """(path, body, headers)"""
    path, kind = PATHS[min(random.integers(0, 12), 11) % len(PATHS)], random.integers(0, 10)
    headers = {"content-type": "application/json"}
    if kind == 0:
        return path, random.bytes(random.integers(0, 400)), headers
    if kind == 1:
        return "/v1/predict", picture(random), {"content-type": f"image/{['png', 'x', '*'][random.integers(3)]}"}
    if kind == 2:
        images = [base64.b64encode(picture(random)).decode() for _ in range(random.integers(0, 3))]
        return (
            "/v1/predict",
            json.dumps({"images": [*images, *[value(random)] * random.integers(0, 2)]}).encode(),
            headers,
        )
    if kind == 3:
        big = [b"x" * 10_000_000, b"[" * 100_000, b'{"user":' * 3000, b'{"user": ' + b"9" * 6000 + b"}",
               json.dumps({"history": [1] * 20_000}).encode(),
               json.dumps({"texts": ["a " * 9000] * 20}).encode()]  # fmt: skip
        return path, big[random.integers(len(big))], headers
    if kind == 4:
        text = ODD[random.integers(len(ODD))] if random.integers(3) else value(random)
        return "/v1/predict", json.dumps({"texts": [text], "explain": bool(random.integers(2))}).encode(), headers
    if kind == 5:  # nearly right
        body = {"history": [int(random.integers(1, 500)) for _ in range(random.integers(0, 60))], "k": 3}
        body |= {
            "explain": bool(random.integers(2)),
            "exclude": [ODD[random.integers(len(ODD))]] * random.integers(0, 2),
        }
        return "/v1/recommend", json.dumps(body).encode(), headers
    body = {KEYS[random.integers(len(KEYS))]: value(random) for _ in range(random.integers(0, 4))}
    content = json.dumps(body).encode()
    if kind == 6:  # broken UTF-8
        place = random.integers(0, len(content))
        content = content[:place] + b"\xff\xc0" + content[place:]
    if kind == 7:
        headers = {"content-type": ["text/plain", "", "application/json; charset=utf-16"][random.integers(3)]}
    return path, content, headers


def resident():
    """Bytes that this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("kind", ["ease", "lstm", "cnn"])
def test_no_request_is_a_bug_of_the_service_and_the_memory_does_not_grow(trained, kind):
    client = Client(trained[kind], timeout=20, reload=True)
    random = np.random.default_rng(11)
    try:
        statuses: dict[int, int] = {}
        after_some = None
        for number in range(N):
            path, body, headers = request(random)
            answered = client.post(path, body, headers={**headers, "authorization": "Bearer secret"})
            assert answered.status_code < 500, (path, body[:300], answered.text[:500])
            if answered.status_code >= 400:
                assert set(answered.json()["error"]) <= {"code", "message", "suggestions"}
                assert len(answered.content) < 20_000
            statuses[answered.status_code] = statuses.get(answered.status_code, 0) + 1
            if number == N // 2:
                gc.collect()
                after_some = resident()
        assert set(statuses) >= {200, 400, 409}, statuses  # some of them are no fault at all
        gc.collect()
        assert resident() - after_some < 60e6, "memory grows with what is asked"
        assert client.get("/live").status_code == 200 and client.service.working == client.service.body == 0
    finally:
        client.close()
