"""DATA: where it ends, what may be in it, what becomes of it, what is left of half a message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import SMTP

import pytest

from tests.builders import (
    CONTROL_PART,
    armor,
    encrypted_body,
    make_message,
    multipart,
    packets,
    part,
    payload_part,
)
from tests.e2e import mailbox, wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import await_messages, count, messages, newcomer
from tests.e2e.rawsmtp import RawSmtp, submitter
from tests.e2e.relay import Relay, wait_until

LIMIT = 31457280
PLAIN_SENDER = "plaintext@[127.0.0.1]"
REMOTE = "carol@example.net"
BAD_LINE = "554 5.6.0 Bare CR, LF or NUL not allowed"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    gate = {"passthrough_senders": f'["{PLAIN_SENDER}"]'}
    with running(tmp_path_factory.mktemp("content"), gate=gate) as relay:
        yield relay


@pytest.fixture
def alice(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


@pytest.fixture
def bob(relay: Relay) -> tuple[str, str]:
    return newcomer(relay)


@pytest.fixture(scope="module")
def typist(relay: Relay) -> tuple[str, str]:
    """Somebody whose plain text passes, so that tests see their own octets again."""
    account = (PLAIN_SENDER, "any password will do")
    wire.imap(relay, *account).logout()
    return account


# --- smuggling -----------------------------------------------------------------------------------

ENDS = {
    "LF dot LF": b"\n.\n",
    "CR dot CR": b"\r.\r",
    "LF dot CRLF": b"\n.\r\n",
    "CRLF dot LF": b"\r\n.\n",
    "CRLF dot CR": b"\r\n.\r",
    "CR dot CRLF": b"\r.\r\n",
    "CRLF dot CR CRLF": b"\r\n.\r\r\n",
    "CRLF NUL dot CRLF": b"\r\n\x00.\r\n",
    "CRLF dot NUL CRLF": b"\r\n.\x00\r\n",
    "CR CR LF dot CR CR LF": b"\r\r\n.\r\r\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_no_other_end_of_data_smuggles_a_message(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], end: bytes
) -> None:
    sender = alice[0]
    with submitter(relay, alice) as client:
        assert client.envelope(sender, [bob[0]]).code == 354
        client.send(_smuggled(end, sender, bob[0]))
        assert client.reply().whole == BAD_LINE
        assert client.is_closed()
    assert count(relay, bob) == 0
    with RawSmtp(relay, "smtp").secure() as client:
        assert client.envelope(REMOTE, [bob[0]]).code == 354
        client.send(_smuggled(end, REMOTE, bob[0]))
        assert client.reply().whole == BAD_LINE
        assert client.is_closed()
    assert count(relay, bob) == 0


def _smuggled(end: bytes, sender: str, recipient: str) -> bytes:
    first = wire.encrypted(sender)[1].removesuffix(b"\r\n")
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    return first + end + envelope + wire.encrypted(sender)[1] + b".\r\n"


# --- dots, octets, lines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b".\r\n",
        b".\r\n.\r\n..\r\n...\r\n.x\r\n. \r\nx.\r\n\r\n.\r\n",
        bytes(octet for octet in range(1, 256) if octet not in (10, 13)) + b"\r\n",
        b"x" * 10_000 + b"\r\n" + b"." * 10_000 + b"\r\n",
        b"trailing spaces   \r\n\ttabs\t\r\n \r\n",
        b"no line end at the end of a line\r\n" * 9000 + b"." * 70_000 + b"\r\n",
    ],
    ids=["one dot", "dots", "every octet", "long lines", "blanks", "spooled"],
)
def test_content_comes_back_octet_for_octet(
    relay: Relay, typist: tuple[str, str], bob: tuple[str, str], body: bytes
) -> None:
    octets = make_message(sender=PLAIN_SENDER, encrypted=False, body=body)
    with submitter(relay, typist) as client:
        assert client.submit(PLAIN_SENDER, [bob[0]], octets).code == 250
        assert client.submit(PLAIN_SENDER, [bob[0]], octets).code == 250
    first, second = messages(relay, bob)
    assert first == second == octets


def test_the_very_first_line_may_begin_with_a_dot(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    octets = make_message(sender=alice[0], fields=[(".Dotted", "1"), ("..Twice", "2")])
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], [bob[0]], octets).code == 250
    assert messages(relay, bob) == [octets]


# --- half a message ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_000, 900_000], ids=["in memory", "spooled"])
@pytest.mark.parametrize("last", [b"", b"\r\nQUIT\r\n", b"\r\n", b"\r\n.", b"\r\n.\r"])
def test_half_a_message_leaves_nothing(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], size: int, last: bytes
) -> None:
    octets = wire.encrypted(alice[0], size)[1]
    with submitter(relay, alice) as client:
        assert client.envelope(alice[0], [bob[0]]).code == 354
        client.send(octets[: len(octets) // 2] + last)
        if size > 500_000:
            wait_until("it is spooled", lambda: mailbox.spooled(relay))
    wait_until("the spool is empty", lambda: not mailbox.spooled(relay))
    assert count(relay, bob) == 0
    assert count(relay, alice) == 0


def test_refused_and_stored_messages_leave_no_spool_file(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    octets = wire.encrypted(alice[0], 600_000)[1]
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], ["nobody123@[127.0.0.1]"], octets).code == 550
        faked = octets.replace(b"-----END", b"hello!\r\n-----END")
        assert client.submit(alice[0], [bob[0]], faked).code == 523
        assert client.submit(alice[0], [bob[0]], octets).code == 250
        wait_until("the spool is empty", lambda: not mailbox.spooled(relay))
    assert count(relay, bob) == 1


# --- size ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_body() -> bytes:
    """An encrypted body a little below the size limit."""
    return encrypted_body(armor(packets(LIMIT * 64 // 66 * 3 // 4 - 6_000)))


def _sized(sender: str, body: bytes, size: int) -> bytes:
    """Return a message of exactly this size: header lines fill it up."""
    bare = make_message(sender=sender, body=body)
    missing = size - len(bare)
    fields = []
    while missing:
        octets = min(missing, 900) if missing - min(missing, 900) not in range(1, 10) else 800
        fields.append((f"X-{len(fields):02}", "x" * (octets - 8)))
        missing -= octets
    octets_whole = make_message(sender=sender, body=body, fields=fields)
    assert len(octets_whole) == size
    return octets_whole


def test_the_size_limit_is_exact_and_leaves_the_session(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], large_body: bytes
) -> None:
    sender = alice[0]
    too_big = "552 5.3.4 message file too big"
    with submitter(relay, alice) as client:
        assert client.command(f"MAIL FROM:<{sender}> SIZE={LIMIT + 1}").whole == too_big
        assert (
            client.submit(sender, [bob[0]], _sized(sender, large_body, LIMIT + 1)).whole == too_big
        )
        assert client.command(f"MAIL FROM:<{sender}> SIZE={LIMIT}").code == 250
        assert client.command("RSET").code == 250
        assert client.submit(sender, [bob[0]], _sized(sender, large_body, LIMIT)).code == 250
    wait_until("the spool is empty", lambda: not mailbox.spooled(relay))
    with wire.imap(relay, *bob) as reader:
        assert reader.select("INBOX")[1] == [b"1"]
        size = int(re.search(rb"RFC822.SIZE (\d+)", reader.fetch("1", "(RFC822.SIZE)")[1][0])[1])
        assert size == LIMIT
        reader.send(f"X1 APPEND INBOX {{{LIMIT + 1}}}\r\n".encode())
        assert reader.readline() == b"X1 NO [TOOBIG] message file too big\r\n", "before the literal"


def test_twice_the_size_limit_is_not_waited_for(
    relay: ConfiguredRelay, alice: tuple[str, str]
) -> None:
    relay.reload(limits={"max_message_size": '"100K"'})
    try:
        with submitter(relay, alice) as client:
            assert "SIZE 102400" in client.ehlo().lines
            assert client.envelope(alice[0], [alice[0]]).code == 354
            client.send(make_message(sender=alice[0], size=30_000)[:-100])
            client.send(b"x" * 4_000 + b"\r\n" + b"y" * 250_000)
            assert client.reply().whole == "552 5.3.4 message file too big"
            assert client.is_closed()
        with RawSmtp(relay, "smtp").secure() as client:
            assert "SIZE 102400" in client.ehlo().lines
            assert client.command("MAIL FROM:<> SIZE=102401").code == 552
    finally:
        relay.reload(limits={})


# --- header --------------------------------------------------------------------------------------

UNWANTED = {
    "Received": "from [10.9.8.7] by client.example; Tue, 18 Nov 2025 09:21:17 +0000",
    "X-Originating-IP": "[10.9.8.7]",
    "X-Mailer": "Secret Mailer 1.0",
    "User-Agent": "Secret Agent 007",
    "Bcc": "hidden@example.org",
    "Resent-From": "resent@example.org",
    "DKIM-Signature": "v=1; d=example.org",
    "Authentication-Results": "mx.example.org; dkim=pass",
    "ARC-Seal": "i=1; d=example.org",
    "Return-Path": "<return@example.org>",
    "Delivered-To": "delivered@example.org",
}


def test_the_header_is_cleaned_for_the_recipient(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    inner = ('Content-Type: application/octet-stream; name="X-Mailer: inner"',)
    body = multipart(
        CONTROL_PART,
        payload_part(
            armor(packets(300)), *inner, "Content-Description: Received: kept in the part"
        ),
    )
    fields = [
        ("User-Agent", "again"),
        *UNWANTED.items(),
        ("Received", "twice,\r\n\tfolded over from [10.9.8.7]"),
        ("Subject", "The plan for tomorrow,\r\n in two lines"),
        ("X-Kept", "as it is"),
    ]
    octets = make_message(sender=alice[0], fields=fields, body=body)
    with submitter(relay, alice) as client:
        assert client.command("EHLO canary-helo.example").code == 250
        assert client.submit(alice[0], [bob[0], alice[0]], octets).code == 250
    stored = messages(relay, bob)
    assert messages(relay, alice) == stored, "the same edits for everybody"
    header, _, content = stored[0].partition(b"\r\n\r\n")
    parsed = message_from_bytes(stored[0])
    assert not set(UNWANTED) & set(parsed.keys())
    assert header.splitlines().count(b"Subject: [...]") == 1
    assert b"tomorrow" not in header
    assert b"two lines" not in header
    assert parsed["X-Kept"] == "as it is"
    for secret in (b"10.9.8.7", b"127.0.0.1", b"Secret", b"canary-helo"):
        assert secret not in header.replace(alice[0].encode(), b"")
    assert content == body, "part headers and body are untouched"


def test_no_subject_is_invented_and_missing_fields_are_added(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    octets = make_message(sender=alice[0], without=("Subject", "Message-ID", "Date"))
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], [bob[0]], octets).code == 250
        assert client.submit(alice[0], [bob[0]], octets).code == 250
    first, second = (message_from_bytes(m, policy=SMTP) for m in messages(relay, bob))
    assert first["Subject"] is None
    assert re.fullmatch(r"<\S+@\S+>", first["Message-ID"])
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Date"].datetime is not None


@pytest.mark.parametrize(
    "broken",
    [
        lambda octets: octets.replace(b"Chat-Version: 1.0", b"Chat-Version: 1\0"),
        lambda octets: octets.replace(b"\r\n\r\n", b"\r\n\r\n\0", 1),
        lambda octets: octets.replace(b"-----END", b"\0-----END"),
        lambda octets: octets + b"\0",
    ],
    ids=["header", "preamble", "armor", "epilogue"],
)
def test_nul_is_refused_everywhere(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str], broken: object
) -> None:
    assert callable(broken)
    octets = broken(wire.encrypted(alice[0])[1])
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], [bob[0]], octets).whole == BAD_LINE
        assert client.is_closed()
    with wire.imap(relay, *alice) as owner:
        answer = mailbox.append(owner, octets)
        assert answer == b"NO [CANNOT] Bare CR, LF or NUL not allowed"
        assert owner.noop()[0] == "OK"
    assert count(relay, alice) == count(relay, bob) == 0


def test_append_mends_bare_lf_and_edits_nothing_else(relay: Relay, alice: tuple[str, str]) -> None:
    fields = [("User-Agent", "kept"), ("Subject", "kept"), ("Received", "kept")]
    octets = make_message(sender=alice[0], fields=fields)
    with wire.imap(relay, *alice) as owner:
        assert mailbox.append(owner, octets).startswith(b"OK [APPENDUID ")
        assert mailbox.append(owner, octets.replace(b"\r\n", b"\n")).startswith(b"OK")
    assert messages(relay, alice) == [octets, octets]


def test_parts_the_relay_does_not_know_pass_untouched(
    relay: Relay, alice: tuple[str, str], bob: tuple[str, str]
) -> None:
    control = part(b"Version: 1\r\n\r\n", "content-type: APPLICATION/PGP-Encrypted")
    octets = make_message(
        sender=alice[0], body=multipart(control, payload_part(armor(packets(300))), epilogue=b"")
    )
    with submitter(relay, alice) as client:
        assert client.submit(alice[0], [bob[0]], octets).code == 250
    assert await_messages(relay, bob, 1) == [octets]
