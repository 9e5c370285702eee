"""What several share: one mail host of many domains, one queue of two processes, an exchanger."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests import postgres
from tests.e2e import wire
from tests.e2e.databases import needs_postgres
from tests.e2e.federation import (
    FederatedRelay,
    Network,
    await_empty_queue,
    crashes_of,
    network,
    queue_depth,
)
from tests.e2e.peers import OK, Answer, HttpPeer, Request
from tests.e2e.relay import wait_until
from tests.e2e.users import User, message_id_of
from tests.patience import PATIENCE_S

PER_DESTINATION = 2


@pytest.fixture
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("shared")) as net:
        yield net


@dataclass
class Turnstile:
    """Answers after a while, and counts how many wait at once."""

    most: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.3)
        with self._lock:
            self._now -= 1
        return OK


def test_a_host_of_many_domains_gets_no_more_at_once_than_one_domain(net: Network) -> None:
    """A7.4: the limit is the mail host's, however many domains it serves."""
    relay = net.relay(
        "a.test", queue={"per_destination": str(PER_DESTINATION), "reply_wait": '"0s"'}
    )
    alice = User.of(relay)
    address = net.new_address()
    net.publish("mx.host.test", address)
    domains = [f"d{number}.test" for number in range(5)]
    for domain in domains:
        net.publish(domain, address, mx="mx.host.test")
    turnstile = Turnstile()
    tls = net.authority.context("mx.host.test", *domains)
    with HttpPeer(address, net.https_port, tls, turnstile) as peer:
        sent = [alice.send(f"bob@{domain}")[0] for domain in domains for _ in range(3)]
        await_empty_queue(relay)
        assert sorted(message_id_of(post.body) for post in peer.posts) == sorted(sent)
    assert 1 < turnstile.most <= PER_DESTINATION


@needs_postgres
def test_the_mail_of_a_killed_process_goes_on_from_another(net: Network) -> None:
    """A7.2, T1: what one process had in hand is taken over once it has been silent for 40 s."""
    server = postgres.shared()
    url = server.fresh_database()
    first = net.relay("a.test", starts=False, queue={"reply_wait": '"0s"'})
    first.database = url
    first.start()
    net.publish_key(first)
    other = FederatedRelay(
        net.folder / "other",
        name="a.test",
        address=net.new_address(),
        peer_ports=first.peer_ports,
        tables=first.tables,
        database=url,
    )
    net.relays.append(other)
    other.start()
    alice = User.of(first)
    address = net.new_address()
    net.publish("b.test", address)
    with HttpPeer(address, net.https_port, net.authority.context("b.test")) as peer:
        peer.octets_per_s = 20  # so that the first one has them in hand for minutes
        sent = [alice.send("bob@b.test")[0] for _ in range(4)]
        wait_until("the first one sends", lambda: peer.connections)
        assert leased_by_somebody(first) > 0
        first.kill()
        peer.octets_per_s = 0
        wait_until("all came", lambda: len(ids_of(peer)) == len(sent), 45 + PATIENCE_S)
        await_empty_queue(other)
        assert ids_of(peer) == set(sent)
    assert other.stop() == 0
    assert other.said("queue_taken_over") == 1, "all of its log was read"
    assert not crashes_of(other)
    net.relays.clear()  # one was killed, the other has ended well
    server.drop_database(url)


def ids_of(peer: HttpPeer) -> set[str]:
    return {message_id_of(post.body) for post in peer.posts}


def leased_by_somebody(relay: FederatedRelay) -> int:
    with relay.rows() as db:
        rows = db.execute("SELECT count(*) FROM outbound_recipients WHERE leased_until_s > 0")
        return int(next(iter(rows))[0])


def test_what_lies_at_an_exchanger_is_fetched_once_and_by_the_same_rules(net: Network) -> None:
    """A14, B3.3: pulled mail passes the checks of every other door."""
    relay = net.relay("a.test")
    bob = User.of(relay)
    signer = net.signer("x.test")
    address = net.new_address()
    net.publish("hub.test", address)
    signed_id, octets = wire.encrypted("ann@x.test")
    forged_id, unsigned = wire.encrypted("ann@x.test")
    parcels = [
        parcel("1", bob.address, signer.sign(octets)),
        parcel("2", bob.address, unsigned),
        parcel("3", "eve@elsewhere.test", signer.sign(octets)),
    ]
    with HttpPeer(address, net.https_port, net.authority.context("hub.test")) as hub:
        hub.pages["/me/full"] = Answer(200, json.dumps({"messages": parcels}).encode())
        relay.run("exchanger", "add", "hub", f"https://hub.test:{net.https_port}")
        relay.run("exchanger", "poll", "hub")
        bob.await_message(signed_id)
        asked = len(hub.requests)
        relay.run("exchanger", "poll", "hub")
        assert len(hub.requests) > asked
        assert [message_id_of(found) for found in bob.inbox()] == [signed_id]
        assert bob.find(forged_id) == []
        relay.run("exchanger", "remove", "hub")
    assert queue_depth(relay) == 0


def parcel(id: str, recipient: str, octets: bytes) -> dict[str, object]:
    body = base64.b64encode(octets).decode()
    return {"id": id, "from": "ann@x.test", "to": [recipient], "size": len(octets), "body": body}
