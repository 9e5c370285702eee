"""Listeners: several protocols on one port, and those that are spoken on them."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from trio.testing import MockClock

from chatmail.adapters.net.listeners import FaceListener, TlsMode
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from tests.patience import PATIENCE_S
from tests.unit.adapters.net.listening import TOO_MANY, exchange, naming
from tests.unit.adapters.net.rig import (
    TlsClient,
    client_context,
    face,
    imaps,
    read_to_end,
    served,
    tls_client,
)


# ALPN on 443.
def https(*, mail_total: int = 10) -> FaceListener:
    return FaceListener(
        name="https",
        tls=TlsMode.IMPLICIT,
        purpose=TlsPurpose.HTTPS,
        face=face(naming(b"http")),
        alpn={
            "imap": face(naming(b"imap"), total=mail_total),
            "smtp": face(naming(b"submission"), total=mail_total, refusal=TOO_MANY),
        },
    )


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ((), b"http -"),
        (("imap",), b"imap imap"),
        (("smtp",), b"submission smtp"),
        (("http/1.1",), b"http http/1.1"),
        (("h2",), b"http h2"),
        (("h2", "http/1.1"), b"http h2"),
        (("imap", "smtp"), b"imap imap"),
        (("unknown/1",), b"http -"),
    ],
)
async def test_443_is_served_by_protocol(
    keeper: TlsKeeper, autojump_clock: MockClock, offered: tuple[str, ...], answer: bytes
) -> None:
    listener = https()
    async with served(listener, keeper) as listening:
        context = client_context(keeper.pair, offered)
        client = tls_client(await listening.connect(), context)
        assert await read_to_end(client) == answer
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        crowds = [listener.face.crowd, *(each.crowd for each in listener.alpn.values())]
        assert [crowd.present for crowd in crowds] == [0, 0, 0]


async def test_mail_on_443_counts_with_mail(keeper: TlsKeeper, autojump_clock: MockClock) -> None:
    listener = https(mail_total=0)
    async with served(listener, keeper) as listening:
        for offered, answer in ((["smtp"], TOO_MANY), (["imap"], b""), (["h2"], b"http h2")):
            context = client_context(keeper.pair, offered)
            client = tls_client(await listening.connect(), context)
            assert await read_to_end(client) == answer
            await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert listener.face.crowd.present == 0
        assert listener.counters.turned_away == 2


@pytest.mark.parametrize("offered", [["smtp"], ["http/1.1"]])
async def test_993_refuses_the_protocol_of_another_face(
    keeper: TlsKeeper, autojump_clock: MockClock, offered: list[str]
) -> None:
    listener = imaps(face(naming(b"imap")))
    async with served(listener, keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair, offered))
        assert await read_to_end(client) == b""
        assert listener.counters.handshakes_failed == 1


# Hypercorn's per-connection server is no documented API: what it needs of our streams is tested.
async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    text = f"{scope['scheme']} {scope['http_version']} {len(body)}".encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def serve_http(stream: Stream) -> None:
    config = Config()
    config.keep_alive_timeout = 1.0
    wrapped = ASGIWrapper(app)
    context, state = WorkerContext(None), ConnectionState({})
    await TCPServer(wrapped, config, context, state, cast(Any, stream.transport))


REQUEST = b"POST / HTTP/1.1\r\nhost: relay.test\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000


@pytest.mark.parametrize("is_tls", [False, True])
async def test_hypercorn_serves_on_our_streams(
    keeper: TlsKeeper, autojump_clock: MockClock, is_tls: bool
) -> None:
    listener = FaceListener(
        name="https" if is_tls else "http",
        tls=TlsMode.IMPLICIT if is_tls else TlsMode.NONE,
        purpose=TlsPurpose.HTTPS if is_tls else None,
        face=face(serve_http),
    )
    async with served(listener, keeper) as listening:
        client: trio.SocketStream | TlsClient = await listening.connect()
        if is_tls:
            context = client_context(keeper.pair, ["http/1.1"])
            client = tls_client(cast(trio.SocketStream, client), context)
        for _ in range(2):
            answer = await exchange(client, REQUEST)
            expected = b"%s 1.1 300000" % (b"https" if is_tls else b"http")
            while not answer.endswith(expected):
                answer += await cast(Any, client).receive_some(65536)
            assert answer.startswith(b"HTTP/1.1 200")
        # The idle time ends it, with close_notify.
        assert await read_to_end(client) == b""
        assert not listening.log.events


async def test_a_strict_blocking_client_sees_a_clean_end(keeper: TlsKeeper) -> None:
    async def say(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"bye")

    def talk(host: str, port: int) -> bytes:
        context = client_context(keeper.pair)
        with (
            socket.create_connection((host, port), timeout=PATIENCE_S) as raw,
            context.wrap_socket(
                raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as client,
        ):
            client.sendall(b"hello")
            got = client.recv(100)
            return got + client.recv(100)  # a ragged end would raise SSLEOFError

    async with served(imaps(face(say)), keeper) as listening:
        got = await trio.to_thread.run_sync(talk, listening.host, listening.port)
    assert got == b"bye"
