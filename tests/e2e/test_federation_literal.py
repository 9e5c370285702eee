"""Two relays that are addresses: no names, no DNS, no authority; encrypted all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue, network
from tests.e2e.peers import HttpPeer, SmtpPeer, SmtpScript
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.users import User


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("literal")) as net:
        yield net


@pytest.fixture(scope="module")
def pair(net: Network) -> tuple[FederatedRelay, FederatedRelay]:
    return net.relay(), net.relay()


def test_mail_arrives_on_the_other_relay_at_once(
    pair: tuple[FederatedRelay, FederatedRelay], net: Network
) -> None:
    alice, bob = User.of(pair[0]), User.of(pair[1])
    for sender, recipient in ((alice, bob), (bob, alice)):
        stopwatch = Stopwatch(sender.relay)
        stopwatch.start()
        message_id, reply = sender.send(recipient.address)
        assert reply.code == 250
        got = recipient.await_message(message_id)
        assert stopwatch.elapsed_s() < 5
        head = got.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nreceived:" not in b"\r\n" + head
        assert b"dkim-signature" not in head
        assert b"127.0.0.1" not in head
    assert net.dns.zone.queries == [], "a literal is no name"


def test_a_bare_address_means_the_same_relay(pair: tuple[FederatedRelay, FederatedRelay]) -> None:
    alice, bob = User.of(pair[0]), User.of(pair[1])
    local, _, domain = bob.address.partition("@")
    message_id, reply = alice.send(f"{local}@{domain.strip('[]')}")
    assert reply.code == 250
    bob.await_message(message_id)


def test_a_group_over_both_relays_gets_one_copy_each(
    pair: tuple[FederatedRelay, FederatedRelay],
) -> None:
    alice, *members = [User.of(pair[0]), *(User.of(pair[at % 2]) for at in range(6))]
    message_id, reply = alice.send(*(member.address for member in members))
    assert reply.code == 250
    for member in members:
        member.await_message(message_id)
    await_empty_queue(pair[0])


def test_cores_join_and_chat_over_two_literals(
    pair: tuple[FederatedRelay, FederatedRelay], cores: Cores
) -> None:
    alice, bob = cores.online(pair[0]), cores.online(pair[1])
    alice_chat, bob_chat = introduce(alice, bob)
    bob_chat.send_text("from the other address")
    await_text(alice, "from the other address")
    alice_chat.send_text("and back")
    assert await_text(bob, "and back").get_snapshot().show_padlock


def test_an_unsigned_literal_takes_any_certificate_by_smtp_too(
    pair: tuple[FederatedRelay, FederatedRelay], net: Network
) -> None:
    """A5.1: encrypted, not verified; without a name in the handshake."""
    alice, address = User.of(pair[0]), net.new_address()
    script = SmtpScript(tls=net.authority.context("somebody.else.test"))
    with SmtpPeer(address, net.smtp_port, script) as peer:
        message_id, reply = alice.send(f"bob@[{address}]")
        assert reply.code == 250
        [got] = peer.await_deliveries(1)
    assert got.is_encrypted
    assert got.server_name is None
    assert got.recipients == (f"bob@[{address}]",)
    assert message_id.encode() in got.octets
    assert b"DKIM-Signature" not in got.octets, "a literal has no place for a key"


def test_an_ipv6_literal_is_reached_by_https_and_by_smtp(
    pair: tuple[FederatedRelay, FederatedRelay], net: Network
) -> None:
    alice = User.of(pair[0])
    with HttpPeer("::1", net.https_port, net.authority.context("::1")) as web:
        alice.send("bob@[IPv6:::1]")
        [request] = web.await_posts(1)
    assert request.path == "/mxdeliv"
    assert request.all("host")[0] in ("[::1]", f"[::1]:{net.https_port}")
    with SmtpPeer("::1", net.smtp_port, SmtpScript(tls=net.authority.context("::1"))) as mail:
        message_id, _ = alice.send("bob@[IPv6:0:0:0:0:0:0:0:1]")
        [got] = mail.await_deliveries(1)
    assert message_id.encode() in got.octets
