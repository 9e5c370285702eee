"""Names and addresses that lead astray: DNS answers, exchangers, and what is inside."""

from __future__ import annotations

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import wire
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import FederatedRelay, Network, Signer
from tests.e2e.federation_fixtures import bob as bob
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.hosts import Peer, relay_of
from tests.e2e.peers import Mute
from tests.e2e.relay import wait_until
from tests.e2e.users import Said, User, by_https, by_smtp

both_doors = pytest.mark.parametrize(
    "door", [pytest.param(by_smtp, id="smtp"), pytest.param(by_https, id="https")]
)


# --- DNS -----------------------------------------------------------------------------------------


@both_doors
@pytest.mark.parametrize("kind", ["huge", "many", "circle"])
def test_a_key_record_that_is_none_is_no_key(
    door: object, net: Network, relay: FederatedRelay, bob: User, kind: str
) -> None:
    """B5.4: what the domain publishes is its own fault."""
    signer = Signer(f"{kind}-{'web' if door is by_https else 'mail'}.test")
    zone, name = net.dns.zone, signer.name
    match kind:
        case "huge":
            zone.put_txt(name, "v=DKIM1; k=rsa; p=" + "A" * 50_000)
        case "many":
            zone.put(name, "TXT", *(f'"junk {at} {"x" * 200}"' for at in range(250)))
        case _:
            zone.put(name, "CNAME", f"x.{name}.")
            zone.put(f"x.{name}", "CNAME", f"{name}.")
    said = signed_by(door, relay, bob, signer)
    if kind != "circle":
        assert said == "554 5.7.1 No valid DKIM signature found"
    else:  # a server that is set up wrong, or a resolver that is
        assert said.startswith(("451 4.7.5", "554 5.7.1"))


def signed_by(door: object, relay: FederatedRelay, bob: User, signer: Signer) -> str:
    """What is said to a message of a domain."""
    sender = f"x@{signer.domain}"
    _, octets = wire.encrypted(sender)
    assert callable(door)
    said = door(relay, sender, [bob.address], signer.sign(octets))
    assert isinstance(said, Said)
    return said.line


def test_dns_answers_that_are_none_are_a_reason_to_wait(
    net: Network, relay: FederatedRelay, bob: User
) -> None:
    """B5.4: what happens on the way is nobody's fault. All at once: each takes ten seconds."""
    troubles = [Trouble.GARBAGE, Trouble.FORGED, Trouble.CUT, Trouble.SILENCE]
    signers = [net.signer(f"{trouble.value}.test") for trouble in troubles]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        for trouble, signer in zip(troubles, signers, strict=True):
            stack.enter_context(net.dns.zone.trouble(trouble, signer.name))
        said = pool.map(
            lambda pair: signed_by(pair[0], relay, bob, pair[1]),
            itertools.product((by_smtp, by_https), signers),
        )
        assert set(said) == {"451 4.7.5 DKIM key not available, try again later"}


def test_answers_to_what_nobody_asked_are_not_believed(net: Network, bob: User) -> None:
    """A zone cannot speak for another: neither for its exchanger nor for its address."""
    victim, attacker = Peer(net, "victim.test"), Peer(net, "attacker.test")
    lies = {(victim.domain, "A"): [attacker.address], (victim.domain, "MX"): ["1 attacker.test."]}
    with net.dns.zone.lying(attacker.domain, lies):
        with attacker.web() as web:
            bob.send(attacker.user())
            web.await_posts(1)
        with attacker.web() as web, victim.web() as own:
            bob.send(victim.user())
            own.await_posts(1)
            assert not web.connections


ODD_HOSTS = [
    "localhost.",
    "127.0.0.1.",
    "*.test.",
    r"a\000b.test.",
    r"\"quoted\".test.",
    r"with\032space.test.",
    r"a\046b.test.",
    f"{'x' * 63}.{'y' * 63}.{'z' * 63}.test.",
]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_an_exchanger_that_is_no_host_harms_nobody(
    net: Network, relay: FederatedRelay, bob: User, host: str
) -> None:
    """The next one is used, if there is one; nothing is connected to for the name's sake."""
    peer = Peer(net)
    net.dns.zone.put(peer.domain, "MX", f"1 {host}", f"10 {peer.domain}.")
    with peer.web() as web, Mute("127.0.0.1", net.smtp_port) as own:
        bob.send(peer.user())
        web.await_posts(1)
        assert own.connections == 0


# --- where nothing may go ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(net: Network) -> User:
    return User.of(net.relay("strict.test", federation={"private_peers": '"refuse"'}))


LOOPBACK = {
    "A-127": ("A", "127.0.0.1"),
    "A-127-other": ("A", "127.8.8.8"),
    "A-zero": ("A", "0.0.0.0"),
    "A-private": ("A", "10.1.2.3"),
    "A-carrier": ("A", "100.64.1.1"),
    "A-link-local": ("A", "169.254.169.254"),
    "AAAA-loopback": ("AAAA", "::1"),
    "AAAA-unspecified": ("AAAA", "::"),
    "AAAA-mapped": ("AAAA", "::ffff:127.0.0.1"),
    "AAAA-compatible": ("AAAA", "::127.0.0.1"),
    "AAAA-6to4": ("AAAA", "2002:7f00:1::1"),
    "AAAA-nat64": ("AAAA", "64:ff9b::7f00:1"),
    "AAAA-nat64-local": ("AAAA", "64:ff9b:1::7f00:1"),
    "AAAA-teredo": ("AAAA", "2001:0:7f00:1::1"),
    "AAAA-link-local": ("AAAA", "fe80::1"),
    "AAAA-unique-local": ("AAAA", "fd00:ec2::254"),
}


def test_no_form_of_an_inner_address_is_connected_to(net: Network, strict: User) -> None:
    """SSRF: as the address of a domain, of its exchanger, and as a literal."""
    zone = net.dns.zone
    recipients: list[str] = []
    for name, (kind, address) in LOOPBACK.items():
        domain = f"{name.lower()}.inner.test"
        zone.put(domain, kind, address)
        zone.put(f"mx.{domain}", kind, address)
        zone.put(f"by-{domain}", "MX", f"10 mx.{domain}.")
        literal = f"[{address}]" if kind == "A" else f"[IPv6:{address}]"
        recipients += [f"bob@{domain}", f"bob@by-{domain}", f"bob@{literal}"]
    zone.put("localhost-mx.inner.test", "MX", "10 localhost.")
    recipients.append("bob@localhost-mx.inner.test")
    hosts = ("127.0.0.1", "127.8.8.8", "::1")
    ports = (net.smtp_port, net.https_port)
    with contextlib.ExitStack() as stack:
        inner = [
            stack.enter_context(Mute(host, port)) for host, port in itertools.product(hosts, ports)
        ]
        _, reply = strict.send(*recipients)
        assert reply.code == 250
        relay = relay_of(strict)

        def judged() -> bool:
            with relay.rows() as db:
                query = "SELECT count(*) FROM outbound_recipients WHERE attempts = 0"
                return int(db.execute(query).fetchone()[0]) == 0

        wait_until("all were judged", judged)
        assert [listener.connections for listener in inner] == [0] * len(inner)
    with relay.rows() as db:
        query = "SELECT domain, last_reply FROM outbound_recipients"
        replies = {str(row[0]): str(row[1]) for row in db.execute(query)}
    assert len(replies) > len(LOOPBACK)
    assert {reply[:9] for reply in replies.values()} == {"450 4.4.4"}, replies
    relay.run("queue", "purge", "-y")
