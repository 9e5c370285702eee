"""Input nobody sends by mistake: odd headers, authors, envelopes, requests and DNS answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

import pytest

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.federation import FederatedRelay, Signer
from tests.e2e.federation_fixtures import bob as bob
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.rawsmtp import RawSmtp
from tests.e2e.strangers import CAROL, both_doors, hand
from tests.e2e.strangers import signer as signer
from tests.e2e.users import User, by_https, post
from tests.e2e.watch import forget_peak, peak_kib, resident_kib

BAD_HEADER = "554 5.6.0 Malformed or oversized header"
BAD_FROM = "500 5.7.1 Invalid FROM "
SPOOFED = "550 5.7.1 Sender domain is local"
UNENCRYPTED = "523 5.7.1 Encryption Needed: Invalid Unencrypted Mail"
TAKEN = "250 2.0.0"


# --- headers -------------------------------------------------------------------------------------

_octets = make_message(sender=CAROL)
_head, _, _body = _octets.partition(b"\r\n\r\n")


def on_top(field: bytes) -> bytes:
    """A message with a field, or what passes for one, in front."""
    return field + b"\r\n" + _octets


HEADERS: dict[str, tuple[bytes, str]] = {
    "P-04-block": (
        on_top(b"\r\n".join(b"X-%d: %b" % (at, b"y" * 900) for at in range(75))),
        BAD_HEADER,
    ),
    "P-04-fields": (on_top(b"\r\n".join(b"X-%d: y" % at for at in range(257))), BAD_HEADER),
    "P-04-field": (on_top(b"X-Long: " + b"\r\n ".join([b"y" * 900] * 40)), BAD_HEADER),
    "P-05-line": (on_top(b"X-Long: " + b"y" * 991), BAD_HEADER),
    "P-06-no-end": (_head + b"\r\n", UNENCRYPTED),
    "P-07-from": (_octets.replace(b"From: ", "From: Käte ".encode(), 1), BAD_HEADER),
    "P-07-message-id": (_octets.replace(b"Message-ID: <", b"Message-ID: <\xc3\xa9", 1), BAD_HEADER),
    "P-07-dkim": (on_top("DKIM-Signature: v=1; d=pe\u00e9r.test".encode()), BAD_HEADER),
    "H-01-no-colon": (on_top(b"this is no field"), BAD_HEADER),
    "H-01-space": (on_top(b"X-Space : y"), BAD_HEADER),
    "H-01-no-name": (on_top(b": y"), BAD_HEADER),
    "H-01-control": (on_top(b"X-\x01: y"), BAD_HEADER),
    "H-02-fold": (on_top(b" folded from nowhere"), BAD_HEADER),
    "H-03-content-type": (on_top(b"Content-Type: text/plain"), BAD_HEADER),
    "H-03-encoding": (
        on_top(b"Content-Transfer-Encoding: 7bit\r\ncontent-transfer-encoding: 7bit"),
        BAD_HEADER,
    ),
    "H-03-mime-version": (on_top(b"MIME-Version: 1.0"), BAD_HEADER),
    "H-03-date": (on_top(b"Date: Sat, 1 Nov 2025 10:00:00 +0000"), BAD_HEADER),
    "H-03-message-id": (on_top(b"Message-ID: <other@peer.test>"), BAD_HEADER),
    "H-03-autocrypt": (on_top(b"Autocrypt: addr=x\r\nAutocrypt: addr=y"), BAD_HEADER),
    "H-03-sender": (on_top(b"Sender: x@peer.test\r\nSender: y@peer.test"), BAD_HEADER),
    "H-05-comment": (
        _octets.replace(b"multipart/encrypted;", b"multipart/encrypted (x);"),
        UNENCRYPTED,
    ),
    "H-06-encoding": (on_top(b"Content-Transfer-Encoding: base64"), UNENCRYPTED),
    "nul": (on_top(b"X-Nul: \0"), "554 5.6.0 Bare CR, LF or NUL not allowed"),
}


@both_doors
@pytest.mark.parametrize("name", list(HEADERS))
def test_a_header_that_breaks_a_rule_is_refused(
    door: object, relay: FederatedRelay, bob: User, name: str
) -> None:
    """Policy 1.2 and 1.3; before anything else is looked at, a signature too."""
    octets, expected = HEADERS[name]
    assert hand(door, relay, CAROL, [bob.address], octets).line.startswith(expected)


@both_doors
@pytest.mark.parametrize(
    "field",
    [b"Subject: again", b"To: x@y.test", b"Cc: a@b.test\r\nCc: c@d.test", b"X-Odd: \xc3\xa9\xff"],
    ids=["subject", "to", "cc", "eight-bit"],
)
def test_what_other_relays_may_do_is_taken(
    door: object, relay: FederatedRelay, signer: Signer, field: bytes
) -> None:
    """H-03, P-07: fields that decide nothing may repeat, and need not be ASCII."""
    user = User.of(relay)
    octets = signer.sign(on_top(field), include_headers=[b"from", b"message-id"])
    assert hand(door, relay, CAROL, [user.address], octets).line.startswith(TAKEN)
    [got] = user.inbox()
    assert field in got


AUTHORS: dict[str, tuple[bytes, str]] = {
    "list": (b"carol@peer.test, dave@peer.test", BAD_FROM),
    "group": (b"friends: carol@peer.test;", BAD_FROM),
    "empty-group": (b"undisclosed: ;", BAD_FROM),
    "route": (b"<@evil.test:carol@peer.test>", BAD_FROM),
    "two-brackets": (b"<carol@peer.test> <dave@a.test>", BAD_FROM),
    "cut-bracket": (b"<carol@peer.test", BAD_FROM),
    "empty": (b"", BAD_FROM),
    "blanks": (b"\r\n ", BAD_FROM),
    "no-domain": (b"carol", BAD_FROM),
    "at-signs": (b"carol@peer.test@a.test", BAD_FROM),
    "comments": (b"((((carol@peer.test", BAD_FROM),
    "ours": (b"eve@a.test", SPOOFED),
    "ours-in-capitals": (b"eve@A.Test", SPOOFED),
    "ours-with-a-dot": (b"eve@a.test.", BAD_FROM),
    "ours-behind-a-name": (b'"carol@peer.test" <eve@a.test>', SPOOFED),
    "ours-behind-a-comment": (b"(carol@peer.test) eve@a.test", SPOOFED),
    "ours-folded": (b"\r\n <eve@a.test>", SPOOFED),
    "below-ours": (b"eve@sub.a.test", "554 5.7.1 No DKIM signature found"),
    "another": (b"eve@elsewhere.test", "554 5.7.1 No DKIM signature found"),
    "name-of-ours": (b'"eve@a.test" <dave@elsewhere.test>', "554 5.7.1 No DKIM signature found"),
}


@both_doors
@pytest.mark.parametrize("name", list(AUTHORS))
def test_an_author_is_one_and_who_signed(
    door: object, relay: FederatedRelay, signer: Signer, bob: User, name: str
) -> None:
    """Policy 1.7: real tokens, whatever the envelope says and whoever has signed it."""
    author, expected = AUTHORS[name]
    _, octets = wire.encrypted(CAROL)
    octets = octets.replace(b"From: <" + CAROL.encode() + b">", b"From: " + author, 1)
    assert b"From: " + author in octets
    with contextlib.suppress(Exception):  # the signing library has its own idea of a header
        octets = signer.sign(octets)
    assert hand(door, relay, CAROL, [bob.address], octets).line.startswith(expected)


def test_nothing_of_all_this_was_stored(bob: User) -> None:
    assert bob.inbox() == []


# --- envelopes -----------------------------------------------------------------------------------


@both_doors
def test_a_recipient_is_one_however_it_is_written(
    door: object, relay: FederatedRelay, signer: Signer
) -> None:
    """Capitals, detail, a dot at the end and twice the same: one copy."""
    user = User.of(relay)
    name, _, domain = user.address.partition("@")
    forms = [user.address, user.address, user.address.upper(), f"{name}+news@{domain}"]
    forms += [f"{name}@{domain}.", f"{name.title()}+@{domain.upper()}"]
    message_id, octets = wire.encrypted(CAROL)
    assert hand(door, relay, CAROL, forms, signer.sign(octets)).line.startswith(TAKEN)
    user.await_message(message_id)


ODD_ADDRESSES = {
    "eight-bit": "bøb@a.test",
    "no-domain": "bob",
    "two-at": "bob@x@a.test",
    "long-local": f"{'b' * 65}@a.test",
    "long": f"bob@{'a.' * 130}test",
    "space": "bob bob@a.test",
    "control": "bob\x01@a.test",
}


@pytest.mark.parametrize("address", ODD_ADDRESSES.values(), ids=list(ODD_ADDRESSES))
def test_what_is_no_address_is_no_recipient(relay: FederatedRelay, address: str) -> None:
    with RawSmtp(relay, "smtp").secure() as client:
        assert client.command(f"MAIL FROM:<{CAROL}>").code == 250
        reply = client.command(f"RCPT TO:<{address}>".encode())
        assert reply.code in (500, 501), reply
        assert client.command("NOOP").code == 250
    headers = [("X-Mail-From", CAROL), ("X-Mail-To", address.encode().decode("latin-1"))]
    with contextlib.suppress(ValueError):  # http.client sends no control characters
        status, body, _ = post(relay, headers, b"")
        assert status == 400
        assert address.encode() not in body


@pytest.mark.parametrize("octet", [b"\0", b"\r", b"\n"], ids=["nul", "cr", "lf"])
def test_an_octet_that_is_in_no_command_ends_the_session(
    relay: FederatedRelay, octet: bytes
) -> None:
    """B1.6."""
    with RawSmtp(relay, "smtp").secure() as client:
        client.send(b"MAIL FROM:<carol" + octet + b"@peer.test>\r\nNOOP\r\n")
        assert client.reply().code == 500
        assert client.is_closed()


# --- requests ------------------------------------------------------------------------------------


def converse(relay: FederatedRelay, octets: bytes, answers: int = 0) -> bytes:
    """Send octets to the web door, and nothing more; returns all that is said.

    Args:  answers: so many are waited for; 0: whatever comes within three seconds.
    """
    plain = socket.create_connection(("127.0.0.1", relay.ports["https"]), 20)
    said = b""
    with (
        wire.tls().wrap_socket(plain) as client,
        contextlib.suppress(ConnectionError, ssl.SSLError),
    ):
        client.sendall(octets)
        client.settimeout(60 if answers else 3)
        with contextlib.suppress(TimeoutError):
            while piece := client.recv(65536):
                said += piece
                if answers and said.count(b"HTTP/1.1 ") == answers and said.endswith(b"\r\n"):
                    break
    return said


def request(bob: User, *fields: str) -> bytes:
    lines = ["POST /mxdeliv HTTP/1.1", "Host: a.test", f"X-Mail-From: {CAROL}"]
    return "\r\n".join([*lines, f"X-Mail-To: {bob.address}", *fields, "", ""]).encode()


def chunked(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(octets), octets)


LIES: dict[str, Callable[[User, bytes], bytes]] = {
    "length-and-chunks": lambda bob, octets: (
        request(bob, f"Content-Length: {len(octets)}", "Transfer-Encoding: chunked")
        + chunked(octets)
    ),
    "two-lengths": lambda bob, octets: (
        request(bob, f"Content-Length: {len(octets)}", "Content-Length: 10") + octets
    ),
    "negative-length": lambda bob, octets: request(bob, "Content-Length: -1") + octets,
    "worded-length": lambda bob, octets: request(bob, "Content-Length: 0x10") + octets,
    "odd-coding": lambda bob, octets: (
        request(bob, "Transfer-Encoding: gzip, chunked") + chunked(octets)
    ),
    "length-too-small": lambda bob, octets: (
        request(bob, f"Content-Length: {len(octets) // 2}") + octets
    ),
    "length-too-large": lambda bob, octets: (
        request(bob, f"Content-Length: {len(octets) + 9}") + octets
    ),
    "chunk-too-small": lambda bob, octets: (
        request(bob, "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(octets) // 2, octets)
    ),
    "chunks-without-end": lambda bob, octets: (
        request(bob, "Transfer-Encoding: chunked") + chunked(octets)[:-5]
    ),
    "two-senders": lambda bob, octets: (
        request(bob, "X-Mail-From: dave@peer.test", f"Content-Length: {len(octets)}") + octets
    ),
    "folded-recipient": lambda bob, octets: (
        request(bob, "X-Mail-To: x@a.test", "\tz@a.test", f"Content-Length: {len(octets)}") + octets
    ),
    "bare-feeds": lambda bob, octets: (
        request(bob, f"Content-Length: {len(octets)}").replace(b"\r\n", b"\n") + octets[:40]
    ),
}


@pytest.mark.parametrize("name", list(LIES))
def test_a_request_that_lies_about_itself_stores_nothing(
    relay: FederatedRelay, signer: Signer, name: str
) -> None:
    bob = User.of(relay)
    _, octets = wire.encrypted(CAROL)
    said = converse(relay, LIES[name](bob, signer.sign(octets)))
    assert b"HTTP/1.1 200 " not in said, said
    assert bob.inbox() == []


def test_requests_in_a_row_are_answered_in_their_order(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """Pipelining: all in one segment; the one that is refused says so in its turn."""
    users = [User.of(relay) for _ in range(3)]
    pieces, ids = [], []
    for user in users:
        message_id, octets = wire.encrypted(CAROL)
        octets = signer.sign(octets) if user is not users[1] else octets
        pieces.append(request(user, f"Content-Length: {len(octets)}") + octets)
        ids.append(message_id)
    said = converse(relay, b"".join(pieces), answers=3)
    statuses = [line.split()[1] for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"200", b"400", b"200"]
    users[0].await_message(ids[0])
    users[2].await_message(ids[2])
    assert users[1].inbox() == []


def test_a_body_in_crumbs_costs_the_neighbours_little(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """One octet a chunk: bounded memory, and others are served meanwhile."""
    user = User.of(relay)  # hashing a password takes memory of its own
    forget_peak(relay)
    before = resident_kib(relay)
    plain = socket.create_connection(("127.0.0.1", relay.ports["https"]), 20)
    message_id, octets = wire.encrypted(CAROL)
    with wire.tls().wrap_socket(plain) as client:
        client.sendall(request(bob, "Transfer-Encoding: chunked"))
        client.sendall(b"1\r\nX\r\n" * 30_000)
        assert by_https(relay, CAROL, [user.address], signer.sign(octets)).line.startswith(TAKEN)
        user.await_message(message_id)
    assert peak_kib(relay) - before < 16 * 1024
