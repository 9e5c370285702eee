"""How long we wait for other people's servers, and for those who come to us: hours in seconds.

libfaketime answers for the clocks of the relays here, and a test moves them forward when it has
seen what the relay waits for. Between these moves they go as ours: whoever is kept from running
for a second, the test or its peers, is a second late for a limit that is ten or more.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Network
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import peer as peer
from tests.e2e.hosts import Peer, attempts, relay_of, waiting, why
from tests.e2e.listener import Listener
from tests.e2e.peers import Answer, Mute, SmtpPeer
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.relay import wait_until
from tests.e2e.timepiece import Timepiece, later, user_by_clock
from tests.e2e.users import User
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.timeout(180)

Listening = TypeVar("Listening", bound=Listener)

STRIDE_S = 5
"""A relay whose clock went further at once would think that it had been stopped, and hand back."""

LARGE = 8_000_000
"""More than a kernel keeps for a peer that does not read."""


# --- what is waited for --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Timepiece:
    """All clocks of the hasty relay, the one it waits by as well."""
    watch = Timepiece(tmp_path_factory.mktemp("watch"))
    del watch.env["FAKETIME_DONT_FAKE_MONOTONIC"]
    return watch


@pytest.fixture(scope="module")
def hasty(net: Network, watch: Timepiece) -> User:
    """A user of that relay; after a failure it waits an hour of its own."""
    return user_by_clock(net, "hasty.test", watch.env, schedule='["1h"]', reply_wait='"0s"')


@pytest.fixture
def elapse(hasty: User, watch: Timepiece) -> Elapse:
    """Has so many seconds pass for the hasty relay; what they end has been ended then."""

    def elapse(seconds: float) -> None:
        while seconds > 0:
            later(watch, seconds=min(seconds, STRIDE_S))
            seconds -= STRIDE_S
            for _ in range(2):  # each has its event loop go round
                RawSmtp(hasty.relay, "smtp").close()

    return elapse


Elapse = Callable[[float], None]


def expect_left(listener: Listener, seconds: float, elapse: Elapse) -> None:
    """See that a peer that stalls is left when it has to be, and not in half of the time."""
    wait_until("it stalls", lambda: listener.stalls)
    elapse(seconds / 2)
    assert not listener.waits_s
    elapse(seconds / 2 + 1)
    wait_until("it was left", lambda: listener.waits_s, seconds / 2 + 5)


def test_a_web_server_that_says_nothing_is_left_for_smtp(
    net: Network, hasty: User, peer: Peer, elapse: Elapse
) -> None:
    """A4.8: ten seconds for a handshake."""
    with Mute(peer.address, net.https_port) as web, peer.smtp() as mail:
        hasty.send(peer.user())
        expect_left(web, 10, elapse)
        mail.await_deliveries(1)


def test_a_web_server_that_stops_reading_is_left_for_smtp(
    net: Network, hasty: User, peer: Peer, elapse: Elapse
) -> None:
    """A4.8: thirty seconds without progress; what was not sent whole was not delivered."""
    with small_ears(peer.web()) as web, peer.smtp() as mail:
        web.reads_bodies = False
        hasty.send(peer.user(), size=LARGE)
        # That we left does not show: what we sent before is still in the peer's way.
        await_full(peer, net.https_port)
        elapse(15)
        assert not mail.connections
        elapse(16)
        mail.await_deliveries(1, 30 + PATIENCE_S)


def small_ears(listener: Listening) -> Listening:
    """Have the kernel keep little for a peer."""
    listener._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return listener


def await_full(peer: Peer, port: int) -> None:
    """Wait until nothing more goes out to a peer that does not read: from then on it is waited."""
    seen: list[int] = []

    def is_full() -> bool:
        seen.append(unsent(peer.address, port))
        return seen[-1] > 0 and len(seen) >= 20 and len(set(seen[-20:])) == 1

    wait_until("the kernel has all it takes", is_full)


def unsent(address: str, port: int) -> int:
    """How many octets wait in the kernel to be sent to an address (proc(5), net/tcp)."""
    there = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[2] == there)


def test_a_web_server_that_does_not_answer_is_asked_again_later(
    hasty: User, peer: Peer, elapse: Elapse
) -> None:
    """A4.8, A3.4: sixty seconds; it may have the message, so nobody else gets it."""
    with peer.web(Answer(stalls=True)) as web, peer.smtp() as mail:
        message_id, _ = hasty.send(peer.user())
        expect_left(web, 60, elapse)
        wait_until("it waits", lambda: "4.4.2" in why(hasty, peer.domain))
        web.answer = Answer()
        relay_of(hasty).run("queue", "retry", peer.domain)
        posts = web.await_posts(2)
        assert all(message_id.encode() in post.body for post in posts)
        assert not mail.connections
    wait_until("it went", lambda: waiting(hasty, peer.domain) == 0)


def test_a_web_server_may_be_slow_but_not_for_ever(hasty: User, peer: Peer, elapse: Elapse) -> None:
    """A4.8: a minute, and what the message takes at 64 KiB/s; however steadily it reads."""
    due_s, step_s, passed_s = 60 + LARGE / 65536, 8, 0

    def is_left() -> bool:
        return attempts(hasty, peer.domain) > 0

    with small_ears(peer.web()) as web:
        web.octets_per_s = 1_000_000
        hasty.send(peer.user(), size=LARGE)
        while not is_left():
            assert passed_s < due_s + step_s
            goal = web.octets_read + 150_000  # far less than in time, and never nothing
            wait_until("it reads", lambda goal=goal: web.octets_read >= goal or is_left())
            elapse(step_s)
            passed_s += step_s
        assert passed_s > due_s / 2
        assert "4.4" in why(hasty, peer.domain)
        assert not web.posts


STOPS = {
    "GREETING": 60,
    "EHLO": 60,
    "STARTTLS": 60,
    "MAIL": 60,
    "RCPT": 60,
    "DATA": 60,
    "DOT": 300,
    "TLS": 10,
}


def test_mail_servers_that_stop_are_left(net: Network, hasty: User, elapse: Elapse) -> None:
    """A6.6, step by step and all at once; each message waits for its next attempt."""
    peers = {stalls: Peer(net) for stalls in STOPS}
    with contextlib.ExitStack() as stack:
        mails = {
            stalls: stack.enter_context(peer.smtp(stalls=stalls)) for stalls, peer in peers.items()
        }
        sent = {stalls: hasty.send(peer.user())[0] for stalls, peer in peers.items()}
        wait_until("all stall", lambda: all(mail.stalls for mail in mails.values()))
        passed_s = 0.0
        for limit in sorted(set(STOPS.values())):
            # Half of it is too early for those of this limit, a second more than it too late.
            for until_s in (max(limit / 2, passed_s), limit + 1):
                elapse(until_s - passed_s)
                passed_s = until_s
                due = {stalls for stalls, seconds in STOPS.items() if seconds < passed_s}
                wait_until("they were left", lambda due=due: all(mails[one].waits_s for one in due))
                left = {one for one, mail in mails.items() if mail.waits_s}
                assert left == due, passed_s
        for stalls, message_id in sent.items():
            expect_later(hasty, peers[stalls], mails[stalls], message_id)


def expect_later(user: User, peer: Peer, mail: SmtpPeer, message_id: str) -> None:
    """See that a message waits, and comes when its peer is well again."""
    wait_until("it waits", lambda: attempts(user, peer.domain) == 1)
    assert waiting(user, peer.domain) == 1
    assert " 4." in why(user, peer.domain)
    taken = len(mail.deliveries)  # one whose reply was owed may be there already (A3.4)
    mail.script.stalls = ""
    relay_of(user).run("queue", "retry", peer.domain)
    got = mail.await_deliveries(taken + 1)
    assert all(message_id.encode() in one.octets for one in got)
    wait_until("it went", lambda: waiting(user, peer.domain) == 0)


def test_a_mail_server_that_stops_reading_is_left(
    net: Network, hasty: User, peer: Peer, elapse: Elapse
) -> None:
    """A6.6: sixty seconds in which nothing of the content can be sent."""
    with small_ears(peer.smtp(stalls="CONTENT")) as mail:
        message_id, _ = hasty.send(peer.user(), size=LARGE)
        wait_until("it stalls", lambda: mail.stalls)
        await_full(peer, net.smtp_port)
        elapse(30)
        assert attempts(hasty, peer.domain) == 0
        elapse(31)
        wait_until("it was left", lambda: attempts(hasty, peer.domain), 60 + PATIENCE_S)
        assert "4.4" in why(hasty, peer.domain)
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
    plain = socket.create_connection(("127.0.0.1", relay.ports["https"]), PATIENCE_S)
    client = wire.tls().wrap_socket(plain)
    # Nagle's algorithm keeps octets back for 40 ms, in which minutes pass for the hasty relay.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def test_who_falls_silent_is_let_go(hasty: User, elapse: Elapse) -> None:
    """B1.7, B2: each is told why if there is a way."""
    with contextlib.ExitStack() as stack:
        clients = {begin: stack.enter_context(begin(relay_of(hasty))) for begin in IDLERS}
        passed_s = 0.0
        for limit in sorted({seconds for seconds, _ in IDLERS.values()}):
            for until_s in (limit / 2, limit + 1):
                elapse(max(until_s - passed_s, 0))
                passed_s = max(until_s, passed_s)
                for begin, (seconds, words) in IDLERS.items():
                    if begin in clients and seconds < passed_s:
                        said = all_of(clients.pop(begin))
                        assert said.startswith(words), said
                assert all(map(is_silent, clients.values()))
    assert not clients


def all_of(client: ssl.SSLSocket) -> bytes:
    """What is said until the connection ends."""
    said = b""
    client.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while octets := client.recv(4096):
            said += octets
    return said


def is_silent(client: ssl.SSLSocket) -> bool:
    """Say whether nothing came up to now, and the connection stands."""
    client.setblocking(False)
    try:
        client.recv(4096)
    except ssl.SSLWantReadError:
        return True
    return False


def test_who_drips_is_let_go(hasty: User, elapse: Elapse) -> None:
    """B1.7: a quarter of an hour without anything finished; octet by octet is no silence."""
    relay = relay_of(hasty)
    with idle_commands(relay) as mail, idle_body(relay) as web:
        drippers = {mail: b"421 4.4.2 ", web: b"HTTP/1.1 408 "}
        for _ in range(17):
            elapse(50)
            for client in drippers:
                assert is_silent(client)
                client.setblocking(True)
                client.sendall(b"x")
        elapse(50 + 11)
        for client, words in drippers.items():
            said = all_of(client)
            assert said.startswith(words), said
