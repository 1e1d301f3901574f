"""Connections that send the head of a request for ever, or a head without end: they are closed."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from marquee.serving.refusals import Refusal

HEAD = 65_536  # bytes of a request's line and headers, at most
SLOW = Refusal(408, "slow", "The request did not arrive in time.")
LONG = Refusal(431, "too_large", f"The headers are larger than {HEAD:,} bytes, which is all that is taken.")


def careful(timeout: float, base: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, which gives up a head that has not come after `timeout` seconds, or is longer than HEAD.

    base  of Uvicorn's: by httptools where that is installed, else by h11
    """

    class Careful(base):
        """Watches what has come before a request is known."""

        _head = True  # whether it is not complete; told by httptools, and asked of h11
        _begun = 0  # bytes of it that have come
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._wait()

        def on_message_begin(self) -> None:
            self._head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head = False
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not (self._head if not hasattr(self, "conn") else str(self.conn.their_state) == "IDLE"):
                self._begun = 0
                self._complete()
                return
            self._begun += len(data)
            if self._begun > HEAD:
                self._close(LONG)
            elif self._late is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._complete()
            super().connection_lost(exc)

        def _unsupported_upgrade_warning(self) -> None:
            """Nothing here is a WebSocket, so that none of its libraries is missing."""

        def _wait(self) -> None:
            self._late = asyncio.get_running_loop().call_later(timeout, self._close, SLOW)

        def _complete(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _close(self, why: Refusal) -> None:
            self._complete()
            if self.transport.is_closing():
                return
            body = json.dumps(why.body)
            self.transport.write(
                f"HTTP/1.1 {why.status} {why.code}\r\ncontent-type: application/json\r\nconnection: close\r\n"
                f"content-length: {len(body)}\r\n\r\n{body}".encode()
            )
            self.transport.close()

    return Careful
