"""Listeners: handshakes that fail, connections too many, descriptors that run out."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.listeners import FaceListener, TlsMode, _SpareFile
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper
from tests.unit.adapters.net.listening import TOO_MANY, exchange
from tests.unit.adapters.net.rig import (
    client_context,
    face,
    imaps,
    read_to_end,
    served,
    smtp,
    tls_client,
    tracked,
)


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


def test_a_listener_can_open_while_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "none left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", none_left)
        spare = _SpareFile()
    spare.regain()
    spare.release()
