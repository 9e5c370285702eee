"""What whoever started the server hears of it: the ready line, and systemd's notifications."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn, TextIO

import trio

USEC: Final = 1_000_000


def ready_line(addresses: Iterable[tuple[str, str, int]]) -> str:
    """Return the line that tells that every listener is bound.

    Args:  addresses: face, host, port, in the order to be shown.
    Source:  spec contract 1.
    """
    shown = (f" {face}={_host(host)}:{port}" for face, host, port in addresses)
    return "chatmail ready" + "".join(shown)


def announce(out: TextIO, line: str) -> None:
    """Write one line and flush it."""
    out.write(line + "\n")
    out.flush()


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class ServiceManager:
    """Speaks sd_notify(3) to the socket of `NOTIFY_SOCKET`; silent without one, and never fails."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        """Args:  environ: the process environment. pid: ours, for WATCHDOG_PID."""
        self._address = _socket_address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environ, pid)

    @property
    def is_present(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """Tell that the start, or a reload, is done."""
        self._tell("READY=1", *_status(status))

    def reloading(self) -> None:
        """Tell that a reload begins; `ready` ends it."""
        # Type=notify-reload wants the time, to tell this reload from an earlier one.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the server stops."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the text that `systemctl status` shows."""
        self._tell(*_status(text))

    def watchdog(self) -> None:
        """Tell that the server is alive."""
        self._tell("WATCHDOG=1")

    async def keep_alive(self) -> NoReturn:
        """Ping the watchdog twice per interval from the event loop; sleeps if there is none.

        The loop itself is what is watched: when it hangs, nothing is sent and systemd restarts us.
        """
        if self._watchdog_s is None:
            await trio.sleep_forever()
        while True:
            self.watchdog()
            await trio.sleep(self._watchdog_s / 2)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        # A manager that went away or lags is no reason to stop or to wait.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._address)


def _socket_address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]  # the abstract namespace
    return name if name.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or not int(microseconds):
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / USEC


def _status(text: str) -> tuple[str, ...]:
    return ("STATUS=" + " ".join(text.split()),) if text else ()
