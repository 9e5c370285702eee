"""Handlers and clients of the listeners under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio

from chatmail.adapters.net.streams import Stream

Handler = Callable[[Stream], Awaitable[None]]

TOO_MANY = b"421 4.7.0 Too many connections\r\n"


def naming(name: bytes) -> Handler:
    async def say(stream: Stream) -> None:
        await stream.send_all(name + b" " + (stream.alpn or "-").encode())

    return say


async def exchange(client: trio.abc.Stream, text: bytes = b"ping") -> bytes:
    await client.send_all(text)
    return bytes(await cast(Any, client).receive_some(65536))
