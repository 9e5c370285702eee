"""What an operator sees of federation, and what the relay says of itself and of its users."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.e2e import wire
from tests.e2e.federation import (
    FederatedRelay,
    Network,
    await_empty_queue,
    queue_depth,
)
from tests.e2e.federation_fixtures import alice as alice
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.hosts import Peer, waiting
from tests.e2e.peers import Answer
from tests.e2e.relay import wait_until
from tests.e2e.users import User, by_https, by_smtp


def data(relay: FederatedRelay, *arguments: str) -> Any:
    """What a command says in JSON."""
    shown = relay.ask(*arguments)
    assert isinstance(shown, dict)
    return shown["data"]


def counters(relay: FederatedRelay, domain: str) -> dict[str, Any]:
    """What is counted of a peer."""
    shown = data(relay, "federation", "status")
    return next((one for one in shown["servers"] if one["domain"] == domain), {})


def test_each_transport_is_counted_on_its_own(
    net: Network, relay: FederatedRelay, alice: User, peer: Peer
) -> None:
    """A13.1, A13.2: a failed step counts where it failed; the latency is that of what arrived."""
    with peer.web(Answer(500, b"oops")) as web, peer.smtp() as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)
        await_empty_queue(relay)
        web.answer = Answer()
        relay.run("federation", "forget", peer.domain)
        alice.send(peer.user(), peer.user("carol"))
        web.await_posts(2)
        await_empty_queue(relay)
        mail.script.recipient = "550 5.1.1 no such user"
        web.answer = Answer(404, b"")
        assert alice.send(peer.user())[1].code == 550
        await_empty_queue(relay)
    signer = net.signer(peer.domain)
    for door in (by_smtp, by_https):
        _, octets = wire.encrypted(peer.user())
        assert door(relay, peer.user(), [alice.address], signer.sign(octets)).code == 250

    def check() -> dict[str, Any]:
        found = counters(relay, peer.domain)
        assert (found["success_https"], found["success_smtp"]) == (1, 1), found
        assert found["failed_https"] >= 1
        assert found["inbound_deliveries"] == 2
        assert found["bounced"] == 1
        assert found["queued_messages"] == 0
        assert found["mean_latency_ms"] > 0
        return found

    before = check()
    relay.restart()  # A13.1: flushed at the end
    assert check() == before


def test_a_queue_can_be_looked_at_and_ordered_about(
    relay: FederatedRelay, alice: User, net: Network
) -> None:
    """A7.7: each command, as text and as JSON."""
    first, second = Peer(net), Peer(net)
    for host in (first, first, second):
        assert alice.send(host.user())[1].code == 250
    wait_until("both were tried", lambda: tried(relay) == {first.domain, second.domain})
    status = data(relay, "queue", "status")
    assert status["count"] == 3
    assert {one["domain"]: one["entries"] for one in status["destinations"]} == {
        first.domain: 2,
        second.domain: 1,
    }
    listed = json.dumps(data(relay, "queue", "list"))
    assert listed.count(first.user()) == 2
    why = relay.run("queue", "why", second.domain).stdout
    assert "Connection refused" in why
    names = ids(relay, second.domain)
    assert relay.run("queue", "show", "999999999", check=False).returncode != 0
    relay.run("queue", "retry", names[0])
    relay.run("queue", "hold", second.domain)
    with first.web() as web, second.web() as other:
        relay.run("queue", "retry", first.domain)
        web.await_posts(2)
        assert not other.posts
        relay.run("queue", "release", second.domain)
        other.await_posts(1)
    await_empty_queue(relay)
    assert relay.run("queue", "status").stdout.startswith("0 deliveries wait")


def tried(relay: FederatedRelay) -> set[str]:
    """To whom an attempt was made; one speaks for all that wait (A7.5)."""
    with relay.rows() as db:
        query = "SELECT domain FROM outbound_recipients WHERE attempts > 0"
        return {str(row[0]) for row in db.execute(query)}


def ids(relay: FederatedRelay, domain: str) -> list[str]:
    """The names of what waits for a domain."""
    lines = relay.run("queue", "list", "--domain", domain).stdout.splitlines()
    return [line.split()[0] for line in lines if domain in line]


def test_what_is_removed_or_purged_is_gone_without_a_word(
    relay: FederatedRelay, alice: User, net: Network
) -> None:
    one, two = Peer(net), Peer(net)
    for host in (one, one, two):
        alice.send(host.user())
    before = len(alice.inbox())
    relay.run("queue", "remove", ids(relay, one.domain)[0], "-y")
    assert (waiting(alice, one.domain), waiting(alice, two.domain)) == (1, 1)
    relay.run("queue", "purge", "--domain", one.domain, "-y")
    assert (waiting(alice, one.domain), waiting(alice, two.domain)) == (0, 1)
    relay.run("queue", "purge", "-y")
    assert queue_depth(relay) == 0
    assert len(alice.inbox()) == before


def test_a_url_that_fails_is_gone_around_unless_told_otherwise(
    relay: FederatedRelay, alice: User, net: Network
) -> None:
    """A2.1: to SMTP at the host of the URL; effective at the next attempt."""
    there = Peer(net)
    url = f"https://{there.domain}:{net.https_port}/in"
    relay.run("endpoint-cache", "set", "moved.test", url, "--no-smtp")
    with there.web(Answer(500, b"oops")) as web, there.smtp() as mail:
        alice.send("bob@moved.test")
        web.await_posts(2)
        assert not mail.connections
        relay.run("endpoint-cache", "set", "moved.test", url)
        relay.run("queue", "retry", "moved.test")
        [got] = mail.await_deliveries(1)
    assert got.recipients == ("bob@moved.test",)
    await_empty_queue(relay)


def test_we_say_who_we_are_by_name_or_address(net: Network, alice: User, peer: Peer) -> None:
    """A6.1, A6.2: at the beginning, and again under TLS."""
    literal = net.relay()
    for user, name in ((alice, "a.test"), (User.of(literal), f"[{literal.address}]")):
        with peer.smtp() as mail:
            user.send(peer.user())
            mail.await_deliveries(1)
            greetings = [one for one in mail.commands if one.startswith("EHLO")]
        assert greetings == [f"EHLO {name}"] * 2


def test_a_verdict_of_smtp_is_final(alice: User, peer: Peer) -> None:
    """A3.3: the other door is not tried to get another answer."""
    with peer.web(Answer(404, b"")) as web, peer.smtp() as mail:
        alice.send(peer.user())
        mail.await_deliveries(1)
        web.answer = Answer()
        mail.script.recipient = "550 5.7.1 not from you"
        assert alice.send(peer.user())[1].whole == "550 5.7.1 not from you"
        assert len(web.posts) == 1


def test_the_log_names_nobody(net: Network, relay: FederatedRelay, peer: Peer) -> None:
    """G11, A13.4: neither addresses nor Message-IDs nor IP addresses, of good mail and of bad."""
    canary = secrets.token_hex(8)
    user = User.of(relay)
    signer = net.signer(peer.domain)
    sent: list[str] = []
    with peer.web(Answer(400, f"550 5.1.1 {canary} is unknown".encode())), peer.smtp():
        sent.append(user.send(peer.user(canary))[0])
        sent.append(user.send(peer.user(canary), user.address)[0])
        user.await_report(sent[-1])
    user.send(f"{canary}@nowhere.test")
    for door in (by_smtp, by_https):
        for recipient in (user.address, f"{canary}@a.test"):
            message_id, octets = wire.encrypted(peer.user(canary))
            door(relay, peer.user(canary), [recipient], signer.sign(octets))
            door(relay, peer.user(canary), [recipient], octets)
            sent.append(message_id)
    relay.reload()  # that this is in the log says that all before it was read
    text = "\n".join(relay.errors)
    private = [canary, user.address, user.address.partition("@")[0], peer.address, "127.0.1."]
    for word in (*private, *(message_id.strip("<>") for message_id in sent)):
        assert word not in text, word
    assert "Traceback" not in text
    relay.run("queue", "purge", "-y")
