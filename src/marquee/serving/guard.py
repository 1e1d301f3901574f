"""What every request passes first: the token, limits of its body, readiness; and what every answer carries."""

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from marquee.serving.refusals import Refusal, refusal_of
from marquee.serving.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/", "/page.css", "/page.js", "/docs", "/docs.js", "/openapi.json", "/icon.svg", "/live", "/ready")
UNREADY = ("/v1/run", "/v1/reload")  # answered also where the golden requests do not come out
BODIES = 16  # bodies of the largest size that are held at once
HEADERS = [
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                                 b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]  # fmt: skip

log = logging.getLogger("marquee")


class Guard:
    """Around the application (ASGI): nothing reaches it that is too large, unknown to the token, or too early."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], service: Service, paths: set[str]):
        self.app, self.service, self.paths = app, service, paths
        self.hosts = {"localhost", "127.0.0.1", "[::1]", service.settings.host.lower()} - {"::1"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service, began, state = self.service, time.perf_counter(), {"status": 500, "begun": False}
        path = scope["path"] if scope["path"] in self.paths else "other"
        held = [0]  # bytes of its body

        async def answering(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                state.update(status=message["status"], begun=True)
                headers = [*message.get("headers", []), *HEADERS]
                if not any(name.lower() == b"x-marquee-fingerprint" for name, _ in headers):
                    headers += _encoded(service.served.headers)
                message["headers"] = headers
            await send(message)

        service.working += 1
        try:
            self._refuse(scope, path)
            body = await self._body(scope, receive, held)
            await self.app(scope, _replayed(body, receive), answering)
        except Exception as error:
            refused = refusal_of(error)
            if refused.status == 500:
                log.exception("a request failed: %s %s", scope["method"], path)
            if state["begun"]:
                raise
            await _say(refused, answering)
        finally:
            service.working -= 1
            service.body -= held[0]
            service.metrics.requests.labels(path, str(state["status"])).inc()
            service.metrics.seconds.labels(path).observe(time.perf_counter() - began)

    def _refuse(self, scope: Scope, path: str) -> None:
        """Raise Refusal for who has no token, or asks by another name, and while the run is not ready."""
        token = self.service.settings.token
        # A page elsewhere may have its name lead here (DNS rebinding), and would be taken for this service's own.
        if token is None and (host := _host(scope["headers"])) not in self.hosts:
            told = f"This service is not known as {host[:100]!r}: ask {', '.join(sorted(self.hosts))}, or set a token."
            raise Refusal(421, "host", told)
        if token is not None and path not in OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            kind, _, said = given.partition(b" ")
            # Bytes of one length or another: the time says nothing of how many of them are right.
            if not (hmac.compare_digest(said.strip(), token.encode()) and kind.lower() == b"bearer"):
                raise Refusal(401, "unauthorised", "This service needs its token: Authorization: Bearer TOKEN.")
        if path.startswith("/v1/") and path not in UNREADY:
            self.service.refuse_unready()

    async def _body(self, scope: Scope, receive: Receive, held: list[int]) -> bytes:
        """The whole body. Raises Refusal for a larger one than is taken, as soon as that is known.

        What has come is counted at once, and in `held`: many that come slowly fill the memory, too.
        """
        most = self.service.settings.max_body
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated[:20]) > most:
            raise self._too_large(most)
        content = bytearray()
        waiting = asyncio.current_task()
        assert waiting is not None
        given_up: list[bool] = []

        def give_up() -> None:
            given_up.append(True)
            waiting.cancel()

        # Not asyncio.wait_for, which begins a task for each part.
        late = asyncio.get_running_loop().call_later(self.service.settings.timeout, give_up)
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "gone", "The request was broken off.")
                part = message.get("body", b"")
                content += part
                held[0] += len(part)
                self.service.body += len(part)
                if len(content) > most:
                    raise self._too_large(most)
                if self.service.body > BODIES * most:
                    raise Refusal(429, "busy", "Other requests fill the memory; come back later.", retry=1)
                if not message.get("more_body"):
                    return bytes(content)
        except asyncio.CancelledError:
            if not given_up:
                raise
            getattr(waiting, "uncancel", int)()  # from Python 3.11 on
            raise Refusal(408, "slow", "The request did not arrive in time.") from None
        finally:
            late.cancel()

    @staticmethod
    def _too_large(most: int) -> Refusal:
        return Refusal(413, "too_large", f"The body is larger than {most:,} bytes, which is all that is taken.")


def _host(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The name by which a request asks, without the port: that of `Host`; of several, or none, nothing."""
    found = [value for name, value in headers if name == b"host"]
    return re.sub(r":[0-9]*$", "", found[0].decode("latin-1").strip().lower()) if len(found) == 1 else ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, as if it came now."""
    parts = [body]

    async def next_part() -> MutableMapping[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return next_part


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _say(refused: Refusal, send: Send) -> None:
    content = json.dumps(refused.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += _encoded(refused.headers)
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
