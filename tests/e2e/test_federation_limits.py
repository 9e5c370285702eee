"""What other relays may ask of ours: so many messages, so much room, so much memory."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.databases import sqlite_only
from tests.e2e.federation import (
    FederatedRelay,
    Network,
    Signer,
    await_empty_queue,
    network,
    queue_depth,
)
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.hosts import Peer
from tests.e2e.mailbox import spooled
from tests.e2e.rawsmtp import RawSmtp, Reply
from tests.e2e.relay import wait_until
from tests.e2e.strangers import CAROL, PEER
from tests.e2e.strangers import signer as signer
from tests.e2e.test_full_disk import fill
from tests.e2e.users import Said, User, by_https, by_smtp, post
from tests.e2e.watch import forget_peak, peak_kib, resident_kib
from tests.patience import PATIENCE_S

TOO_MUCH = "450 4.7.1: Too much mail from "


# --- rates ---------------------------------------------------------------------------------------


def until_refused(
    relay: FederatedRelay, sender: str, recipient: str, octets: bytes, most: int
) -> tuple[int, Reply]:
    """Hand in the same message again and again; returns how often it was taken, and the refusal."""
    taken, began = 0, time.monotonic()
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    with RawSmtp(relay, "smtp").secure() as client:
        while True:
            client.send(envelope)
            assert [reply.code for reply in client.replies(3)] == [250, 250, 354]
            if (reply := client.content(octets)).code != 250:
                return taken, reply
            taken += 1
            if taken > most and taken / (time.monotonic() - began) < 30:
                pytest.skip("this machine is too slow to be too fast")
            assert taken <= most, "nobody stops this"


def test_a_domain_has_its_rate_and_the_others_have_theirs(
    net: Network, relay: FederatedRelay, signer: Signer
) -> None:
    """B3 row 13: five hundred at once, twenty a second; a replay counts as well."""
    bob = User.of(relay)
    message_id, octets = wire.encrypted(CAROL, 1000)
    signed = signer.sign(octets)
    taken, reply = until_refused(relay, CAROL, bob.address, signed, 3000)
    assert taken >= 500
    assert reply.whole == f"{TOO_MUCH}<{CAROL}>"
    bob.await_message(message_id)
    other = net.signer("calm.test")
    _, octets = wire.encrypted("dave@calm.test")
    assert by_smtp(relay, "dave@calm.test", [bob.address], other.sign(octets)).code == 250


def test_a_literal_that_proves_nothing_has_a_tenth_of_it(relay: FederatedRelay) -> None:
    """B5.6: nobody signed it, and it does not come from that address."""
    bob = User.of(relay)
    sender = "carol@[192.0.2.9]"
    taken, reply = until_refused(relay, sender, bob.address, make_message(sender=sender), 2000)
    assert taken >= 50
    assert reply.whole == f"{TOO_MUCH}<{sender}>"
    headers = [("X-Mail-From", sender), ("X-Mail-To", bob.address)]
    for _ in range(50):  # two a second come back meanwhile
        status, body, back = post(relay, headers, make_message(sender=sender))
        if status != 200:
            break
    assert (status, body.decode().strip()) == (429, f"{TOO_MUCH}<{sender}>")
    assert int(back["Retry-After"]) > 0
    other = "carol@[192.0.2.10]"
    assert by_https(relay, other, [bob.address], make_message(sender=other)).code == 250


# --- room ----------------------------------------------------------------------------------------


@pytest.fixture
def small_net(small_disk: Path) -> Iterator[Network]:
    """A network whose relay keeps all it has on a small disk."""
    with network(small_disk) as net:
        yield net


@sqlite_only("the small disk holds the state directory, not the database server")
def test_a_full_disk_queues_nothing_by_halves(small_net: Network, small_disk: Path) -> None:
    """A7.9, A1.3, B7.5: every door says so, for now; what was taken goes once there is room."""
    relay = small_net.relay("a.test")
    alice, peer = User.of(relay), Peer(small_net)
    signer = small_net.signer(PEER)
    sent, reply = alice.send(peer.user())
    assert reply.code == 250
    message_id, octets = wire.encrypted(CAROL, 50_000)
    signed = signer.sign(octets)
    with RawSmtp(relay, "smtp").secure() as early:
        assert early.envelope(CAROL, [alice.address]).code == 354
        filler = small_disk / "filler"
        fill(filler)
        # Begun while there was room, and ended when there was none.
        reply = early.content(signed)
        assert reply.whole.startswith(("451 4.3.0", "452 4.3.1")), reply
    for reply in (submitted(alice, peer.user()), submitted(alice, peer.user(), alice.address)):
        assert reply.startswith("452 4.3.1"), reply
    for door in (by_smtp, by_https):
        said: Said = door(relay, CAROL, [alice.address], signed)
        assert said.line.startswith("452 4.3.1"), said
        assert said.status in (0, 503)
    assert queue_depth(relay) == 1
    assert alice.inbox() == []
    relay.kill()
    filler.unlink()
    relay.start()
    with peer.web() as web:
        [request] = web.await_posts(1)
        assert sent.encode() in request.body
        await_empty_queue(relay)
        wait_until(
            "there is room", lambda: by_https(relay, CAROL, [alice.address], signed).code == 250
        )
        assert alice.await_message(message_id)
        assert alice.send(peer.user())[1].code == 250
        web.await_posts(2)


def submitted(user: User, *recipients: str) -> str:
    """The first refusal of a submission, be it of MAIL or of the content."""
    _, octets = wire.encrypted(user.address)
    with RawSmtp(user.relay).log_in(user.account) as client:
        reply = client.command(f"MAIL FROM:<{user.address}>")
        for recipient in recipients:
            reply = client.command(f"RCPT TO:<{recipient}>") if reply.code == 250 else reply
        if reply.code == 250 and client.command("DATA").code == 354:
            reply = client.content(octets)
    return reply.whole


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["smtp", "https"])
def test_large_messages_at_once_take_little_memory(relay: FederatedRelay, face: str) -> None:
    """Forty of 3 MB, none of which has ended: they lie on the disk, not in memory."""
    bob = User.of(relay)
    _, octets = wire.encrypted(CAROL, 3_000_000)
    clients = [beginning(relay, face, bob, len(octets)) for _ in range(40)]
    try:
        forget_peak(relay)
        before = resident_kib(relay)
        senders = [threading.Thread(target=client.sendall, args=(octets,)) for client in clients]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE_S)
        wait_until("all of it is there", lambda: spooled_octets(relay) >= 39 * len(octets))
        assert peak_kib(relay) - before < 40 * 1024
    finally:
        for client in clients:
            client.close()
    wait_until("nothing is left of it", lambda: not spooled(relay))
    assert bob.inbox() == []


def beginning(relay: FederatedRelay, face: str, bob: User, size: int) -> ssl.SSLSocket:
    """A connection that has announced a message, one octet longer than what will come."""
    if face == "smtp":
        client = RawSmtp(relay, "smtp").secure()
        assert client.envelope(CAROL, [bob.address]).code == 354
        assert isinstance(client.socket, ssl.SSLSocket)
        return client.socket
    plain = socket.create_connection(("127.0.0.1", relay.ports["https"]), PATIENCE_S)
    secured = wire.tls().wrap_socket(plain)
    fields = f"Host: a.test\r\nX-Mail-From: {CAROL}\r\nX-Mail-To: {bob.address}\r\n"
    head = f"POST /mxdeliv HTTP/1.1\r\n{fields}Content-Length: {size + 1}\r\n\r\n"
    secured.sendall(head.encode())
    return secured


def spooled_octets(relay: FederatedRelay) -> int:
    return sum(path.stat().st_size for path in spooled(relay))
