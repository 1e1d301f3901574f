"""The service on a local Ray cluster of two replicas: the same answers, by two processes, and none is left."""

import importlib.util
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

import pytest

import marquee as package

from ..forked import spawned
from .commands import environment

HERE = all(importlib.util.find_spec(name) for name in ("ray", "grpc_reflection"))


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="pip install 'marquee[serve-ray]'")
def test_two_replicas_answer_as_the_predictor_does_and_end_with_the_command(trained, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**environment(tmp_path, tmp_path), "RAY_memory_monitor_refresh_ms": "0"}
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "marquee", "serve", str(trained["ease"]), "--engine", "ray", "--replicas", "2"]
    process = spawned([*command, "--port", str(port)], env)

    def ask(path, body=None):
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", content, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answered:
                return answered.status, json.loads(answered.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    processes = set()
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        try:
            processes.add(ask("/v1/run")[1]["process"])
            if len(processes) == 2:
                break
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.1)
    assert len(processes) == 2
    predictor = package.load(trained["ease"])
    for user in range(1, 21):
        status, told = ask("/v1/recommend", {"user": user, "k": 5})
        assert status == 200
        alone = predictor.recommend(users=[user], k=5)["item_id"].tolist()
        assert [item["item_id"] for item in told["answers"][0]["items"]] == alone
    assert ask("/v1/recommend", {"user": "nobody"})[0] == 404
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped" in told, told
    for replica in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(replica, 0)
