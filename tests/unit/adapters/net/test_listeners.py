from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from trio.testing import MockClock

from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.net.listeners import FaceListener, TlsMode, _SpareFile
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose
from chatmail.adapters.system.redaction import Public
from tests.patience import PATIENCE_S
from tests.unit.adapters.net.rig import (
    TlsClient,
    client_context,
    echo,
    face,
    imaps,
    read_to_end,
    served,
    smtp,
    tls_client,
    tracked,
)

Handler = Callable[[Stream], Awaitable[None]]

TOO_MANY = b"421 4.7.0 Too many connections\r\n"


def naming(name: bytes) -> Handler:
    async def say(stream: Stream) -> None:
        await stream.send_all(name + b" " + (stream.alpn or "-").encode())

    return say


async def exchange(client: trio.abc.Stream, text: bytes = b"ping") -> bytes:
    await client.send_all(text)
    return bytes(await cast(Any, client).receive_some(65536))


async def test_the_ready_addresses_are_reported_and_connections_served(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        assert listening.host == "127.0.0.1"
        assert listening.port > 0
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await exchange(client) == b"ping"
        assert listener.face.crowd.present == 1
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert listener.face.crowd.present == 0
    counters = listener.counters
    assert (counters.accepted, counters.octets_in, counters.octets_out) == (1, 4, 4)


async def test_the_handler_learns_who_the_peer_is(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    seen: list[tuple[str, int, bool]] = []

    async def look(stream: Stream) -> None:
        seen.append((stream.peer_host, stream.peer_port, stream.is_tls))

    for address in ("127.0.0.1:0", "[::1]:0"):
        async with served(imaps(face(look)), keeper, address) as listening:
            client = await listening.connect()
            port = client.socket.getsockname()[1]
            context = client_context(keeper.pair)
            context.check_hostname = False
            tls = tls_client(client, context, name=None)
            assert await read_to_end(tls) == b""
            assert seen.pop() == (listening.host, port, True)


async def test_plain_and_starttls_listeners_start_in_cleartext(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async def upgrade(stream: Stream) -> None:
        assert not stream.is_tls
        await stream.send_all(b"220 ready\r\n")
        assert await stream.receive_some() == b"STARTTLS\r\n"
        await stream.send_all(b"220 go\r\n")
        await stream.start_tls()
        await echo(stream)

    async with served(smtp(face(upgrade)), keeper) as listening:
        client = await listening.connect()
        assert await client.receive_some() == b"220 ready\r\n"
        assert await exchange(client, b"STARTTLS\r\n") == b"220 go\r\n"
        tls = tls_client(client, client_context(keeper.pair))
        # RFC 3207: no second 220; the client speaks first.
        assert await exchange(tls, b"EHLO x\r\n") == b"EHLO x\r\n"


async def test_ending_the_accept_keeps_connections(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async with served(imaps(), keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await exchange(client) == b"ping"
        listening.accepting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="refused"):
            await listening.connect()
        assert await exchange(client) == b"ping"


async def test_closing_is_clean_after_the_handler_returns(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async def say(stream: Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nwithout length")

    async with served(imaps(face(say)), keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await read_to_end(client) == b"HTTP/1.1 200 OK\r\n\r\nwithout length"


# Guard.


def failing(error: BaseException) -> Handler:
    async def fail(stream: Stream) -> None:
        raise error

    return fail


SECRET = "user@relay.test"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(SECRET), "ValueError"),
        (ExceptionGroup("g", [KeyError(SECRET), ValueError(SECRET)]), "KeyError"),
        (ExceptionGroup("g", [PeerGone(), ZeroDivisionError(SECRET)]), "ZeroDivisionError"),
    ],
)
async def test_a_failing_handler_costs_its_own_connection_only(
    keeper: TlsKeeper, autojump_clock: MockClock, error: Exception, kind: str
) -> None:
    listener = smtp(face(echo))
    broken = FaceListener(name="smtp", tls=TlsMode.NONE, face=face(failing(error)))
    async with served(listener, keeper) as good, served(broken, keeper) as bad:
        steady = await good.connect()
        client = await bad.connect()
        assert await read_to_end(client) == b""
        await client.aclose()
        assert await exchange(steady) == b"ping"
        assert broken.counters.failed == 1
        assert broken.face.crowd.present == 0
        [(event, fields)] = bad.log.events
    assert event == "connection_failed"
    assert fields["error"] == Public(kind)
    assert SECRET not in str(fields)
    assert "127.0.0.1" not in str(fields)


async def test_the_place_of_a_failure_is_logged(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    broken = FaceListener(name="http", tls=TlsMode.NONE, face=face(failing(ValueError("x"))))
    async with served(broken, keeper) as listening:
        await read_to_end(await listening.connect())
        place = listening.log.events[0][1]["place"]
        assert isinstance(place, Public)
        assert place.text.endswith(" fail")
        assert place.text.startswith("test_listeners.py:")


@pytest.mark.parametrize(
    "error", [PeerGone(), trio.BrokenResourceError(), ExceptionGroup("g", [PeerGone()])]
)
async def test_a_peer_that_left_is_no_failure(
    keeper: TlsKeeper, autojump_clock: MockClock, error: Exception
) -> None:
    listener = FaceListener(name="imap", tls=TlsMode.NONE, face=face(failing(error)))
    async with served(listener, keeper) as listening:
        await read_to_end(await listening.connect())
        assert not listening.log.events
        assert listener.counters.failed == 0


async def test_what_is_no_exception_is_not_swallowed(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = FaceListener(name="imap", tls=TlsMode.NONE, face=face(failing(SystemExit(3))))

    async def serve() -> None:
        async with served(listener, keeper) as listening:
            await listening.connect()
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.value.split(SystemExit)[0] is not None


async def test_cancelled_connections_leave_their_crowd(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        client = tls_client(await listening.connect(), client_context(keeper.pair))
        await exchange(client)
    assert listener.face.crowd.present == 0
    assert await read_to_end(client) == b""  # with close_notify


# Handshakes.


async def test_failed_handshakes_are_counted_and_quiet(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        for octets in (b"EHLO x\r\n", b"GET / HTTP/1.1\r\n\r\n", b""):
            client = await listening.connect()
            await client.send_all(octets)
            await client.send_eof()
        await trio.sleep(20)
        assert listener.counters.handshakes_failed == 3
        assert not listening.log.events
        assert listener.face.crowd.present == 0


async def test_a_flood_of_half_handshakes_leaves_others_served(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = imaps()
    async with served(listener, keeper) as listening:
        began = trio.current_time()
        for _ in range(100):
            client = await listening.connect()
            await client.send_all(b"\x16\x03\x01\x02\x00\x01")
        tls = tls_client(await listening.connect(), client_context(keeper.pair))
        assert await exchange(tls) == b"ping"
        assert trio.current_time() - began < 3
        await trio.sleep(15)
        assert listener.counters.handshakes_failed == 100
        assert listener.face.crowd.present == 1


# Limits.


async def test_the_one_too_many_is_told_in_cleartext(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = smtp(face(total=1, refusal=TOO_MANY))
    async with served(listener, keeper) as listening:
        first = await listening.connect()
        assert await exchange(first) == b"ping"
        for _ in range(3):
            assert await read_to_end(await listening.connect()) == TOO_MANY
        assert await exchange(first) == b"ping"
        assert listener.counters.turned_away == 3
        assert listening.log.names() == ["connections_refused"]  # one line, not three
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await exchange(await listening.connect()) == b"ping"


async def test_the_one_too_many_gets_no_handshake(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async with served(imaps(face(total=0, refusal=TOO_MANY)), keeper) as listening:
        assert await read_to_end(await listening.connect()) == b""


async def test_a_limit_per_source_does_not_hold_for_loopback(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async with served(smtp(face(per_source=1)), keeper) as listening:
        for _ in range(3):
            assert await exchange(await listening.connect()) == b"ping"


async def test_who_may_not_come_is_turned_away(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    seen: list[str] = []

    def nobody(host: str) -> bool:
        seen.append(host)
        return False

    listener = FaceListener(name="imaps", tls=TlsMode.PROXIED, face=face(), admits=nobody)
    async with served(listener, keeper) as listening:
        assert await read_to_end(await listening.connect()) == b""
    assert seen == ["127.0.0.1"]


async def test_behind_a_proxy_cleartext_counts_as_tls(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    async def say(stream: Stream) -> None:
        await stream.send_all(b"tls" if stream.is_tls else b"plain")

    listener = FaceListener(name="imaps", tls=TlsMode.PROXIED, face=face(say))
    async with served(listener, keeper) as listening:
        assert await read_to_end(await listening.connect()) == b"tls"


async def test_without_file_descriptors_connections_are_shed_and_later_served(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    listener = smtp()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with served(listener, keeper) as listening:
        clients = [socket.socket() for _ in range(3)]
        for client in clients:
            tracked(client)
        fillers: list[int] = []
        try:
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard)
            )
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            for client in clients:
                client.connect((listening.host, listening.port))
            await trio.sleep(1)
            for client in clients:
                client.settimeout(1)
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(10) == b""
        finally:
            for fd in fillers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert listener.counters.out_of_files == 3
        assert listening.log.names() == ["out_of_file_descriptors"]
        assert await exchange(await listening.connect()) == b"ping"


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


def test_a_listener_can_open_while_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "none left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", none_left)
        spare = _SpareFile()
    spare.regain()
    spare.release()
