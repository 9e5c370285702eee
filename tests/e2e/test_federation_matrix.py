"""Every kind of peer by every way there is, in both directions; one message each.

The kinds differ in what they say and how: madmail's two generations, the reference relay behind its
filter, and relays like ours (Postfix with OpenDKIM has tests of its own).
"""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Network, Signer, await_empty_queue
from tests.e2e.federation_fixtures import net as net
from tests.e2e.hosts import Peer, relay_without_web
from tests.e2e.peers import Answer, HttpPeer, SmtpPeer, SmtpScript
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.users import Door, Said, User, by_https, by_smtp
from tests.patience import PATIENCE_S


@dataclass(frozen=True)
class Dialect:
    """How a kind of peer says yes."""

    taken: Answer
    script: dict[str, Any] = field(default_factory=dict)


DIALECTS = {
    "madmail-1": Dialect(
        Answer(200, b"", (("Content-Type", "text/plain; charset=utf-8"),)),
        {
            "keywords": ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 33554432"),
            "greeting": "220 mx ESMTP Service Ready",
            "mail": "250 2.0.0 Roger, accepting mail",
            "recipient": "250 2.0.0 I'll make sure they get this",
            "reply": "250 2.0.0 OK: queued",
        },
    ),
    "madmail-2": Dialect(
        Answer(200, b"OK"),
        {
            "keywords": ("SIZE 104857600",),
            "greeting": "220 mx ESMTP",
            "mail": "250 OK",
            "recipient": "250 OK",
            "data": "354 Start mail input; end with <CRLF>.<CRLF>",
            "reply": "250 OK",
        },
    ),
    "reference": Dialect(
        Answer(200, b"250 OK", (("Server", "nginx"),)),
        {
            "keywords": (
                "PIPELINING",
                "SIZE 31457280",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "CHUNKING",
            ),
            "greeting": "220 mx ESMTP Postfix",
            "data": "354 End data with <CR><LF>.<CR><LF>",
            "reply": "250 2.0.0 Ok: queued as 4cXy1z2AbCz9",
        },
    ),
}
SMTP_IN_CLEAR = tuple(f"plain-{name}.test" for name in DIALECTS)
UNSIGNED = "unsigned.test"


@pytest.fixture(scope="module")
def named(net: Network) -> FederatedRelay:
    names = ", ".join(f'"{name}"' for name in SMTP_IN_CLEAR)
    federation = {"tls_optional": f"[{names}]", "dkim_exempt": f'["{UNSIGNED}"]'}
    return net.relay("a.test", federation=federation)


@pytest.fixture(scope="module")
def literal(net: Network) -> FederatedRelay:
    return net.relay()


# --- to them -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alice(named: FederatedRelay) -> User:
    return User.of(named)


WAYS = [
    "https at the exchanger",
    "https at the domain",
    "https at a literal",
    "https at an IPv6 literal",
    "smtp",
    "smtp in clear",
    "smtp at a literal",
    "smtp at an IPv6 literal",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", list(DIALECTS))
def test_it_takes_our_mail(net: Network, alice: User, kind: str, way: str, tmp_path: Path) -> None:
    dialect = DIALECTS[kind]
    with ExitStack() as stack:
        domain, server = there(net, kind, way)
        if isinstance(server, HttpPeer):
            server.answer = dialect.taken
        else:
            server.script = SmtpScript(**{"tls": server.script.tls, **dialect.script})
        stack.enter_context(server)
        message_id, reply = alice.send(f"bob@{domain}", f"carol@{domain}")
        assert reply.code == 250
        recipients, octets = arrived(server)
        await_empty_queue(relay_of_user(alice))
    assert recipients == [f"bob@{domain}", f"carol@{domain}"]
    assert message_id.encode() in octets


def relay_of_user(user: User) -> FederatedRelay:
    assert isinstance(user.relay, FederatedRelay)
    return user.relay


def there(net: Network, kind: str, way: str) -> tuple[str, HttpPeer | SmtpPeer]:
    """A domain that can be reached this way and no other; returns it and its server."""
    if "literal" in way:
        address = "::1" if "IPv6" in way else net.new_address()
        tls = net.authority.context("anybody.test")
        domain = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        if way.startswith("https"):
            return domain, HttpPeer(address, net.https_port, tls)
        return domain, SmtpPeer(address, net.smtp_port, SmtpScript(tls=tls))
    if way == "https at the domain":
        peer = Peer(net)
        # The exchanger is another host, on which nobody listens.
        net.dns.zone.put(peer.domain, "MX", f"10 mx.{peer.domain}.")
        net.dns.zone.put(f"mx.{peer.domain}", "A", net.new_address())
        return peer.domain, peer.web()
    if way == "https at the exchanger":
        peer = Peer(net, mx=f"mx-{kind}.first.test")
        # The domain has a web site of somebody's, which takes anything for a visit.
        net.dns.zone.put(peer.domain, "A", net.new_address())
        return peer.domain, peer.web()
    if way == "smtp in clear":
        peer = Peer(net, f"plain-{kind}.test")
        return peer.domain, peer.smtp(tls=None)
    peer = Peer(net)
    return peer.domain, peer.smtp()


def arrived(server: HttpPeer | SmtpPeer) -> tuple[list[str], bytes]:
    """Wait for one message; returns its recipients and octets."""
    if isinstance(server, HttpPeer):
        [request] = server.await_posts(1)
        return request.all("x-mail-to"), request.body
    [got] = server.await_deliveries(1)
    return list(got.recipients), got.octets


def test_a_domain_that_took_mail_itself_is_asked_first_from_then_on(
    net: Network, alice: User
) -> None:
    """A3, A8.4: `/mxdeliv` is at the domain, and the exchanger answers only on port 25."""
    domain, web = there(net, "", "https at the domain")
    mx = net.dns.zone.records[(f"mx.{domain}", "A")][0]
    assert isinstance(web, HttpPeer)
    with web:
        alice.send(f"bob@{domain}")
        web.await_posts(1)
        tls = net.authority.context(f"mx.{domain}")
        with SmtpPeer(mx, net.smtp_port, SmtpScript(tls=tls)) as mail:
            alice.send(f"bob@{domain}")
            web.await_posts(2)
            assert not mail.connections


# --- from them -----------------------------------------------------------------------------------


def by_smtp_in_clear(
    relay: FederatedRelay, sender: str, recipients: Sequence[str], octets: bytes
) -> Said:
    with RawSmtp(relay, "smtp") as client:
        client.ehlo()
        reply = client.command(f"MAIL FROM:<{sender}>")
        if reply.code == 250:
            for recipient in recipients:
                assert client.command(f"RCPT TO:<{recipient}>").code == 250
            assert client.command("DATA").code == 354
            reply = client.content(octets)
    return Said(0, reply.whole)


def by_http(relay: FederatedRelay, sender: str, recipients: Sequence[str], octets: bytes) -> Said:
    """As madmail writes between addresses: in clear, all recipients in one field."""
    client = http.client.HTTPConnection("127.0.0.1", relay.ports["http"], timeout=PATIENCE_S)
    headers = {"X-Mail-From": sender, "X-Mail-To": ",".join(recipients)}
    client.request("POST", "/mxdeliv", octets, headers)
    response = client.getresponse()
    said = Said(response.status, response.read().decode().strip())
    client.close()
    return said


def by_curl(*options: str) -> Door:
    """A client that is not ours, over TLS."""

    def door(relay: FederatedRelay, sender: str, recipients: Sequence[str], octets: bytes) -> Said:
        url = f"https://127.0.0.1:{relay.ports['https']}/mxdeliv"
        fields = [f"X-Mail-From: {sender}", *(f"X-Mail-To: {one}" for one in recipients)]
        command = [
            "curl",
            "-sk",
            *options,
            "-w",
            " %{http_version} %{http_code}",
            "--data-binary",
            "@-",
            url,
        ]
        command += [word for one in fields for word in ("-H", one)]
        done = subprocess.run(
            command, input=octets, capture_output=True, check=True, timeout=PATIENCE_S
        )
        body, version, status = done.stdout.decode().rsplit(" ", 2)
        assert version == ("2" if "--http2" in options else "1.1")
        return Said(int(status), body.strip())

    return door


INWARD = {
    "smtp": by_smtp,
    "smtp in clear": by_smtp_in_clear,
    "https": by_https,
    "http": by_http,
    "https by chunks": by_curl("--http1.1", "-H", "Transfer-Encoding: chunked"),
    "http/2": by_curl("--http2"),
}
AUTHORS = {
    "signed": "carol@signed.test",
    "unsigned": "carol@elsewhere.test",
    "exempt": f"carol@{UNSIGNED}",
    "literal": "carol@[192.0.2.77]",
    "bare literal": "carol@192.0.2.78",
    "IPv6 literal": "carol@[IPv6:2001:db8::7]",
}
NO_TLS = "530 5.7.0 Must issue a STARTTLS command first"


@pytest.fixture(scope="module")
def lenient(net: Network) -> FederatedRelay:
    """A relay that takes what comes in clear."""
    federation = {"require_tls": "false", "mxdeliv_http": '"always"'}
    federation["dkim_exempt"] = f'["{UNSIGNED}"]'
    return net.relay("lenient.test", federation=federation)


@pytest.fixture(scope="module")
def signer(net: Network) -> Signer:
    return net.signer("signed.test")


@pytest.fixture(scope="module")
def doors(
    named: FederatedRelay, lenient: FederatedRelay, literal: FederatedRelay
) -> dict[str, User]:
    """A user of each kind of relay."""
    relays = {"named": named, "lenient": lenient, "literal": literal}
    return {name: User.of(relay) for name, relay in relays.items()}


@pytest.mark.parametrize("way", list(INWARD))
@pytest.mark.parametrize("author", list(AUTHORS))
def test_we_take_its_mail(doors: dict[str, User], signer: Signer, author: str, way: str) -> None:
    sender, hand = AUTHORS[author], INWARD[way]
    for kind, user in doors.items():
        message_id, octets = wire.encrypted(sender)
        octets = signer.sign(octets) if author == "signed" else octets
        expected = verdict(way, author, kind)
        said = hand(relay_of_user(user), sender, [user.address], octets)
        assert said.line.startswith(expected)
        if expected == "250 2.0.0":
            user.await_message(message_id)
        else:
            assert user.find(message_id) == []


def verdict(way: str, author: str, relay: str) -> str:
    """What a kind of relay has to say (B1.1, B2.1, B5.6, B5.7)."""
    if way == "smtp in clear" and relay != "lenient":
        return NO_TLS
    if way == "http" and relay == "named":
        return "TLS required"
    if author == "unsigned" or (author == "exempt" and relay == "literal"):
        return "554 5.7.1 No DKIM signature found"
    return "250 2.0.0"


def test_a_body_of_line_feeds_is_taken_in_clear_too(literal: FederatedRelay) -> None:
    """As madmail's second generation posts it."""
    user, sender = User.of(literal), AUTHORS["literal"]
    message_id, octets = wire.encrypted(sender)
    said = by_http(literal, sender, [user.address], octets.replace(b"\r\n", b"\n"))
    assert said.line == "250 2.0.0 OK"
    assert user.await_message(message_id).endswith(octets.partition(b"\r\n\r\n")[2])


# --- between us ----------------------------------------------------------------------------------


@dataclass
class SixthRelay(FederatedRelay):
    """A relay whose address is one of IPv6."""

    @property
    def domain(self) -> str:
        return f"[IPv6:{self.address}]"

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        for port in self.peer_ports:
            text = text.replace(f'"{self.address}:{port}"', f'"[{self.address}]:{port}"')
        self.config.write_text(text)


@pytest.fixture(scope="module")
def sixth(net: Network) -> FederatedRelay:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    model = net.relay(starts=False)
    made = SixthRelay(
        net.folder / "sixth", address="::1", peer_ports=model.peer_ports, tables=model.tables
    )
    net.relays[-1] = made
    made.start()
    return made


@pytest.fixture(scope="module")
def by_mail(net: Network) -> FederatedRelay:
    return relay_without_web(net, "mail.test")


PAIRS = list(itertools.permutations(["named", "literal", "by_mail"], 2))
PAIRS += [("literal", "sixth"), ("sixth", "literal"), ("named", "sixth"), ("sixth", "named")]


@pytest.mark.parametrize(("from_", "to"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_ours_writes_to_ours(request: pytest.FixtureRequest, from_: str, to: str) -> None:
    """By name and by address, by `/mxdeliv` and by SMTP alone."""
    sender, recipient = (User.of(request.getfixturevalue(name)) for name in (from_, to))
    message_id, reply = sender.send(recipient.address)
    assert reply.code == 250
    recipient.await_message(message_id)
    await_empty_queue(relay_of_user(sender))
