"""An ASGI layer that counts requests and refuses paths no handler should ever see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias

import trio

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


CONNECTION: Final = "connection"
"""Key of the connection's `RequestCounter` in the ASGI state."""


class RequestCounter(Protocol):
    """A connection that wants to know whether requests are in flight on it."""

    def request_begins(self) -> None: ...

    def request_ends(self) -> None: ...


class InFlight:
    """Counts requests from their head to the last octet of their answer.

    `is_draining` makes HTTP/1.1 answers close their connection.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._idle: trio.Event | None = None
        self.count = 0
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # No route of this face is a web socket: such a request is as unknown as its path.
            await _refuse(send, "websocket.http.response")
            return
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection: RequestCounter | None = scope.get("state", {}).get(CONNECTION)
        self.count += 1
        if connection:
            connection.request_begins()
        try:
            if not is_clean(scope["path"]):
                await _refuse(send, "http.response")
            else:
                await self._app(scope, receive, self._closing(scope, send))
        finally:
            self.count -= 1
            if connection:
                connection.request_ends()
            if not self.count and self._idle is not None:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no request is in flight."""
        while self.count:
            self._idle = trio.Event()
            await self._idle.wait()

    def _closing(self, scope: Scope, send: Send) -> Send:
        async def send_closing(message: MutableMapping[str, Any]) -> None:
            # HTTP/2 has no such header (RFC 9113 §8.2.2): there the connection ends with a GOAWAY.
            is_head = message["type"] == "http.response.start"
            if is_head and self.is_draining and scope["http_version"] < "2":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        return send_closing


def is_clean(path: str) -> bool:
    """Say whether a decoded path may be routed (spec federation-web D2.2).

    Refused: what does not start at the root, NUL and other controls, backslashes, empty, `.` and
    `..` segments, dotfiles other than `.well-known`.
    """
    if not path.startswith("/") or not path.isprintable() or "\\" in path:
        return False
    head, *rest = path[1:].split("/")
    if not head and rest:
        return False
    if head.startswith(".") and head != ".well-known":
        return False
    return not any(segment.startswith(".") for segment in rest) and "" not in rest[:-1]


async def _refuse(send: Send, kind: str) -> None:
    body = b"Not found\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": f"{kind}.start", "status": 404, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
