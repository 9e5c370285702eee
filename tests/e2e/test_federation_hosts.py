"""Relays on hosts of their own, with standard ports: what loopback cannot show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cores import Cores, await_text, introduce
from tests.e2e.peers import HttpPeer
from tests.e2e.relay import wait_until
from tests.e2e.separate_hosts import HostRelay, Internet, internet
from tests.e2e.users import User

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(180),
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
    return net.relay(), net.relay()


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
    return user.relay.place.run(lambda: user.await_message(message_id, 40))


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
        [request] = web.await_posts(1, 40)
    assert request.all("host") == [there.address]


def test_names_work_across_hosts_and_a_loop_is_seen(net: Internet) -> None:
    """A2.6: an exchanger that is our own address, though we listen on all of them."""
    dns = net.dns()
    one, two = net.relay("one.test", dns), net.relay("two.test", dns)
    alice, bob = user_of(one), user_of(two)
    await_message(bob, send(alice, bob.address))
    await_message(alice, send(bob, alice.address))
    dns.zone.put("loop.test", "MX", "10 mx.loop.test.")
    dns.zone.put("mx.loop.test", "A", one.place.address)
    _, reply = one.place.run(lambda: alice.send("bob@loop.test"))
    assert "5.4.6" in reply.text


def test_nobody_is_led_to_the_metadata_service(net: Internet) -> None:
    """SSRF: link-local addresses are never connected to, whatever DNS says."""
    dns = net.dns()
    relay = net.relay("three.test", dns)
    alice = user_of(relay)
    for name, address in (("meta.test", "169.254.169.254"), ("self.test", "127.0.0.1")):
        dns.zone.put(name, "A", address)
        relay.place.run(lambda name=name: alice.send(f"bob@{name}"))
        wait_until("it was looked up", lambda name=name: dns.zone.asked(name, "A"))

    def judged() -> bool:
        with relay.rows() as db:
            query = "SELECT count(*) FROM outbound_recipients WHERE attempts = 0"
            return int(db.execute(query).fetchone()[0]) == 0

    wait_until("both were judged", judged)
    assert relay.place.run(lambda: alice.inbox()) == []
