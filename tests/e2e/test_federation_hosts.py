"""Relays on hosts of their own, with standard ports: what loopback cannot show."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.configured import Table
from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.dns_zone import DnsServer
from tests.e2e.federation import DEFAULT_WAIT, Signer
from tests.e2e.peers import OK, Answer, HttpPeer, SmtpPeer, SmtpScript
from tests.e2e.relay import COMMAND, Relay, wait_until
from tests.e2e.separate_hosts import Host, HostRelay, Internet, internet
from tests.e2e.users import User, by_smtp
from tests.patience import PATIENCE_S

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    try:
        manager = internet(tmp_path_factory.mktemp("hosts"))
        net = manager.__enter__()
    except OSError as error:
        pytest.skip(f"may not make network namespaces here: {error}")
    yield net
    manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def pair(net: Internet) -> tuple[HostRelay, HostRelay]:
    """Two that need nothing; they wait for a peer as long as by default, which may be away."""
    return net.relay(queue={"reply_wait": DEFAULT_WAIT}), net.relay()


def user_of(relay: HostRelay) -> User:
    return relay.place.run(lambda: User.of(relay))


def send(user: User, *recipients: str) -> str:
    """Submit a message from the user's own host; it has to be taken."""
    assert isinstance(user.relay, HostRelay)
    message_id, reply = user.relay.place.run(lambda: user.send(*recipients))
    assert reply.code == 250, reply
    return message_id


def await_message(user: User, message_id: str) -> bytes:
    assert isinstance(user.relay, HostRelay)
    return user.relay.place.run(lambda: user.await_message(message_id))


def test_two_addresses_exchange_mail_with_nothing_configured(
    pair: tuple[HostRelay, HostRelay],
) -> None:
    alice, bob = user_of(pair[0]), user_of(pair[1])
    await_message(bob, send(alice, bob.address))
    await_message(alice, send(bob, alice.address))


def test_cores_join_across_hosts(pair: tuple[HostRelay, HostRelay], tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    one, two = (
        relay.place.run(lambda folder=folder: Cores(folder))
        for relay, folder in zip(pair, folders, strict=True)
    )
    try:
        alice, bob = one.online(pair[0]), two.online(pair[1])
        alice_chat, bob_chat = introduce(alice, bob)
        alice_chat.send_text("across the wire")
        await_text(bob, "across the wire")
        bob_chat.send_text("and back")
        await_text(alice, "and back")
    finally:
        one.close()
        two.close()


def test_a_host_that_is_unplugged_gets_its_mail_later(pair: tuple[HostRelay, HostRelay]) -> None:
    alice, bob = user_of(pair[0]), user_of(pair[1])
    pair[1].place.unplug()
    try:
        message_id = send(alice, bob.address)
    finally:
        pair[1].place.plug()
    await_message(bob, message_id)


def test_an_address_with_a_web_server_in_clear_alone_is_reached(
    net: Internet, pair: tuple[HostRelay, HostRelay]
) -> None:
    """A5.4: the last resort, for literals."""
    alice, there = user_of(pair[0]), net.host()
    with there.run(lambda: HttpPeer("0.0.0.0", 80, None)) as web:
        send(alice, f"bob@[{there.address}]")
        [request] = web.await_posts(1)
    assert request.all("host") == [there.address]


# --- how much one source may take ----------------------------------------------------------------


def connected(host: Host, relay: HostRelay, port: int, count: int) -> list[socket.socket]:
    """Open connections from one host to another."""
    there = (relay.place.address, port)
    return host.run(lambda: [socket.create_connection(there, PATIENCE_S) for _ in range(count)])


def greeting(client: socket.socket) -> str:
    return client.recv(1000).decode().strip()


def test_one_source_has_fifty_connections_on_port_25(
    net: Internet, pair: tuple[HostRelay, HostRelay]
) -> None:
    """B1.7: the next one is told so; others get in, and so does it when one is over."""
    relay, host = pair[0], net.host()
    with contextlib.ExitStack() as stack:
        for client in connected(host, relay, 25, 50):
            stack.enter_context(client)
            assert greeting(client).startswith("220 ")
        [more] = connected(host, relay, 25, 1)
        with more:
            assert greeting(more) == "421 4.7.0 Too many connections"
            assert more.recv(1) == b""
        [other] = connected(pair[1].place, relay, 25, 1)
        with other:
            assert greeting(other).startswith("220 ")

    def has_room() -> bool:
        [again] = connected(host, relay, 25, 1)
        with again:
            return greeting(again).startswith("220 ")

    wait_until("there is room again", has_room)


def test_one_source_has_eight_posts_on_their_way(
    net: Internet, pair: tuple[HostRelay, HostRelay]
) -> None:
    """B2.6, http.trusted_proxies: a name in a header makes no other source of it."""
    relay, host = pair[0], net.host()
    head = (
        "POST /mxdeliv HTTP/1.1\r\nHost: x\r\nX-Mail-From: c@peer.test\r\n"
        f"X-Mail-To: b@{relay.domain}\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n"
    )

    def post(place: Host, field: str = "") -> ssl.SSLSocket:
        [plain] = connected(place, relay, 443, 1)
        client = wire.tls().wrap_socket(plain)
        client.sendall(f"{head}{field}\r\n".encode())
        return client

    with contextlib.ExitStack() as stack:
        for _ in range(8):
            waits = stack.enter_context(post(host))
            assert waits.recv(4096).startswith(b"HTTP/1.1 100 ")
        for field in ("", "X-Forwarded-For: 192.0.2.55\r\n"):
            with post(host, field) as refused:
                answer = refused.recv(4096)
                while b"HTTP/1.1 429 " not in answer:  # it may be told to go on first
                    octets = refused.recv(4096)
                    assert octets, answer
                    answer += octets
                assert b"\r\nretry-after: 30\r\n" in answer.lower()
        with post(pair[1].place) as other:
            assert other.recv(4096).startswith(b"HTTP/1.1 100 ")


@pytest.fixture(scope="module")
def dns(net: Internet) -> DnsServer:
    return net.dns()


@pytest.fixture(scope="module")
def one(net: Internet, dns: DnsServer) -> HostRelay:
    return net.relay("one.test", dns)


@pytest.fixture(scope="module")
def alice(one: HostRelay) -> User:
    return user_of(one)


def test_names_work_across_hosts(net: Internet, dns: DnsServer, alice: User) -> None:
    bob = user_of(net.relay("two.test", dns))
    await_message(bob, send(alice, bob.address))
    await_message(alice, send(bob, alice.address))


ASKED = {
    443: (b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
    25: (b"NOOP\r\n", b"250 2.0.0"),
}


@pytest.mark.parametrize("hostname", ["", "mx.zone2.test"], ids=["one-name", "two-names"])
def test_the_zone_that_is_printed_is_all_that_is_needed(
    net: Internet, dns: DnsServer, alice: User, hostname: str
) -> None:
    """C1, C1.2: its MX is a name with `/mxdeliv`, port 25 and a certificate; its key verifies."""
    name = "zone2.test" if hostname else "zone1.test"
    names = [each for each in (name, hostname, f"mta-sts.{name}") if each]
    relay = net.relay(
        name,
        dns,
        server={"hostname": f'"{hostname or name}"'},
        tls=files(net, *names),
    )
    bob = user_of(relay)
    dns.zone.forget(name)
    publish(dns, said(relay, "dns", "zone"))
    assert dns.zone.records[(name, "MX")] == [f"10 {hostname or name}."]
    dns.zone.forget_queries()
    await_message(bob, send(alice, bob.address))
    await_message(alice, send(bob, alice.address))
    assert dns.zone.asked(hostname or name, "A")
    assert dns.zone.asked(f"opendkim._domainkey.{name}", "TXT")
    for port in (443, 25):
        [plain] = connected(relay.place, relay, port, 1)
        greet_until_tls(plain, port)
        trusting = ssl.create_default_context(cafile=str(net.authority.certificate))
        with trusting.wrap_socket(plain, server_hostname=hostname or name) as client:
            client.sendall(ASKED[port][0])
            assert client.recv(4096).startswith(ASKED[port][1])


def greet_until_tls(client: socket.socket, port: int) -> None:
    """Bring a connection to where TLS begins."""
    for command in (b"EHLO x\r\n", b"STARTTLS\r\n") if port == 25 else ():
        assert client.recv(4096).startswith((b"220 ", b"250-"))
        client.sendall(command)
    if port == 25:
        assert client.recv(4096).startswith(b"220 ")


def files(net: Internet, *names: str) -> Table:
    """A certificate for these names, as configuration."""
    certificate, key = net.authority.issue(*names)
    return {"mode": '"files"', "cert": f'"{certificate}"', "key": f'"{key}"'}


def said(relay: Relay, *arguments: str) -> str:
    """What a command of the program says about a relay."""
    command = [*COMMAND, *arguments, "--config", str(relay.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def publish(dns: DnsServer, zone: str) -> None:
    """Put the lines of a zone file into DNS."""
    for line in zone.splitlines():
        if line.strip() and not line.startswith(";"):
            name, _, _, kind, text = line.split(maxsplit=4)
            known = dns.zone.records.get((name.rstrip("."), kind), [])
            dns.zone.put(name, kind, *known, text)


def test_a_loop_is_seen_though_we_listen_everywhere(
    dns: DnsServer, one: HostRelay, alice: User
) -> None:
    """A2.6: an exchanger that is our own address, by a name that is not ours."""
    dns.zone.put("loop.test", "MX", "10 mx.loop.test.")
    dns.zone.put("mx.loop.test", "A", one.place.address)
    _, reply = one.place.run(lambda: alice.send("bob@loop.test"))
    assert "5.4.6" in reply.text


def test_nobody_is_led_to_this_machine_or_to_the_metadata_service(
    dns: DnsServer, one: HostRelay, alice: User
) -> None:
    """SSRF: loopback and link-local addresses are not connected to, whatever DNS says."""
    for name, address in (("meta.test", "169.254.169.254"), ("self.test", "127.0.0.1")):
        dns.zone.put(name, "A", address)
        one.place.run(lambda name=name: alice.send(f"bob@{name}"))
        wait_until("it was looked up", lambda name=name: dns.zone.asked(name, "A"))

    def judged() -> bool:
        with one.rows() as db:
            query = "SELECT count(*) FROM outbound_recipients WHERE attempts = 0"
            return int(db.execute(query).fetchone()[0]) == 0

    wait_until("both were judged", judged)


# --- what lies on port 443 of other names -------------------------------------------------------


class Town:
    """A domain on a host of its own; its servers have the standard ports."""

    def __init__(self, net: Internet, dns: DnsServer) -> None:
        self.net, self.dns, self.host = net, dns, net.host()
        self.domain = f"town{self.host.address.rpartition('.')[2]}.test"
        self.policy_host = f"mta-sts.{self.domain}"
        for name in (self.domain, self.policy_host):
            dns.zone.put(name, "A", self.host.address)
        dns.zone.put(self.domain, "MX", f"10 {self.domain}.")

    def servers(self, answer: Answer = OK) -> tuple[HttpPeer, SmtpPeer]:
        context = self.net.authority.context(self.domain, self.policy_host)
        script = SmtpScript(tls=context)
        web = self.host.run(lambda: HttpPeer("0.0.0.0", 443, context, answer))
        return web, self.host.run(lambda: SmtpPeer("0.0.0.0", 25, script))


@pytest.fixture
def town(net: Internet, dns: DnsServer) -> Town:
    return Town(net, dns)


POLICY = "/.well-known/mta-sts.txt"


@pytest.mark.parametrize(
    ("mode", "mx", "arrives"),
    [
        ("enforce", "honest.test", False),
        ("testing", "honest.test", True),
        ("enforce", "", True),
        ("none", "honest.test", True),
    ],
    ids=["enforce-other", "testing-other", "enforce-own", "none"],
)
def test_an_exchanger_has_to_be_in_the_policy(
    dns: DnsServer, one: HostRelay, alice: User, town: Town, mode: str, mx: str, arrives: bool
) -> None:
    """H22, A12.1."""
    text = f"version: STSv1\r\nmode: {mode}\r\nmx: {mx or town.domain}\r\nmax_age: 86400\r\n"
    dns.zone.put_txt(f"_mta-sts.{town.domain}", "v=STSv1; id=1;")
    web, mail = town.servers(Answer(404, b""))
    with web, mail:
        web.pages[POLICY] = Answer(200, text.encode())
        send(alice, f"bob@{town.domain}")
        wait_until("the policy was read", lambda: any(r.path == POLICY for r in web.requests))
        if arrives:
            mail.await_deliveries(1)
            return
        wait_until("the reason is known", lambda: "4.7.5" in reason(one, town.domain))
        assert not mail.connections
        assert not web.posts


def reason(relay: HostRelay, domain: str) -> str:
    """What the operator is told of the mail that waits for a domain."""
    return said(relay, "queue", "why", domain, "--json")


def test_a_policy_that_is_elsewhere_is_no_policy(dns: DnsServer, alice: User, town: Town) -> None:
    """RFC 8461 §3.3: redirects are not followed; mail is not held up by it."""
    dns.zone.put_txt(f"_mta-sts.{town.domain}", "v=STSv1; id=1;")
    web, mail = town.servers()
    with web, mail:
        web.pages[POLICY] = Answer(302, b"", (("Location", "/elsewhere"),))
        send(alice, f"bob@{town.domain}")
        web.await_posts(1)
        assert POLICY in [request.path for request in web.requests]
        assert "/elsewhere" not in [request.path for request in web.requests]


def test_a_key_is_found_on_the_web_when_dns_has_none(
    one: HostRelay, alice: User, town: Town
) -> None:
    """B5.5."""
    signer = Signer(town.domain)
    message_id, octets = wire.encrypted(f"carol@{town.domain}")
    web, mail = town.servers()
    with web, mail:
        page = f"/.well-known/_domainkey/{signer.selector}"
        web.pages[page] = Answer(200, signer.record.encode())
        signed = signer.sign(octets)
        said = one.place.run(lambda: by_smtp(one, f"carol@{town.domain}", [alice.address], signed))
        assert said.line.startswith("250 2.0.0")
    await_message(alice, message_id)
