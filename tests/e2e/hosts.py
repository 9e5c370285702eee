"""Other domains on a test's private internet: each has an address and the servers it is given."""

from __future__ import annotations

import itertools
import ssl
from typing import Any

import dkim

from tests.e2e.configured import Table
from tests.e2e.federation import FederatedRelay, Network, free_ports
from tests.e2e.peers import OK, Answer, HttpPeer, SmtpPeer, SmtpScript
from tests.e2e.users import User

_numbers = itertools.count(1)


class Peer:
    """A domain of its own with an address; its servers are started as a test wants them."""

    def __init__(self, net: Network, domain: str = "", mx: str = "") -> None:
        self.net = net
        self.domain = domain or f"p{next(_numbers)}.test"
        self.host = mx or self.domain
        self.address = net.new_address()
        net.publish(self.domain, self.address, mx=self.host)
        net.dns.zone.put(self.host, "A", self.address)

    def user(self, name: str = "bob") -> str:
        return f"{name}@{self.domain}"

    @property
    def context(self) -> ssl.SSLContext:
        return self.net.authority.context(self.host)

    def smtp(self, **script: Any) -> SmtpPeer:
        """Start its SMTP server, with a valid certificate unless the script has another."""
        options: dict[str, Any] = {"tls": self.context, **script}
        return SmtpPeer(self.address, self.net.smtp_port, SmtpScript(**options))

    def web(self, answer: Answer = OK) -> HttpPeer:
        """Start its HTTPS server."""
        return HttpPeer(self.address, self.net.https_port, self.context, answer)


def relay_without_web(net: Network, name: str, **tables: Table) -> FederatedRelay:
    """Start a relay whose peers find it on port 25 alone: its web server is somewhere else."""
    relay = net.relay(name, starts=False, **tables)
    relay.peer_ports = (net.smtp_port, free_ports(1)[0])
    relay.start()
    net.publish_key(relay)
    return relay


def verifies(net: Network, octets: bytes) -> bool:
    """Have a library that is not ours look at the DKIM signature, with the key from our DNS."""

    def txt(name: bytes, timeout: int = 5) -> bytes:
        texts = net.dns.zone.records[(name.decode().rstrip("."), "TXT")]
        return b"".join(piece.encode() for piece in texts[0].split('"')[1::2])

    return bool(dkim.verify(octets, dnsfunc=txt))


def relay_of(user: User) -> FederatedRelay:
    """The relay of a user, as one that federates."""
    assert isinstance(user.relay, FederatedRelay)
    return user.relay


def waiting(user: User, domain: str) -> int:
    """How many deliveries wait for a domain."""
    with user.relay.rows() as db:
        query = "SELECT count(*) FROM outbound_recipients WHERE domain = ?"
        return int(db.execute(query, (domain,)).fetchone()[0])


def attempts(user: User, domain: str) -> int:
    """How often a delivery to a domain was tried that still waits."""
    with user.relay.rows() as db:
        query = "SELECT coalesce(max(attempts), 0) FROM outbound_recipients WHERE domain = ?"
        return int(db.execute(query, (domain,)).fetchone()[0])


def why(user: User, domain: str) -> str:
    """What the operator is told of a destination."""
    done = relay_of(user).run("queue", "why", domain, "--json", check=False)
    return done.stdout
