"""Listening sockets: addresses parsed and bound, and who holds a port that is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chatmail.adapters.net.errors import BindError

# The accept queue has to hold the burst of reconnects after a restart; the kernel caps it.
BACKLOG: Final = 4096
KEEPALIVE_S: Final = 60
KEEPALIVE_PROBES: Final = 5
USER_TIMEOUT_MS: Final = 300_000
UNSENT_BYTES: Final = 131072

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]*)):(?P<port>\d{1,5})\Z"
)
_TRIES: Final = 20
_ANY_IPV4: Final = "0.0.0.0"  # noqa: S104  what `*` means
_ANY_IPV6: Final = "::"


def bind(address: str) -> list[socket.socket]:
    """Listen on an address.

    Args:  address: `host:port`, `[IPv6]:port`, `*:port` (every address of both families). Port 0
        takes a free one, the same for both families.
    Returns:  non-blocking listening sockets, whose accepted sockets have Nagle off, keepalive
        after 60 s, a user timeout of 5 min.
    Raises:  BindError: one line for the operator; names port and, if known, the process.
    """
    host, port = parse_address(address)
    targets = _targets(host, address)
    for _ in range(_TRIES if port == 0 and len(targets) > 1 else 1):
        opened: list[socket.socket] = []
        number = port
        try:
            for family, name in targets:
                opened.append(_listen(family, name, number))
                number = opened[0].getsockname()[1]
            return opened
        except OSError as error:
            complaint = _complaint(address, number, error)
            for sock in opened:
                sock.close()
            # With port 0 the second family may find the first one's number taken: try another.
            if error.errno != errno.EADDRINUSE:
                break
    raise BindError(complaint)


def parse_address(address: str) -> tuple[str, int]:
    """Split `host:port`; the host `*` or nothing means every address.

    Raises:  BindError: the text is no address.
    """
    match = _ADDRESS.match(address)
    port = int(match["port"]) if match else -1
    if match is None or not 0 <= port <= 65535:
        raise BindError(f"{address}: not an address to listen on (use host:port or *:port)")
    return match["v6"] or match["host"] or "*", port


def bound_address(sock: socket.socket) -> tuple[str, int]:
    """Return host and port a socket is bound to."""
    name = sock.getsockname()
    return name[0], name[1]


def _targets(host: str, address: str) -> list[tuple[int, str]]:
    if host == "*":
        both = [(int(socket.AF_INET), _ANY_IPV4), (int(socket.AF_INET6), _ANY_IPV6)]
        return both if _has_ipv6() else both[:1]
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"{address}: the host name cannot be resolved") from error
    return list(dict.fromkeys((int(family), str(name[0])) for family, _, _, _, name in found))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((_ANY_IPV6, 0))
    except OSError:
        return False
    return True


def _listen(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit all of these (Linux): five system calls less per connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        # A phone that vanished does not hold its session for longer (spec mail 1.1).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        # Bounds what the kernel keeps for a slow reader.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _complaint(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = port_holder(port)
        return f"{address}: port {port} is already in use" + (f" by {holder}" if holder else "")
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{address}: no permission to use port {port}"
    return f"{address}: cannot listen: {error.strerror or error}"


def port_holder(port: int) -> str | None:
    """Name the process that listens on a TCP port (`nginx, pid 812`), None if it cannot be seen.

    Cost:  reads /proc of every process; for error messages only.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # not ours to look into, or gone meanwhile
            for name in os.listdir(process / "fd"):
                if os.readlink(process / "fd" / name) in sockets:
                    return f"{(process / 'comm').read_text().strip()}, pid {process.name}"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    # proc(5), /proc/net/tcp: local address as hex:hex, state 0A is LISTEN, tenth column the inode.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]
