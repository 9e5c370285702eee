"""How long we wait for other people's servers, and how long we remember: hours in seconds.

libfaketime answers for the clocks of the relays here. Where it makes them run faster, what peers
see is measured in the relay's time, so the waits are those of production.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest

from tests.e2e import wire
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import FederatedRelay, Network, network
from tests.e2e.hosts import Peer, relay_of, waiting, why
from tests.e2e.listener import Listener
from tests.e2e.peers import Answer, Mute, SmtpPeer
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.relay import wait_until
from tests.e2e.test_clock import Timepiece
from tests.e2e.users import User

pytestmark = pytest.mark.timeout(180)

Listening = TypeVar("Listening", bound=Listener)

HASTE = 15
"""So many seconds pass for the hasty relay in one of ours."""

LATE_S = 12.0
"""How much later than due a busy machine may be, in true seconds."""

LARGE = 8_000_000
"""More than a kernel keeps for a peer that does not read."""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("patience")) as net:
        yield net


def user_by_clock(net: Network, name: str, env: dict[str, str], **queue: str) -> User:
    """A user of a relay that goes by another clock."""
    relay = net.relay(name, starts=False, queue=queue)
    relay.env = env
    relay.start()
    net.publish_key(relay)
    return User.of(relay)


@pytest.fixture
def peer(net: Network) -> Peer:
    return Peer(net)


# --- what is waited for --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(net: Network, tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user of the relay whose clocks run fast; after a failure it waits an hour of its own."""
    env = Timepiece(tmp_path_factory.mktemp("fast")).env
    for name in ("FAKETIME_TIMESTAMP_FILE", "FAKETIME_DONT_FAKE_MONOTONIC"):
        del env[name]
    env["FAKETIME"] = f"+0 x{HASTE}"
    return user_by_clock(net, "hasty.test", env, schedule='["1h"]', reply_wait='"0s"')


def expect_left(listener: Listener, seconds: float) -> None:
    """See that a peer was left when it had to be, by the clock of those who left."""
    wait_until("it was left", lambda: listener.waits_s, seconds / HASTE + 20)
    expect_took(listener.waits_s[0], seconds)


def expect_took(true_s: float, seconds: float) -> None:
    """See that something took so long by the hasty clock, as seen by a peer that may be slow."""
    assert seconds / HASTE / 2 < true_s < seconds / HASTE + LATE_S, true_s * HASTE


def test_a_web_server_that_says_nothing_is_left_for_smtp(
    net: Network, hasty: User, peer: Peer
) -> None:
    """A4.8: ten seconds for a handshake."""
    with Mute(peer.address, net.https_port) as web, peer.smtp() as mail:
        hasty.send(peer.user())
        expect_left(web, 10)
        mail.await_deliveries(1)


def test_a_web_server_that_stops_reading_is_left_for_smtp(hasty: User, peer: Peer) -> None:
    """A4.8: thirty seconds without progress; what was not sent whole was not delivered."""
    with small_ears(peer.web()) as web, peer.smtp() as mail:
        web.reads_bodies = False
        hasty.send(peer.user(), size=LARGE)
        # That we left does not show: what we sent before is still in the peer's way.
        wait_until("it was asked", lambda: web.connections)
        began = time.monotonic()
        wait_until("the next was asked", lambda: mail.connections, 20)
        expect_took(time.monotonic() - began, 30)
        mail.await_deliveries(1, 40)


def small_ears(listener: Listening) -> Listening:
    """Have the kernel keep little for a peer."""
    listener._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return listener


def test_a_web_server_that_does_not_answer_is_asked_again_later(hasty: User, peer: Peer) -> None:
    """A4.8, A3.4: sixty seconds; it may have the message, so nobody else gets it."""
    with peer.web(Answer(stalls=True)) as web, peer.smtp() as mail:
        message_id, _ = hasty.send(peer.user())
        expect_left(web, 60)
        wait_until("it waits", lambda: "4.4.2" in why(hasty, peer.domain))
        web.answer = Answer()
        relay_of(hasty).run("queue", "retry", peer.domain)
        posts = web.await_posts(2)
        assert all(message_id.encode() in post.body for post in posts)
        assert not mail.connections
    wait_until("it went", lambda: waiting(hasty, peer.domain) == 0)


def test_a_web_server_may_be_slow_but_not_for_ever(hasty: User, peer: Peer) -> None:
    """A4.8: a minute, and what the message takes at 64 KiB/s; however steadily it reads."""
    with small_ears(peer.web()) as web:
        web.octets_per_s = 100_000  # of ours; 7 kB in a second of the relay's
        began = time.monotonic()
        hasty.send(peer.user(), size=LARGE)
        wait_until("it began", lambda: web.connections)
        due_s = (60 + LARGE / 65536) / HASTE
        wait_until("it was left", lambda: "4.4" in why(hasty, peer.domain), due_s + 20)
        expect_took(time.monotonic() - began, due_s * HASTE)
        assert not web.posts


STOPS = {
    "GREETING": 60,
    "EHLO": 60,
    "STARTTLS": 60,
    "TLS": 10,
    "MAIL": 60,
    "RCPT": 60,
    "DATA": 60,
    "DOT": 300,
}


def test_mail_servers_that_stop_are_left(net: Network, hasty: User) -> None:
    """A6.6, step by step and all at once; each message waits for its next attempt."""
    peers = {stalls: Peer(net) for stalls in STOPS}
    with contextlib.ExitStack() as stack:
        mails = {
            stalls: stack.enter_context(peer.smtp(stalls=stalls)) for stalls, peer in peers.items()
        }
        sent = {stalls: hasty.send(peer.user())[0] for stalls, peer in peers.items()}
        for stalls, seconds in sorted(STOPS.items(), key=lambda pair: pair[1]):
            expect_left(mails[stalls], seconds)
        for stalls, message_id in sent.items():
            expect_later(hasty, peers[stalls], mails[stalls], message_id)


def expect_later(user: User, peer: Peer, mail: SmtpPeer, message_id: str) -> None:
    """See that a message waits, and comes when its peer is well again."""
    assert waiting(user, peer.domain) == 1
    assert " 4." in why(user, peer.domain)
    taken = len(mail.deliveries)  # one whose reply was owed may be there already (A3.4)
    mail.script.stalls = ""
    relay_of(user).run("queue", "retry", peer.domain)
    got = mail.await_deliveries(taken + 1, 60)
    assert all(message_id.encode() in one.octets for one in got)
    wait_until("it went", lambda: waiting(user, peer.domain) == 0)


def test_a_mail_server_that_stops_reading_is_left(hasty: User, peer: Peer) -> None:
    """A6.6: sixty seconds in which nothing of the content can be sent."""
    with small_ears(peer.smtp(stalls="CONTENT")) as mail:
        message_id, _ = hasty.send(peer.user(), size=LARGE)
        wait_until("it was asked", lambda: "DATA" in mail.commands)
        began = time.monotonic()
        wait_until("the reason is known", lambda: "4.4" in why(hasty, peer.domain))
        expect_took(time.monotonic() - began, 60)
        expect_later(hasty, peer, mail, message_id)


# --- who keeps us waiting ------------------------------------------------------------------------


def idle_commands(relay: FederatedRelay) -> ssl.SSLSocket:
    return secured(RawSmtp(relay, "smtp").secure())


def idle_content(relay: FederatedRelay) -> ssl.SSLSocket:
    client = RawSmtp(relay, "smtp").secure()
    assert client.envelope("carol@peer.test", [f"bob@{relay.domain}"]).code == 354
    client.send(b"From: carol@peer.test\r\n")
    return secured(client)


def secured(client: RawSmtp) -> ssl.SSLSocket:
    assert isinstance(client.socket, ssl.SSLSocket)
    return client.socket


def idle_head(relay: FederatedRelay) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", relay.ports["https"]), 60)
    client = wire.tls().wrap_socket(plain)
    client.sendall(b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nX-Mail-From: c@peer.test\r\n")
    return client


def idle_body(relay: FederatedRelay) -> ssl.SSLSocket:
    client = idle_head(relay)
    fields = f"X-Mail-To: bob@{relay.domain}\r\nContent-Length: 5000\r\n\r\nFrom: x"
    client.sendall(fields.encode())
    return client


IDLERS = {
    idle_commands: (300, b"421 4.4.2 "),
    idle_content: (300, b"421 4.4.2 "),
    idle_head: (60, b""),
    idle_body: (60, b"HTTP/1.1 408 "),
}


def test_who_falls_silent_is_let_go(hasty: User) -> None:
    """B1.7, B2: each is told why if there is a way, and none has to be waited for in line."""
    relay = relay_of(hasty)

    def wait(begin: Callable[[FederatedRelay], ssl.SSLSocket]) -> tuple[bytes, float]:
        began = time.monotonic()
        said = b""
        with begin(relay) as client, contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            client.settimeout(60)
            while octets := client.recv(4096):
                said += octets
        return said, time.monotonic() - began

    with ThreadPoolExecutor(len(IDLERS)) as pool:
        outcomes = pool.map(wait, IDLERS)
    for (seconds, words), (said, took_s) in zip(IDLERS.values(), outcomes, strict=True):
        assert said.startswith(words), said
        expect_took(took_s, seconds)


# --- what is remembered --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Timepiece:
    return Timepiece(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def patient(net: Network, clock: Timepiece) -> User:
    """A user of the relay whose time of day a test sets, forward only."""
    return user_by_clock(net, "patient.test", clock.env)


def later(clock: Timepiece, **distance: float) -> None:
    """Have time pass."""
    clock.jump(clock.distance + timedelta(**distance))


def test_a_name_that_does_not_exist_is_given_up_after_an_hour(
    patient: User, clock: Timepiece
) -> None:
    """A2.5, H15: resolvers are flaky; after an hour the sender is told."""
    message_id, reply = patient.send("bob@nowhere.test")
    assert reply.code == 250
    later(clock, minutes=50)
    try_again(patient, "nowhere.test")
    assert waiting(patient, "nowhere.test") == 1
    later(clock, minutes=11)
    relay_of(patient).run("queue", "retry", "nowhere.test")
    report = patient.await_report(message_id, 40)
    assert report.failed == {"bob@nowhere.test": "5.1.2"}
    assert waiting(patient, "nowhere.test") == 0


def try_again(user: User, domain: str) -> None:
    """Have what waits for a domain attempted, and wait until it was."""
    before = attempts(user, domain)
    relay_of(user).run("queue", "retry", domain)
    wait_until("it was tried again", lambda: attempts(user, domain) > before)


def attempts(user: User, domain: str) -> int:
    with user.relay.rows() as db:
        query = "SELECT coalesce(max(attempts), 0) FROM outbound_recipients WHERE domain = ?"
        return int(db.execute(query, (domain,)).fetchone()[0])


def test_a_name_whose_servers_fail_is_kept_for_two_days(
    net: Network, patient: User, clock: Timepiece
) -> None:
    """A2.5, A7.1: that is their trouble, not the address's."""
    with net.dns.zone.trouble(Trouble.SERVFAIL, "broken.test"):
        message_id, _ = patient.send("bob@broken.test")
        for _ in range(2):
            later(clock, hours=23)
            try_again(patient, "broken.test")
            assert waiting(patient, "broken.test") == 1
        later(clock, hours=3)
        patient.relay.restart()  # age is looked at once a minute, and at the start
        report = patient.await_report(message_id)
    assert "4.4.3" in report.diagnostics


def test_a_web_site_is_asked_again_after_a_day_and_then_after_two(
    patient: User, clock: Timepiece, peer: Peer
) -> None:
    """A8.1: the time doubles while it stays a web site."""
    with peer.web(Answer(404, b"not found")) as web, peer.smtp() as mail:
        asked = []
        for hours in (0, 23, 2, 25, 22, 2):
            later(clock, hours=hours)
            patient.send(peer.user())
            mail.await_deliveries(len(asked) + 1)
            asked.append(len(web.posts))
        assert asked == [1, 1, 2, 2, 2, 3]
        wait_until("nothing waits", lambda: waiting(patient, peer.domain) == 0)


def test_a_broken_web_server_is_asked_again_after_half_an_hour(
    patient: User, clock: Timepiece, peer: Peer
) -> None:
    """A8.2, and A8.4: once it takes a message it is the first to be asked."""
    with peer.web(Answer(500, b"oops")) as web, peer.smtp() as mail:
        asked = []
        for minutes in (0, 25, 6):
            later(clock, minutes=minutes)
            web.answer = Answer() if minutes == 6 else web.answer
            patient.send(peer.user())
            wait_until("it went", lambda: waiting(patient, peer.domain) == 0)
            asked.append((len(web.posts), len(mail.deliveries)))
        assert asked == [(1, 1), (1, 2), (2, 2)]
