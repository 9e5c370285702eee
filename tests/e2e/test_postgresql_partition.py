"""PostgreSQL behind a wire that is cut: packets are lost, and nobody is told."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.databases import needs_postgres
from tests.e2e.mailbox import stored
from tests.e2e.rawsmtp import RawSmtp, Reply, submitter
from tests.e2e.relay import wait_until
from tests.e2e.separate_hosts import Host, HostRelay, Internet, internet
from tests.e2e.users import User
from tests.postgres import PostgresServer

pytestmark = [
    needs_postgres,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

GIVE_UP_S = 75
"""A commit has 45 s at most; a connection whose packets are lost is given up after 15 s. The rest
is for a machine that does much else."""


class Gateway:
    """Speaks for the database server in a host's network: octets in, octets out.

    A cut wire is not closed here: both ends keep what they believe.
    """

    def __init__(self, host: Host, server: PostgresServer) -> None:
        self._server = server
        self._sockets: list[socket.socket] = []
        self.door = host.run(lambda: socket.create_server((host.address, 0)))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self.door.accept()
                there = socket.create_connection(("127.0.0.1", self._server.port))
                self._sockets += (here, there)
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()

    def close(self) -> None:
        for one in (self.door, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            sink.sendall(octets)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Internet]:
    try:
        manager = internet(tmp_path)
        net = manager.__enter__()
    except OSError as error:
        pytest.skip(f"may not make network namespaces here: {error}")
    yield net
    manager.__exit__(None, None, None)


def remember(host: Host, other: Host) -> None:
    """Have a host know where another is for good, so that its packets are lost and not refused."""
    shown = subprocess.run(
        ["ip", "-n", other.space, "-o", "link", "show", "eth0"],
        capture_output=True,
        text=True,
        check=True,
    )
    there = shown.stdout.partition("link/ether ")[2].split()[0]
    words = ["neigh", "replace", other.address, "lladdr", there, "dev", "eth0", "nud", "permanent"]
    subprocess.run(["ip", "-n", host.space, *words], check=True)


def test_a_wire_that_is_cut_refuses_for_a_while_and_heals(net: Internet, tmp_path: Path) -> None:
    with PostgresServer() as server:
        far, near = net.host(), net.host()
        gateway = Gateway(far, server)
        url = server.fresh_database().replace(
            f"127.0.0.1:{server.port}", f"{far.address}:{gateway.port}"
        )
        remember(near, far)
        relay = HostRelay(tmp_path / "relay", host=near, database=url)
        net.relays.append(relay)
        near.run(relay.start)
        alice, bob = (near.run(lambda: User.of(relay)) for _ in range(2))
        before, reply = near.run(lambda: alice.send(bob.address))
        assert reply.code == 250

        during, octets = wire.encrypted(alice.address)
        verdict = near.run(lambda: submitted_while_cut(alice, bob, octets, far))
        # Nothing may be known of its fate here: it is asked for again, as a client does.
        assert verdict.code in (451, 452), verdict

        far.plug()
        wait_until(
            "mail is taken again",
            lambda: near.run(lambda: _takes(alice, bob, octets)),
            GIVE_UP_S,
        )
        names = [name for _, name in near.run(lambda: stored(relay, bob.account))]
        assert names.count(before) == 1
        assert names.count(during) >= 1  # by the second attempt at the latest
        net.relays.remove(relay)
        assert relay.stop() == 0
        gateway.close()


def submitted_while_cut(alice: User, bob: User, octets: bytes, far: Host) -> Reply:
    """Submit a message, cutting the wire before its last octet; returns the verdict."""
    with submitter(alice.relay, alice.account) as smtp:
        assert smtp.envelope(alice.address, [bob.address]).code == 354
        far.unplug()
        smtp.socket.settimeout(GIVE_UP_S + 5)
        began = time.monotonic()
        reply = smtp.content(octets)
        print(f"refused after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < GIVE_UP_S
        return reply


def _takes(alice: User, bob: User, octets: bytes) -> bool:
    with contextlib.suppress(AssertionError, OSError), RawSmtp(alice.relay) as smtp:
        smtp.log_in(alice.account)
        return smtp.submit(alice.address, [bob.address], octets).code == 250
    return False
