"""What strangers may bring: port 25 and /mxdeliv give the same answers (federation-web.md B)."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import dkim
import pytest

from tests.builders import delivery_report, make_message, securejoin_request
from tests.e2e import wire
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import FederatedRelay, Network, Signer
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.peers import HttpPeer
from tests.e2e.raw import forget_peak, peak_kib, resident_kib
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.relay import wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.users import REPORT_S, Report, Said, User, by_https, by_smtp, parse, post

PEER = "peer.test"
CAROL = f"carol@{PEER}"
MIB = 1024 * 1024
DOORS = [pytest.param(by_smtp, id="smtp"), pytest.param(by_https, id="https")]
STATUS = {
    "250 2.0.0": (200,),
    "451 4.7.5": (503,),
    "554 5.7.1": (400,),
    "554 5.6.0": (400,),
    "500 5.7.1": (400,),
    "554 5.4.6": (400,),
    "550 5.7.1": (403, 404),
    "523 5.7.1": (403,),
    "552 5.3.4": (413,),
}
"""Replies in SMTP form with the HTTP statuses that carry them (policy.md 1.11)."""

A_HUNDRED_AND_ONE = [("X-Mail-To", f"user{at:05}@a.test") for at in range(101)]

both_doors = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def signer(net: Network) -> Signer:
    net.publish(PEER, net.new_address())
    return net.signer(PEER)


@pytest.fixture
def bob(relay: FederatedRelay) -> User:
    return User.of(relay)


def expect(said: Said, line: str) -> None:
    """See that a door said this, by the right status if it is the web's."""
    assert said.line.startswith(line), said
    if said.status:
        assert said.status in STATUS[said.line[:9]], said


# --- what is taken -----------------------------------------------------------------------------


@both_doors
def test_signed_mail_arrives_without_its_traces(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    fields = [("Received", "from [192.0.2.1] by mx"), ("Authentication-Results", "mx; none")]
    message_id, octets = fresh(fields=fields)
    expect(hand(door, relay, CAROL, [bob.address], signer.sign(octets)), "250 2.0.0")
    head, _, body = bob.await_message(message_id).partition(b"\r\n\r\n")
    assert body == octets.partition(b"\r\n\r\n")[2]
    for name in (b"received:", b"dkim-signature:", b"authentication-results:"):
        assert name not in head.lower()


def fresh(sender: str = CAROL, size: int = 1000, **options: object) -> tuple[str, bytes]:
    """A message with a Message-ID of its own."""
    message_id = wire.encrypted(sender, 10)[0]
    return message_id, make_message(sender=sender, size=size, message_id=message_id, **options)


def hand(
    door: object, relay: FederatedRelay, sender: str, recipients: Sequence[str], octets: bytes
) -> Said:
    assert callable(door)
    said = door(relay, sender, recipients, octets)
    assert isinstance(said, Said)
    return said


@both_doors
@pytest.mark.parametrize("canonicalize", ["relaxed/simple", "simple/simple", "relaxed/relaxed"])
def test_every_canonicalisation_is_understood(
    door: object, relay: FederatedRelay, signer: Signer, bob: User, canonicalize: str
) -> None:
    _, octets = fresh()
    signed = signer.sign(octets, canonicalize=canonicalize)
    expect(hand(door, relay, CAROL, [bob.address], signed), "250 2.0.0")


@both_doors
def test_a_join_request_is_taken_in_clear(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    octets = signer.sign(securejoin_request(sender=CAROL))
    expect(hand(door, relay, CAROL, [bob.address], octets), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_the_second_signature_may_be_the_one_that_counts(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    other = net.signer("list.test")
    _, octets = fresh()
    signed = other.sign(signer.sign(octets))
    expect(hand(door, relay, "bounces@list.test", [bob.address], signed), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_a_literal_needs_no_signature(door: object, relay: FederatedRelay, bob: User) -> None:
    """H25, B5.6."""
    sender = "carol@[192.0.2.9]"
    _, octets = fresh(sender)
    expect(hand(door, relay, sender, [bob.address], octets), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_a_signed_bounce_arrives_reduced(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H28, T-10: with the null sender; the original's body is gone."""
    report = signer.sign(delivery_report(sender=f"MAILER-DAEMON@{PEER}"))
    expect(hand(door, relay, "", [bob.address], report), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)
    [octets] = bob.inbox()
    assert b"BEGIN PGP MESSAGE" not in octets
    assert Report(parse(octets)).about


# --- what is not -------------------------------------------------------------------------------


@both_doors
def test_unsigned_mail_is_refused(door: object, relay: FederatedRelay, bob: User) -> None:
    """H23."""
    sender = "fake@example.org"
    _, octets = fresh(sender)
    expect(hand(door, relay, sender, [bob.address], octets), "554 5.7.1 No DKIM signature found")
    assert bob.inbox() == []


TAGS: dict[str, dict[str, Any]] = {
    "l=0": {"l": "0", "body": b""},
    "l=10": {"l": "10", "body": b"\r\n--18c7a0"},
    "no from": {"h": "to:subject:date:message-id"},
    "expired": {"t": "1000000000", "x": "1000003600"},
    "foreign i": {"i": "@elsewhere.test"},
    "i below a strict key": {"i": f"@sub.{PEER}"},
    "sha1": {"a": "rsa-sha1"},
}
KINDS = [
    "subdomain",
    "garbage",
    "second_from",
    "no_key",
    "fifty",
    "body",
    "subject",
    "revoked",
    "weak",
    "old",
]
NONE, INVALID = "554 5.7.1 No DKIM signature found", "554 5.7.1 No valid DKIM signature found"


@both_doors
@pytest.mark.parametrize("kind", [*KINDS, *TAGS])
def test_a_signature_that_does_not_hold_is_refused(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User, kind: str
) -> None:
    """H24, B5.1, B5.2."""
    octets, expected = broken(net, signer, kind)
    expect(hand(door, relay, CAROL, [bob.address], octets), expected)
    assert bob.inbox() == []


def broken(net: Network, signer: Signer, kind: str) -> tuple[bytes, str]:
    """A message with a signature that is not worth it, and what has to be said."""
    _, octets = fresh()
    match kind:
        case "subdomain":
            return net.signer(f"sub.{PEER}").sign(octets), NONE
        case "garbage":
            return b"DKIM-Signature: v=1; d=peer.test; ;;=;\xc3\x28 b=\r\n" + octets, "554 5."
        case "second_from":
            return b"From: mallory@example.org\r\n" + signer.sign(octets), "554 5.6.0"
        case "no_key":
            return Signer(PEER, "missing").sign(octets), INVALID
        case "fifty":
            field = (
                b"DKIM-Signature: v=1; a=rsa-sha256; d=peer.test; s=x%d; h=from; bh=AA; b=AA\r\n"
            )
            return b"".join(field % at for at in range(50)) + octets, INVALID
        case "body":
            return signer.sign(octets) + b"\r\n \r\n", INVALID
        case "subject":
            changed = signer.sign(octets).replace(b"\r\nSubject: [...]", b"\r\nSubject: [....]")
            return changed, INVALID
        case "revoked" | "weak" | "old":
            return _with_key(net, kind, octets), INVALID
    return signer.sign_with(octets, **TAGS[kind]), INVALID


def _with_key(net: Network, kind: str, octets: bytes) -> bytes:
    signer = Signer(PEER, kind, pem=weak_key() if kind == "weak" else b"")
    records = {"revoked": "v=DKIM1;k=rsa;p=", "weak": signer.record, "old": "v=DKIM0;k=none"}
    net.dns.zone.put_txt(signer.name, records[kind])
    return signer.sign(octets)


def weak_key() -> bytes:
    """An RSA key of 768 bits."""
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_the_hand_made_signatures_would_hold(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """What is refused above is refused for its tags, not for a mistake in the making."""
    later = str(int(time.time()) + 3600)
    for tags in ({}, {"x": later}, {"i": f"@{PEER}"}):
        _, octets = fresh()
        signed = signer.sign_with(octets, **tags)
        expect(by_smtp(relay, CAROL, [bob.address], signed), "250 2.0.0")


@both_doors
def test_our_own_name_is_refused_signed_or_not(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H25: in the header or in the envelope, whatever has signed it."""
    _, octets = fresh("mallory@a.test")
    for message in (octets, signer.sign(octets)):
        expect(hand(door, relay, CAROL, [bob.address], message), "550 5.7.1 Sender domain is local")
    _, octets = fresh()
    said = hand(door, relay, "mallory@a.test", [bob.address], signer.sign(octets))
    expect(said, "550 5.7.1 Sender domain is local")
    assert bob.inbox() == []


@both_doors
def test_cleartext_is_refused_before_anything_costs(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H26: no DNS query is made, and known and unknown names hear the same."""
    octets = signer.sign(make_message(sender=CAROL, encrypted=False))
    net.dns.zone.forget_queries()
    said = {
        hand(door, relay, CAROL, [name], octets)
        for name in (bob.address, "nobody123@a.test", "admin@a.test")
    }
    assert len(said) == 1
    expect(said.pop(), "523 5.7.1 Encryption Needed: Invalid Unencrypted Mail")
    assert not net.dns.zone.asked(signer.name)


@both_doors
@pytest.mark.parametrize(
    ("sender", "octets", "expected"),
    [
        pytest.param(
            CAROL, make_message(sender=CAROL, without=["From"]), "500 5.7.1", id="no-from"
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("From", f"{CAROL}, x@y.test")]),
            "500 5.7.1",
            id="two-authors",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("Date", "1"), ("date", "2")]),
            "554 5.6.0",
            id="two-dates",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("Received", "from a by b")] * 51),
            "554 5.4.6",
            id="loop",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("X-Long", "x" * 70000)]),
            "554 5.6.0",
            id="long",
        ),
        pytest.param("", delivery_report(sender=f"MAILER-DAEMON@{PEER}"), NONE, id="fake-bounce"),
    ],
)
def test_malformed_or_forged_mail_is_refused(
    door: object, relay: FederatedRelay, bob: User, sender: str, octets: bytes, expected: str
) -> None:
    expect(hand(door, relay, sender, [bob.address], octets), expected)
    assert bob.inbox() == []


@both_doors
def test_nothing_is_relayed(
    door: object, relay: FederatedRelay, signer: Signer, net: Network
) -> None:
    """H29."""
    _, octets = fresh()
    said = hand(door, relay, CAROL, ["dave@elsewhere.test"], signer.sign(octets))
    expect(said, "550 5.7.1 Relaying denied")
    assert said.status in (0, 404)
    assert not net.dns.zone.asked("elsewhere.test")


def test_of_mixed_recipients_the_local_ones_are_served(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    message_id, octets = fresh()
    said = by_https(relay, CAROL, ["dave@elsewhere.test", bob.address], signer.sign(octets))
    expect(said, "250 2.0.0")
    bob.await_message(message_id)


@both_doors
def test_a_denied_domain_is_refused(
    door: object, net: Network, relay: FederatedRelay, bob: User
) -> None:
    domain = f"denied-{'web' if door is by_https else 'mail'}.test"
    _, octets = fresh(f"x@{domain}")
    signed = net.signer(domain).sign(octets)
    relay.run("federation", "policy", "block", domain)
    # From the envelope, and from the header alone.
    for sender in (f"x@{domain}", CAROL):
        expect(hand(door, relay, sender, [bob.address], signed), "550 5.7.1 Policy Rejection")
    relay.run("federation", "policy", "remove", domain)
    expect(hand(door, relay, f"x@{domain}", [bob.address], signed), "250 2.0.0")


@both_doors
def test_a_key_that_cannot_be_had_is_a_reason_to_wait(
    door: object, net: Network, relay: FederatedRelay, bob: User
) -> None:
    """H33."""
    domain = f"wait-{'web' if door is by_https else 'mail'}.test"
    signer = net.signer(domain)
    message_id, octets = fresh(f"x@{domain}")
    with net.dns.zone.trouble(Trouble.SERVFAIL, signer.name):
        said = hand(door, relay, f"x@{domain}", [bob.address], signer.sign(octets))
        expect(said, "451 4.7.5 DKIM key not available, try again later")
    wait_until(
        "the failure is forgotten",
        lambda: hand(door, relay, f"x@{domain}", [bob.address], signer.sign(octets)).code == 250,
        70,
    )
    bob.await_message(message_id)


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
