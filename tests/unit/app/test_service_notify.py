from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from chatmail.app.service_notify import ServiceManager, announce, ready_line

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@chatmail-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.setblocking(False)
        yield name, sock


def received(sock: socket.socket) -> list[str]:
    datagrams = []
    while True:
        try:
            datagrams.append(sock.recv(4096).decode())
        except BlockingIOError:
            return datagrams


def test_the_ready_line_names_every_address() -> None:
    line = ready_line([("smtp", "127.0.0.1", 2525), ("imaps", "::1", 2993)])
    assert line == "chatmail ready smtp=127.0.0.1:2525 imaps=[::1]:2993"
    assert ready_line([]) == "chatmail ready"


def test_a_line_is_flushed() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw)
    announce(out, "chatmail ready")
    assert raw.getvalue() == b"chatmail ready\n"


def test_states_are_told(listening: tuple[str, socket.socket]) -> None:
    name, sock = listening
    manager = ServiceManager({"NOTIFY_SOCKET": name}, PID)
    assert manager.is_present
    manager.ready("serving\n relay.test")
    manager.reloading()
    manager.ready()
    manager.watchdog()
    manager.status("busy")
    manager.stopping()
    ready, reloading, *rest = received(sock)
    assert ready == "READY=1\nSTATUS=serving relay.test"
    state, _, monotonic = reloading.partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert int(monotonic) > 0
    assert rest == ["READY=1", "WATCHDOG=1", "STATUS=busy", "STOPPING=1"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    manager = ServiceManager(environ, PID)
    assert not manager.is_present
    manager.ready()
    manager.stopping()


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID).ready("x")


async def test_the_watchdog_is_fed_twice_per_interval(
    listening: tuple[str, socket.socket], autojump_clock: MockClock
) -> None:
    name, sock = listening
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PID)}
    with trio.move_on_after(100):
        await ServiceManager(environ, PID).keep_alive()
    assert received(sock) == ["WATCHDOG=1"] * 4  # at 0, 30, 60, 90 s


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
)
async def test_no_watchdog_is_fed_that_does_not_watch_us(
    listening: tuple[str, socket.socket], autojump_clock: MockClock, extra: dict[str, str]
) -> None:
    name, sock = listening
    with trio.move_on_after(100):
        await ServiceManager({"NOTIFY_SOCKET": name, **extra}, PID).keep_alive()
    assert received(sock) == []
