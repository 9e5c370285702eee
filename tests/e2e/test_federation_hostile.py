"""Peers that want to harm: endless talk, enormous mail, forged names; bounded work each time."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue
from tests.e2e.federation_fixtures import alice as alice
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.hosts import Peer, relay_of, verifies, waiting, why
from tests.e2e.listener import Listener
from tests.e2e.relay import wait_until
from tests.e2e.users import Said, User, by_https, by_smtp
from tests.e2e.watch import forget_peak, peak_kib, resident_kib
from tests.pace import slowdown

MIB = 1024 * 1024
GROWTH_KIB = 24 * 1024
"""What a message of 25 MB, or one that never ends, may add to the relay's memory."""


class Babbler(Listener):
    """Says its first words, and then one piece again and again, until the other side goes."""

    def __init__(
        self,
        address: str,
        port: int,
        words: bytes,
        piece: bytes,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.words, self.piece, self.tls = words, piece, tls
        self.said = 0
        self.left = 0
        super().__init__(address, port)

    def serve(self, connection: socket.socket) -> None:
        """Talk."""
        if self.tls is not None:
            connection, _ = self.secure(connection, self.tls)
        with connection, contextlib.suppress(OSError):
            connection.sendall(self.words)
            while True:
                connection.sendall(self.piece)
                self.said += len(self.piece)
        self.left += 1


@contextlib.contextmanager
def bounded(relay: FederatedRelay) -> Iterator[None]:
    """See that the relay's memory does not grow with what a peer says or sends."""
    forget_peak(relay)
    before = resident_kib(relay)
    yield
    assert peak_kib(relay) - before < GROWTH_KIB


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        pytest.param(b"220-hello\r\n", b"220-and more\r\n" * 100, id="endless-reply"),
        pytest.param(b"220 ", b"x" * 4096, id="endless-line"),
        pytest.param(b"", b"\0" * 4096, id="zeros"),
    ],
)
def test_an_endless_greeting_is_left(
    net: Network, relay: FederatedRelay, alice: User, peer: Peer, words: bytes, piece: bytes
) -> None:
    """A6.5."""
    with bounded(relay), Babbler(peer.address, net.smtp_port, words, piece) as babbler:
        _, reply = alice.send(peer.user())
        assert reply.code == 250
        wait_until("we left", lambda: babbler.left)
        assert babbler.said < 8 * MIB
    with peer.smtp() as mail:
        mail.await_deliveries(1)
    await_empty_queue(relay)


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 100, id="endless-header"),
        pytest.param(b"HTTP/1.1 404 No\r\n\r\n", b"not found " * 400, id="endless-body"),
        pytest.param(
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4\r\nmore\r\n" * 500,
            id="chunks",
        ),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50, id="endless-continue"),
    ],
)
def test_an_endless_answer_is_left(
    net: Network, relay: FederatedRelay, alice: User, peer: Peer, words: bytes, piece: bytes
) -> None:
    """A4.6: 4 KiB of it are read; then SMTP has its turn."""
    tls = peer.context
    with (
        bounded(relay),
        Babbler(peer.address, net.https_port, words, piece, tls) as babbler,
        peer.smtp() as mail,
    ):
        alice.send(peer.user())
        mail.await_deliveries(1)
        wait_until("we left", lambda: babbler.left)
        assert babbler.said < 8 * MIB
    await_empty_queue(relay)


def test_names_in_a_circle_lead_nowhere(net: Network, relay: FederatedRelay, alice: User) -> None:
    zone = net.dns.zone
    zone.put("circle.test", "CNAME", "round.test.")
    zone.put("round.test", "CNAME", "circle.test.")
    zone.put("mx-circle.test", "MX", "10 circle.test.")
    zone.forget_queries()
    for domain in ("circle.test", "mx-circle.test"):
        _, reply = alice.send(f"bob@{domain}")
        assert reply.code == 250
        wait_until(
            "the reason is known",
            lambda d=domain: "4.4." in why(alice, d) or "4.1." in why(alice, d),
        )
    assert len(zone.queries) < 100
    relay.run("queue", "purge", "-y")


def test_a_large_message_leaves_in_little_memory(
    net: Network, relay: FederatedRelay, alice: User, peer: Peer
) -> None:
    """A4.10."""
    _, octets = wire.encrypted(alice.address, 25_000_000)
    with peer.web() as web, bounded(relay):
        assert alice.submit(octets, peer.user()).code == 250
        [request] = web.await_posts(1)
    assert verifies(net, request.body)


@pytest.mark.parametrize("door", [by_smtp, by_https])
def test_a_large_message_comes_in_little_memory(
    net: Network, relay: FederatedRelay, door: object
) -> None:
    bob = User.of(relay)
    signer = net.signer(f"large-{door.__name__.replace('_', '')}.test")  # type: ignore[attr-defined]
    message_id, octets = wire.encrypted(f"carol@{signer.domain}", 25_000_000)
    signed = signer.sign(octets)
    with bounded(relay):
        said = door(relay, f"carol@{signer.domain}", [bob.address], signed)  # type: ignore[operator]
        assert isinstance(said, Said)
        assert said.code == 250
    assert bob.await_message(message_id).endswith(octets[-1000:])


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{0}", id="bare"),
        pytest.param("{0}.", id="dot"),
        pytest.param("[{0}]", id="brackets"),
        pytest.param("[IPv6:::ffff:{0}]", id="mapped"),
    ],
)
@pytest.mark.parametrize("door", [by_smtp, by_https])
def test_a_literal_relay_is_not_written_to_in_its_own_name(
    literal: FederatedRelay, door: object, form: str
) -> None:
    """H25: no literal of ours needs no signature; whatever way it is written, it is ours."""
    bob = User.of(literal)
    sender = f"mallory@{form.format(literal.address)}"
    for path in ("carol@[192.0.2.9]", sender):
        octets = make_message(sender=sender)
        said = door(literal, path, [bob.address], octets)  # type: ignore[operator]
        assert said.code >= 500, said
    assert bob.inbox() == []


@pytest.fixture(scope="module")
def literal(net: Network) -> FederatedRelay:
    return net.relay(federation={"literal_source": '"any"'})


@pytest.mark.parametrize("form", ["bob@{0}.", "BOB@{1}", "bob@{1}."])
def test_a_domain_has_many_spellings_and_one_queue(alice: User, peer: Peer, form: str) -> None:
    recipient = form.format(peer.domain, peer.domain.upper())
    with peer.web() as web:
        _, reply = alice.send(recipient, peer.user("carol"))
        assert reply.code == 250, reply
        [request] = web.await_posts(1)
    names = [name.partition("@") for name in request.all("x-mail-to")]
    assert {name[2] for name in names} == {peer.domain}


def test_a_local_part_is_not_ours_to_change(alice: User, peer: Peer) -> None:
    with peer.web() as web:
        alice.send(f"Bob.Smith@{peer.domain}")
        [request] = web.await_posts(1)
    assert request.all("x-mail-to") == [f"Bob.Smith@{peer.domain}"]


def test_our_own_name_in_capitals_is_still_ours(net: Network, alice: User) -> None:
    name = alice.address.partition("@")[0]
    net.dns.zone.forget_queries()
    message_id, reply = alice.send(f"{name.upper()}@A.TEST")
    assert reply.code == 250
    alice.await_message(message_id)
    assert net.dns.zone.queries == []


def test_federation_switched_off_is_off_both_ways(
    net: Network, relay: FederatedRelay, alice: User, peer: Peer
) -> None:
    signer = net.signer(peer.domain)
    _, octets = wire.encrypted(peer.user())
    with peer.web() as web:
        relay.run("federation", "disable")
        try:
            _, reply = alice.send(peer.user())
            assert reply.whole == "550 5.7.1 Policy Rejection"
            for door in (by_smtp, by_https):
                said = door(relay, peer.user(), [alice.address], signer.sign(octets))
                assert said.line == "550 5.7.1 Policy Rejection"
            message_id, reply = alice.send(alice.address)
            assert reply.code == 250
            alice.await_message(message_id)
        finally:
            relay.run("federation", "enable")
        assert not web.connections
        alice.send(peer.user())
        web.await_posts(1)


def test_an_allow_list_lets_in_whom_it_names(
    net: Network, relay: FederatedRelay, alice: User
) -> None:
    """T-34: an allowed envelope does not carry a denied author."""
    friend, foe = Peer(net), Peer(net)
    signers = {peer.domain: net.signer(peer.domain) for peer in (friend, foe)}
    relay.run("federation", "policy", "reject", "-y")
    relay.run("federation", "policy", "allow", friend.domain)
    try:
        for author, path, code in (
            (friend, friend.user(), 250),
            (foe, foe.user(), 550),
            (foe, friend.user(), 550),
            (foe, "", 550),
        ):
            _, octets = wire.encrypted(author.user())
            signed = signers[author.domain].sign(octets)
            assert by_https(relay, path, [alice.address], signed).code == code
        with friend.web() as web:
            alice.send(friend.user())
            web.await_posts(1)
        assert alice.send(foe.user())[1].whole == "550 5.7.1 Policy Rejection"
    finally:
        relay.run("federation", "policy", "accept", "-y")
        relay.run("federation", "flush", "-y")


def test_the_operators_view_shows_no_content(net: Network, alice: User, peer: Peer) -> None:
    """A7.7."""
    message_id, reply = alice.send(peer.user())
    assert reply.code == 250
    wait_until("it waits", lambda: waiting(alice, peer.domain) == 1)
    relay = relay_of(alice)
    shown = relay.run("queue", "list", "--domain", peer.domain).stdout
    name = next(line.split()[0] for line in shown.splitlines() if peer.domain in line)
    shown += relay.run("queue", "show", name).stdout + why(alice, peer.domain)
    assert "BEGIN PGP" not in shown
    assert message_id
    relay.run("queue", "remove", name, "-y")
    assert waiting(alice, peer.domain) == 0


def test_a_hundred_strangers_at_once_are_all_answered(net: Network, relay: FederatedRelay) -> None:
    """A burst at both doors: each gets a verdict, and the relay's own users still get in."""
    bob = User.of(relay)
    signer = net.signer("burst.test")
    sender = f"carol@{signer.domain}"
    messages = [signer.sign(wire.encrypted(sender)[1]) for _ in range(100)]
    before = relay.cpu_s()
    with ThreadPoolExecutor(30) as pool:
        said = list(
            pool.map(
                lambda pair: (by_smtp, by_https)[pair[0] % 2](
                    relay, sender, [bob.address], pair[1]
                ),
                enumerate(messages),
            )
        )
    assert {one.code for one in said} == {250}
    assert len(bob.inbox()) == 100
    assert relay.cpu_s() - before < 5 * slowdown()
