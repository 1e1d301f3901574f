"""A service in this process, asked as over HTTP, but without a port."""

import asyncio
import json
from pathlib import Path

import httpx

from marquee.serving.app import build
from marquee.serving.service import Service
from marquee.serving.settings import Settings


class Client:
    """Asks a service; `many` asks all at once, so that they come together to the model."""

    def __init__(self, run, warm=True, runs=Path("no-runs"), **settings):
        self.service = Service(Settings(str(run), runs, **{"token": "secret", **settings}))
        if warm:
            self.service.warm()
        self._loop = asyncio.new_event_loop()
        self.app = build(self.service)
        transport = httpx.ASGITransport(self.app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://test",
                                       headers={"authorization": "Bearer secret"}, timeout=60)  # fmt: skip

    def post(self, path, body=None, **how):
        return self._run(self.asks(path, body, **how))

    def get(self, path, **how):
        return self._run(self._http.get(path, **how))

    def many(self, requests):
        """The answers to (path, body) pairs that are asked at once."""

        async def all_of_them():
            return await asyncio.gather(*(self.asks(path, body) for path, body in requests))

        return self._run(all_of_them())

    def asks(self, path, body=None, **how):
        if isinstance(body, (bytes, str)):
            return self._http.post(path, content=body, **{"headers": {"content-type": "application/json"}, **how})
        return self._http.post(path, json=body, **how)

    def batches(self):
        """How many batches the model was given, and their rows together."""
        samples = {s.name: s.value for metric in self.service.metrics.rows.collect() for s in metric.samples}
        return int(samples["marquee_batch_rows_count"]), int(samples["marquee_batch_rows_sum"])

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def close(self):
        self._run(self._http.aclose())
        self.service.stop()
        self._loop.close()


def refused(answer, status, code, *parts):
    """The answer is an error of the one shape that says all of `parts`."""
    assert answer.status_code == status, answer.text
    error = json.loads(answer.content)["error"]
    assert error["code"] == code, error
    for part in parts:
        assert part in error["message"], f"{part!r} is not in:\n{error['message']}"
    return error
