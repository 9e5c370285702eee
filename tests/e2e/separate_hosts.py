"""Hosts that are apart: a network namespace each, joined by a switch, with the standard ports.

What needs a host of its own runs inside its namespace: a thread enters it, and whatever the thread
opens or starts (sockets, processes) belongs there and stays there. Nothing of the machine's own
network is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.e2e.configured import ConfiguredRelay, Table
from tests.e2e.dns_zone import DnsServer
from tests.e2e.federation import SELECTOR, VERDICT_WAIT, Authority, dkim_record

T = TypeVar("T")

PORTS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "http": 80,
    "https": 443,
}
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Host:
    """One namespace with one address."""

    space: str
    address: str

    def run(self, function: Callable[[], T]) -> T:
        """Call a function inside; what it opens or starts stays inside."""

        def enter_and_call() -> T:
            with Path(f"/run/netns/{self.space}").open() as space:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(space.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return function()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(enter_and_call).result()

    def unplug(self) -> None:
        """Pull the cable."""
        _ip("-n", self.space, "link", "set", "eth0", "down")

    def plug(self) -> None:
        """Put it back."""
        _ip("-n", self.space, "link", "set", "eth0", "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass
class HostRelay(ConfiguredRelay):
    """A relay with a host to itself: every face on its standard port, on all addresses."""

    host: Host | None = None
    name: str = ""
    ports: dict[str, int] = field(default_factory=lambda: dict(PORTS))

    @property
    def place(self) -> Host:
        assert self.host is not None
        return self.host

    @property
    def domain(self) -> str:
        return self.name or f"[{self.place.address}]"

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        for face, port in PORTS.items():
            text = text.replace(
                f'\n{face} = ["127.0.0.1:{port}"]', f'\n{face} = ["0.0.0.0:{port}"]'
            )
        who = f'domain = "{self.name}"' if self.name else f'ip = "{self.place.address}"'
        text = text.replace('ip = "127.0.0.1"\n', f"{who}\n", 1)
        text = text.replace('hostname = "127.0.0.1"\n', "", 1)
        self.config.write_text(text)


@dataclass
class Internet:
    """The switch, the hosts at it, and what they share."""

    folder: Path
    prefix: str = field(default_factory=lambda: f"cm{os.getpid()}")
    hosts: list[Host] = field(default_factory=list)
    relays: list[HostRelay] = field(default_factory=list)
    servers: list[DnsServer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.switch = f"{self.prefix}-switch"
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "switch", "up")
        self.authority = Authority(self.folder / "ca")

    def host(self) -> Host:
        """Add a host."""
        number = len(self.hosts) + 1
        host = Host(f"{self.prefix}-{number}", f"10.77.0.{number}")
        _ip("netns", "add", host.space)
        self.hosts.append(host)
        ends = ["eth0", "netns", host.space, "type", "veth"]
        _ip("link", "add", *ends, "peer", "name", f"p{number}", "netns", self.switch)
        _ip("-n", self.switch, "link", "set", f"p{number}", "master", "switch", "up")
        _ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.space, "link", "set", "lo", "up")
        host.plug()
        return host

    def dns(self) -> DnsServer:
        """Add a host with a name server."""
        host = self.host()
        server = host.run(lambda: DnsServer(host.address))
        self.servers.append(server)
        return server

    def relay(self, name: str = "", dns: DnsServer | None = None, **tables: Table) -> HostRelay:
        """Add a host with a relay; one with a name is published with its key."""
        host = self.host()
        wanted: dict[str, Table] = {
            "federation": {"ca_file": f'"{self.authority.certificate}"'},
            "queue": {"schedule": '["1s"]', "start_delay": '"0s"', "reply_wait": VERDICT_WAIT},
        }
        if dns is not None:
            wanted["dns"] = {"servers": f'["{dns.endpoint}"]'}
        if name:
            certificate, key = self.authority.issue(name)
            wanted["tls"] = {"mode": '"files"', "cert": f'"{certificate}"', "key": f'"{key}"'}
            wanted["server"] = {"public_ips": f'["{host.address}"]'}
        for table, keys in tables.items():
            wanted[table] = {**wanted.get(table, {}), **keys}
        relay = HostRelay(self.folder / host.space, host=host, name=name, tables=wanted)
        self.relays.append(relay)
        host.run(relay.start)
        if name and dns is not None:
            dns.zone.put(name, "A", host.address)
            dns.zone.put(name, "MX", f"10 {name}.")
            pem = (relay.folder / "state" / "dkim" / f"{SELECTOR}.pem").read_bytes()
            dns.zone.put_txt(f"{SELECTOR}._domainkey.{name}", dkim_record(pem))
        return relay

    def close(self) -> list[int]:
        """End everything; returns the exit codes of the relays."""
        codes = [relay.stop() for relay in self.relays]
        for server in self.servers:
            server.close()
        for space in (*(host.space for host in self.hosts), self.switch):
            _ip("netns", "del", space)
        return codes


@contextlib.contextmanager
def internet(folder: Path) -> Iterator[Internet]:
    """Hosts for the tests of one module. Raises:  OSError: there can be none here."""
    made = Internet(folder)
    try:
        yield made
    except BaseException:
        made.close()
        raise
    assert set(made.close()) <= {0}
