"""What strangers may not find out, repeat, overdo or smuggle, at port 25 and /mxdeliv (B)."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor, wait

import dkim
import pytest

from tests.builders import delivery_report
from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Network, Signer
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.peers import HttpPeer
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.relay import wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.strangers import CAROL, both_doors, expect, fresh, hand
from tests.e2e.strangers import bob as bob
from tests.e2e.strangers import signer as signer
from tests.e2e.users import REPORT_S, Report, User, by_https, by_smtp, parse, post
from tests.e2e.watch import forget_peak, peak_kib, resident_kib

MIB = 1024 * 1024

A_HUNDRED_AND_ONE = [("X-Mail-To", f"user{at:05}@a.test") for at in range(101)]


# --- nobody is told who is here ----------------------------------------------------------------


@both_doors
def test_mail_to_nobody_is_taken_and_reported(
    door: object, net: Network, relay: FederatedRelay, bob: User
) -> None:
    """H27, B7.2: the report is signed by us and shaped as other relays' gates want it."""
    domain = f"report-{'web' if door is by_https else 'mail'}.test"
    signer, address = net.signer(domain), net.new_address()
    net.publish(domain, address)
    message_id, octets = fresh(f"x@{domain}")
    recipients = ["nobody123@a.test", bob.address, "admin@a.test"]
    with HttpPeer(address, net.https_port, net.authority.context(domain)) as web:
        expect(hand(door, relay, f"x@{domain}", recipients, signer.sign(octets)), "250 2.0.0")
        bob.await_message(message_id)
        [request] = web.await_posts(1, REPORT_S)
    assert request.all("x-mail-from") == [""]
    assert request.all("x-mail-to") == [f"x@{domain}"]
    report = Report(parse(request.body))
    assert report.about == message_id
    assert set(report.failed) == {"nobody123@a.test", "admin@a.test"}
    assert str(report.message["From"]).lower().endswith("<mailer-daemon@a.test>")
    assert report.message["Auto-Submitted"] == "auto-replied"
    assert b"BEGIN PGP" not in request.body
    assert dkim.verify(request.body, dnsfunc=lambda name, timeout=5: key_of(net, name))


def key_of(net: Network, name: bytes) -> bytes:
    """The TXT record of a name, as one string."""
    texts = net.dns.zone.records[(name.decode().rstrip("."), "TXT")]
    return "".join(texts[0].split('"')[1::2]).encode()


@both_doors
def test_a_bounce_to_nobody_is_the_end(door: object, net: Network, relay: FederatedRelay) -> None:
    """No report on a report."""
    domain = f"end-{'web' if door is by_https else 'mail'}.test"
    signer, address = net.signer(domain), net.new_address()
    net.publish(domain, address)
    bounce = signer.sign(delivery_report(sender=f"MAILER-DAEMON@{domain}"))
    before = reports_owed(relay)
    expect(hand(door, relay, "", ["nobody123@a.test"], bounce), "250 2.0.0")
    assert reports_owed(relay) <= before


def reports_owed(relay: FederatedRelay) -> set[int]:
    """The ids of reports that wait: other tests' may, and end at any time."""
    with relay.rows() as db:
        return {row[0] for row in db.execute("SELECT id FROM reports")}


@both_doors
def test_inbound_mail_makes_no_account(door: object, relay: FederatedRelay, signer: Signer) -> None:
    later = relay.credentials()
    _, octets = fresh()
    expect(hand(door, relay, CAROL, [later[0]], signer.sign(octets)), "250 2.0.0")
    user = User(relay, later)
    assert user.inbox() == []


# --- replays, sizes, crowds --------------------------------------------------------------------


def test_a_replay_is_answered_and_stored_once(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """B7.5, B7.6: whichever door it comes through."""
    message_id, octets = fresh()
    signed = signer.sign(octets)
    for door in (by_https, by_https, by_smtp):
        expect(door(relay, CAROL, [bob.address], signed), "250 2.0.0")
    bob.await_message(message_id)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/mxdeliv", [], 405),
        ("PUT", "/mxdeliv", [], 405),
        ("POST", "/mxdeliv", [], 400),
        ("POST", "/mxdeliv", [("X-Mail-From", CAROL)], 400),
        ("POST", "/mxdeliv", [("X-Mail-To", "x@a.test")], 400),
        ("POST", "/mxdeliv", [("X-Mail-From", CAROL), ("X-Mail-To", "no address")], 400),
        ("POST", "/mxdeliv", [("X-Mail-From", CAROL), ("X-Mail-To", "y" * 400 + "@a.test")], 400),
        ("POST", "/mxdeliv", [("X-Mail-From", CAROL), *A_HUNDRED_AND_ONE], 400),
        ("POST", "/mxdeliv/x", [("X-Mail-From", CAROL), ("X-Mail-To", "x@a.test")], 404),
    ],
)
def test_a_request_that_is_none_is_refused(
    relay: FederatedRelay, method: str, path: str, headers: list[tuple[str, str]], status: int
) -> None:
    got, _, back = post(relay, headers, b"", method=method, path=path)
    assert got == status
    if status == 405:
        assert "POST" in back["Allow"]


@pytest.mark.parametrize("path", ["/mxdeliv", "/mxdeliv/"])
def test_recipients_come_in_lines_or_with_commas(
    relay: FederatedRelay, signer: Signer, path: str
) -> None:
    """B2.2, B2.3."""
    users = [User.of(relay) for _ in range(3)]
    one, two, three = (user.address for user in users)
    message_id, octets = fresh()
    headers = [
        ("x-mail-from", f"<{CAROL}>"),
        ("X-Mail-To", f"<{one}>, {two}"),
        ("X-MAIL-TO", three),
    ]
    status, body, back = post(relay, headers, signer.sign(octets), path=path)
    assert (status, body.strip()[:9]) == (200, b"250 2.0.0")
    assert back.get_content_type() == "text/plain"
    for user in users:
        user.await_message(message_id)


def test_sixty_recipients_fit_the_header(relay: FederatedRelay, signer: Signer, bob: User) -> None:
    """H32: 10 KiB of them."""
    many = [f"{'n' * 40}{at:03}{'x' * 110}"[:64] + "@a.test" for at in range(59)]
    _, octets = fresh()
    headers = [
        ("X-Mail-From", ""),
        *(("X-Mail-To", name + " " * 90) for name in [*many, bob.address]),
    ]
    status, _, _ = post(relay, headers, signer.sign(octets))
    assert status == 200


def test_a_huge_post_is_cut_early(relay: FederatedRelay) -> None:
    """H31: by its length, before a body is read; and without a length, when it is too much."""
    forget_peak(relay)
    before = resident_kib(relay)
    context = wire.tls()
    head = (
        b"POST /mxdeliv HTTP/1.1\r\nHost: a.test\r\nX-Mail-From: c@peer.test\r\n"
        b"X-Mail-To: b@a.test\r\n"
    )
    with context.wrap_socket(_connect(relay, "https")) as client:
        client.sendall(head + b"Content-Length: 74448896\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    with context.wrap_socket(_connect(relay, "https")) as client:
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        stopwatch = Stopwatch(relay)
        stopwatch.start()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            _send_for_ever(client)
        assert stopwatch.elapsed_s() < 20
    assert peak_kib(relay) - before < 32 * 1024


def _send_for_ever(client: ssl.SSLSocket) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for at in itertools.count():
        client.sendall(piece)
        if at * 65536 > 31 * MIB:
            time.sleep(0.05)  # it is refused by now; how long is it listened to?


def _connect(relay: FederatedRelay, face: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.ports[face]), 60)


def test_a_crowd_is_told_to_come_back(relay: FederatedRelay) -> None:
    """B2.6: sixty-four at a time (eight from one address, if it were not loopback)."""
    head = (
        b"POST /mxdeliv HTTP/1.1\r\nHost: a.test\r\nX-Mail-From: c@peer.test\r\n"
        b"X-Mail-To: b@a.test\r\nContent-Length: 100000\r\n\r\n"
    )
    context = wire.tls()
    sockets = [context.wrap_socket(_connect(relay, "https")) for _ in range(68)]
    busy: list[bytes] = []

    def read(client: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            busy.extend(client.recv(4096).split(b"\r\n")[:1])

    with ThreadPoolExecutor(68) as pool:
        try:
            for client in sockets:
                client.sendall(head)
            reading = [pool.submit(read, client) for client in sockets]
            wait_until("four are turned away", lambda: len(busy) >= 4)
            wait(reading, timeout=2)  # nobody else is
            assert len(busy) == 4
            assert all(answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")) for answer in busy)
        finally:
            for client in sockets:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
    for client in sockets:
        client.close()
    # The next test is no crowd.
    wait_until("there is room again", lambda: post(relay, [], b"")[0] == 400)


@pytest.mark.parametrize(
    "smuggled",
    [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n"],
    ids=["lf-lf", "cr-cr", "lf-crlf", "crlf-lf", "crlf-cr", "nul"],
)
def test_a_smuggled_message_is_none(
    relay: FederatedRelay, signer: Signer, bob: User, smuggled: bytes
) -> None:
    """H30."""
    _, octets = fresh()
    inner = b"MAIL FROM:<>\r\nRCPT TO:<" + bob.address.encode() + b">\r\nDATA\r\n" + octets
    with RawSmtp(relay, "smtp").secure() as client:
        assert client.envelope(CAROL, [bob.address]).code == 354
        client.send(signer.sign(octets) + smuggled + inner + b"\r\n.\r\n")
        assert client.reply().whole == "554 5.6.0 Bare CR, LF or NUL not allowed"
        assert client.is_closed()
    assert bob.inbox() == []


def test_the_same_octets_by_post_are_refused_too(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    _, octets = fresh()
    for bad in (octets + b"x\ny\r\n", octets + b"x\ry\r\n", octets + b"\0\r\n"):
        said = by_https(relay, CAROL, [bob.address], bad)
        expect(said, "554 5.6.0 Bare CR, LF or NUL not allowed")
    assert bob.inbox() == []


def test_lf_alone_is_mended_over_http(relay: FederatedRelay, signer: Signer, bob: User) -> None:
    """Policy 1.2: what has no CR at all came through a web framework."""
    message_id, octets = fresh()
    said = by_https(relay, CAROL, [bob.address], signer.sign(octets).replace(b"\r\n", b"\n"))
    expect(said, "250 2.0.0")
    assert bob.await_message(message_id).endswith(octets.partition(b"\r\n\r\n")[2])


def test_mail_before_tls_is_refused(relay: FederatedRelay) -> None:
    with RawSmtp(relay, "smtp") as client:
        client.ehlo()
        said = client.command("MAIL FROM:<x@peer.test>")
        assert said.whole == "530 5.7.0 Must issue a STARTTLS command first"


def test_in_clear_the_web_door_is_shut_for_names(relay: FederatedRelay) -> None:
    """B2.1: a relay with a name takes mail over TLS alone."""
    with _connect(relay, "http") as client:
        client.sendall(
            b"POST /mxdeliv HTTP/1.1\r\nHost: a.test\r\nX-Mail-From: \r\nX-Mail-To: b@a.test\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"TLS required" in answer
