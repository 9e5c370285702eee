"""The control socket as a server."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.control import server
from chatmail.adapters.control.binding import SOCKET_NAME, control_socket
from chatmail.adapters.control.client import (
    BrokenAnswer,
    CallRefused,
    NotAllowed,
    NotRunning,
    call_server,
)
from chatmail.adapters.control.server import MAX_CONNECTIONS, MAX_LINE_OCTETS, serve_control
from chatmail.adapters.control.services import ControlServices
from tests.unit.adapters.control.world import StillTasks, make_services
from tests.unit.ports.world import ListLog

PING = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n'
PONG = b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'


@asynccontextmanager
async def serving(
    directory: Path, services: ControlServices | None = None, log: ListLog | None = None
) -> AsyncIterator[None]:
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            serve_control, directory, services or make_services(), log or ListLog(), started
        )
        await started.wait()
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[trio.SocketStream]:
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.connect(str(directory / SOCKET_NAME))
    async with trio.SocketStream(sock) as stream:
        yield stream


async def line(stream: trio.SocketStream) -> bytes:
    octets = b""
    with trio.fail_after(60):
        while not octets.endswith(b"\n"):
            try:
                more = await stream.receive_some()
            except trio.BrokenResourceError:  # closed while something of ours was unread
                break
            if not more:
                break
            octets += more
    return octets


async def test_lines_are_answered_in_order_however_they_are_cut(tmp_path: Path) -> None:
    async with serving(tmp_path), connected(tmp_path) as stream:
        for cut in (PING[:10], PING[10:] + PING + b"\n\r\n" + PING[:1], PING[1:]):
            await stream.send_all(cut)
        octets = b""
        while len(octets) < 3 * len(PONG):
            octets += await line(stream)
        assert octets == 3 * PONG


async def test_a_line_without_end_is_refused_and_closed(tmp_path: Path) -> None:
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(b"x" * (MAX_LINE_OCTETS + 1))
        assert json.loads(await line(stream))["error"]["code"] == -32013
        assert await line(stream) == b""


async def test_the_longest_line_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(PING[:-1].ljust(MAX_LINE_OCTETS) + b"\n")
        assert await line(stream) == PONG


async def test_another_user_hears_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_user", lambda _: 12345)
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(PING)
        assert json.loads(await line(stream))["error"]["code"] == -32001
        assert await line(stream) == b""


async def test_root_and_the_servers_user_are_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(server, "_user", lambda _: 0)
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(PING)
        assert await line(stream) == PONG
    monkeypatch.setattr(server, "_user", lambda _: 12345)
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(PING)
        assert await line(stream) == PONG


async def test_a_silent_peer_is_closed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path), connected(tmp_path) as stream:
        await stream.send_all(PING[:5])
        began = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(server.PATIENCE_S)


class StuckTasks(StillTasks):
    """Tasks without end."""

    async def run(self, name: str, *, is_dry_run: bool, retention_s: int | None) -> Any:
        await trio.sleep_forever()


async def test_a_call_without_end_is_given_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    services = attrs.evolve(make_services(), tasks=StuckTasks())
    async with serving(tmp_path, services), connected(tmp_path) as stream:
        request = b'{"jsonrpc":"2.0","id":1,"method":"task.runAll"}\n'
        await stream.send_all(request)
        octets = b""
        while not octets.endswith(b"\n"):
            octets += await stream.receive_some()
        assert json.loads(octets)["error"]["code"] == -32054
        await stream.send_all(PING)
        assert await stream.receive_some() == PONG


async def test_more_connections_wait_for_their_turn(tmp_path: Path) -> None:
    async with serving(tmp_path), trio.open_nursery() as nursery:
        held = []
        for _ in range(MAX_CONNECTIONS):
            sock = trio.socket.socket(socket.AF_UNIX)
            await sock.connect(str(tmp_path / SOCKET_NAME))
            held.append(trio.SocketStream(sock))
        async with connected(tmp_path) as late:
            await late.send_all(PING)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await held.pop().aclose()
            assert await line(late) == PONG
        for stream in held:
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_a_peer_that_leaves_disturbs_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path):
        for octets in (b"", PING[:3], PING * 3):
            async with connected(tmp_path) as stream:
                await stream.send_all(octets or b"\n")
        async with connected(tmp_path) as stream:
            await stream.send_all(PING)
            assert await line(stream) == PONG


async def test_trouble_with_the_place_is_told_once_and_heals(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = ListLog()
    with control_socket(tmp_path):
        rival = serving(tmp_path, log=log)
        await rival.__aenter__()
        await trio.sleep(100)
        assert log.events == ["control_unavailable"]
    await trio.sleep(40)
    async with connected(tmp_path) as stream:
        await stream.send_all(PING)
        assert await stream.receive_some() == PONG
    await rival.__aexit__(None, None, None)


# --- the client -----------------------------------------------------------------------------------


async def called(directory: Path, method: str, **params: object) -> Any:
    return await trio.to_thread.run_sync(call_server, directory, method, params, 5.0)


async def test_the_client_returns_results_and_tells_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await called(tmp_path, "rpc.ping") == "pong"
        with pytest.raises(CallRefused) as told:
            await called(tmp_path, "setting.set", name="language", value="de")
        assert told.value.code == -32602
        assert told.value.reasons == ("language: is none of en, fa, es, ru, auto",)


def test_nobody_there_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        call_server(tmp_path, "rpc.ping", {}, 1.0)
    with pytest.raises(NotRunning):
        call_server(tmp_path / "nowhere", "rpc.ping", {}, 1.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotRunning):
        call_server(tmp_path / "file", "rpc.ping", {}, 1.0)


def test_a_closed_door_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("chatmail.adapters.control.client.connect", closed)
    with pytest.raises(NotAllowed):
        call_server(tmp_path, "rpc.ping", {}, 1.0)


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\n", b"[]\n", b"{}\n", b'{"error":{}}\n', b'{"error":7}\n']
)
async def test_an_answer_without_sense_is_told(tmp_path: Path, answer: bytes) -> None:
    with control_socket(tmp_path) as sock:
        listener = trio.socket.from_stdlib_socket(sock)

        async def answering() -> None:
            peer, _ = await listener.accept()
            async with trio.SocketStream(peer) as stream:
                await stream.receive_some()
                if answer:
                    await stream.send_all(answer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answering)
            with pytest.raises(BrokenAnswer):
                await called(tmp_path, "rpc.ping")
