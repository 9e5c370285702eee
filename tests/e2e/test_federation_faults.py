"""Nothing is lost and nobody waits for a dead peer: kills, outages, crowds of messages."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.e2e import wire
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import (
    DEFAULT_WAIT,
    FederatedRelay,
    Network,
    await_empty_queue,
    network,
    queue_depth,
)
from tests.e2e.peers import OK, Answer, HttpPeer, Request, SmtpPeer, SmtpScript
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.users import User, by_https, message_id_of
from tests.patience import PATIENCE_S


@pytest.fixture
def net(tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("faults")) as net:
        yield net


def web_peer(
    net: Network, domain: str, answer: Answer | Callable[[Request], Answer] = OK
) -> HttpPeer:
    """A domain that takes mail by HTTPS, in DNS and running."""
    address = address_of(net, domain)
    return HttpPeer(address, net.https_port, net.authority.context(domain), answer)


def address_of(net: Network, domain: str) -> str:
    """The address of a domain; it is published if it is new."""
    known = net.dns.zone.records.get((domain, "A"))
    if known:
        return known[0]
    address = net.new_address()
    net.publish(domain, address)
    return address


def flood(user: User, recipients: list[str], count: int) -> list[str]:
    """Submit `count` messages over one connection; returns their Message-IDs."""
    sent = []
    with submitter(user.relay, user.account) as client:
        for _ in range(count):
            message_id, octets = wire.encrypted(user.address, 1000)
            assert client.submit(user.address, recipients, octets).code == 250
            sent.append(message_id)
    return sent


def arrived(peer: HttpPeer) -> Counter[str]:
    """Message-ID → how often it was taken."""
    return Counter(message_id_of(request.body) for request in peer.posts)


def test_a_full_queue_survives_kill_after_kill(net: Network) -> None:
    """H10: whatever was answered 250 arrives; what arrives twice has the same Message-ID."""
    relay = net.relay("a.test")
    alice = User.of(relay)
    address_of(net, "b.test")
    sent = flood(alice, ["bob@b.test"], 60)
    relay.kill()
    relay.start()
    assert queue_depth(relay) == 60
    with web_peer(net, "b.test") as peer:
        for wanted in (5, 20):
            wait_until("some arrived", lambda n=wanted: len(arrived(peer)) >= n)
            relay.kill()
            relay.start()
        await_empty_queue(relay)
        got = arrived(peer)
    assert set(got) == set(sent)
    assert sum(got.values()) - len(got) <= 2 * 4 * 2, "more twice than were under way"
    assert alice.reports() == []


def test_a_kill_between_the_reply_and_the_delivery_loses_nothing(net: Network) -> None:
    relay = net.relay("a.test", queue={"reply_wait": DEFAULT_WAIT})
    alice = User.of(relay)
    address = address_of(net, "b.test")
    script = SmtpScript(tls=net.authority.context("b.test"), stalls="DOT")
    with SmtpPeer(address, net.smtp_port, script) as peer:
        message_id, reply = alice.send("bob@b.test")
        assert reply.code == 250
        wait_until("the content went out", lambda: "DATA" in peer.commands)
        relay.kill()
        peer.script = SmtpScript(tls=script.tls)
        relay.start()
        wait_until("it arrived", lambda: len(peer.deliveries) >= 1)
        await_empty_queue(relay)
        ids = {message_id_of(got.octets) for got in peer.deliveries}
    assert ids == {message_id}


def test_a_stop_in_the_middle_is_clean_and_loses_nothing(net: Network) -> None:
    relay = net.relay("a.test", queue={"reply_wait": '"0s"'})
    alice = User.of(relay)
    goes_on = threading.Event()

    def late(_request: Request) -> Answer:
        goes_on.wait(PATIENCE_S)
        return OK

    with web_peer(net, "b.test", late) as peer:
        sent = flood(alice, ["bob@b.test"], 12)
        wait_until("they are under way", lambda: peer.connections)
        began = time.monotonic()
        assert relay.stop() == 0
        assert time.monotonic() - began < 20
        assert queue_depth(relay) == 12, "none was answered"
        goes_on.set()
        relay.start()
        await_empty_queue(relay)
        assert set(arrived(peer)) == set(sent)


def test_a_dead_peer_with_a_long_queue_costs_the_others_nothing(net: Network) -> None:
    """H16, A7.4, A7.5: at most one attempt per slot, and no wait for a living peer."""
    relay = net.relay("a.test", queue={"schedule": '["5s"]'})
    alice = User.of(relay)
    address = address_of(net, "dead.test")
    flood(alice, [f"user{at:03}@dead.test" for at in range(100)], 5)
    assert queue_depth(relay) == 500
    down = SmtpScript(tls=net.authority.context("dead.test"), greeting="421 4.3.2 down")
    with SmtpPeer(address, net.smtp_port, down) as dead, web_peer(net, "live.test") as live:
        flood(alice, ["bob@live.test"], 1)
        live.await_posts(1)  # from here on there is a warm connection
        began, before = time.monotonic(), dead.connections
        stopwatch, taken_s = Stopwatch(relay), []
        for at in range(2, 12):
            stopwatch.start()
            flood(alice, ["bob@live.test"], 1)
            live.await_posts(at)
            taken_s.append(stopwatch.elapsed_s())
        # Not each: the peer is here, and may be kept from answering for a moment.
        assert statistics.median(taken_s) < 2
        slots = 1 + (time.monotonic() - began) / 4
        assert dead.connections - before <= slots + 1
    wait_until("what was delivered is settled", lambda: queue_depth(relay) == 500)


def test_mail_from_a_peer_wakes_what_waits_for_it(net: Network) -> None:
    """H9, A7.3: it is alive, its signature says so; the hour of patience is over."""
    relay = net.relay("a.test", queue={"schedule": '["1h"]'})
    alice = User.of(relay)
    signer = net.signer("b.test")
    address_of(net, "b.test")
    message_id, reply = alice.send("bob@b.test")
    assert reply.code == 250
    wait_until("it was tried", lambda: attempts(relay) == [1])
    with web_peer(net, "b.test") as peer:
        _, octets = wire.encrypted("bob@b.test")
        said = by_https(relay, "bob@b.test", [alice.address], signer.sign(octets))
        assert said.code == 250
        [request] = peer.await_posts(1)
    assert message_id_of(request.body) == message_id


def attempts(relay: FederatedRelay) -> list[int]:
    """How often each waiting delivery was attempted."""
    with relay.rows() as db:
        return [row[0] for row in db.execute("SELECT attempts FROM outbound_recipients")]


def test_an_unsigned_stranger_wakes_nobody(net: Network) -> None:
    relay = net.relay("a.test", queue={"schedule": '["1h"]'})
    alice = User.of(relay)
    address_of(net, "b.test")
    alice.send("bob@b.test")
    wait_until("it was tried", lambda: attempts(relay) == [1])
    with web_peer(net, "b.test") as peer:
        _, octets = wire.encrypted("bob@b.test")
        said = by_https(relay, "bob@b.test", [alice.address], octets)
        assert said.code == 554
        assert said.status == 400
        assert not peer.connections
    assert attempts(relay) == [1]


def test_what_is_too_old_is_reported_with_its_reason(net: Network) -> None:
    """A7.1, A10: one report, naming who did not get it; the others have theirs."""
    relay = net.relay("a.test", queue={"max_age": '"4s"'})
    alice, other = User.of(relay), User.of(relay)
    address = address_of(net, "b.test")
    script = SmtpScript(tls=net.authority.context("b.test"), recipient="450 4.2.1 come back later")
    with SmtpPeer(address, net.smtp_port, script), web_peer(net, "c.test") as well:
        message_id, reply = alice.send("bob@b.test", "carol@c.test", other.address)
        assert reply.code == 250
        report = alice.await_report(message_id, 120)
        well.await_posts(1)
    assert set(report.failed) == {"bob@b.test"}
    assert report.failed["bob@b.test"].startswith(("4.", "5."))
    assert "come back later" in report.diagnostics
    assert report.text.splitlines()[0].startswith("Could not deliver to bob@b.test")
    other.await_message(message_id)
    assert queue_depth(relay) == 0


def test_a_change_of_policy_reaches_what_waits(net: Network) -> None:
    """T-35."""
    relay = net.relay("a.test")
    alice = User.of(relay)
    address_of(net, "b.test")
    message_id, reply = alice.send("bob@b.test")
    assert reply.code == 250
    relay.run("federation", "policy", "block", "b.test")
    report = alice.await_report(message_id)
    assert report.failed == {"bob@b.test": "5.7.1"}
    assert "Policy Rejection" in report.diagnostics
    assert queue_depth(relay) == 0


def test_without_name_servers_mail_waits(net: Network) -> None:
    relay = net.relay("a.test", queue={"reply_wait": DEFAULT_WAIT})
    alice = User.of(relay)
    with web_peer(net, "b.test") as peer:
        with net.dns.zone.trouble(Trouble.SILENCE, "b.test"):
            stopwatch = Stopwatch(relay)
            stopwatch.start()
            message_id, reply = alice.send("bob@b.test")
            assert reply.code == 250
            assert stopwatch.elapsed_s() < 5
            wait_until("it was asked", lambda: net.dns.zone.asked("b.test"))
        [request] = peer.await_posts(1)
    assert message_id_of(request.body) == message_id


def test_what_was_learned_of_a_peer_outlives_a_restart(net: Network) -> None:
    """A8: persisted; the web server that is no relay is not asked again."""
    relay = net.relay("a.test")
    alice = User.of(relay)
    address = address_of(net, "b.test")
    context = net.authority.context("b.test")
    with (
        HttpPeer(address, net.https_port, context, Answer(404, b"")) as web,
        SmtpPeer(address, net.smtp_port, SmtpScript(tls=context)) as mail,
    ):
        alice.send("bob@b.test")
        mail.await_deliveries(1)
        await_empty_queue(relay)
        relay.restart()
        alice.send("bob@b.test")
        mail.await_deliveries(2)
        assert len(web.posts) == 1
        relay.run("federation", "forget", "b.test")
        alice.send("bob@b.test")
        mail.await_deliveries(3)
        assert len(web.posts) == 2


def test_a_large_message_does_not_hold_up_small_ones(net: Network) -> None:
    """A7.6: small before large, when both wait."""
    relay = net.relay("a.test", queue={"per_destination": "1"})
    alice = User.of(relay)
    address_of(net, "b.test")
    large = [alice.send("bob@b.test", size=400_000)[0] for _ in range(3)]
    small = [alice.send("bob@b.test")[0] for _ in range(3)]
    with web_peer(net, "b.test") as peer:
        await_empty_queue(relay)
        order = [message_id_of(request.body) for request in peer.posts]
    # One probe is made first; behind it come all that wait, small ones first.
    behind = [message_id for message_id in order[1:] if message_id in small]
    assert order[1 : 1 + len(behind)] == behind
    assert sorted(order) == sorted(large + small)
