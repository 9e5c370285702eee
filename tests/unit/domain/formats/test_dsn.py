"""Delivery reports have the shape that Delta Chat core reads."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from chatmail.domain.formats.dsn import FailedDelivery, Report, render
from chatmail.domain.model.address import EmailAddress

HEADER = b"From: <a@d.org>\r\nMessage-ID: <original@d.org>\r\nSubject: [...]\r\n\r\n"


def report(*failed: FailedDelivery) -> bytes:
    return render(
        Report(
            mail_domain="d.org",
            hostname="mx.d.org",
            sender=EmailAddress.parse("a@d.org"),
            failed=failed,
            original_header=HEADER,
            arrived_s=1_700_000_000,
            written_s=1_700_000_002,
            message_id="dsn1",
            boundary="b0undary",
        )
    )


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    return message


UNKNOWN = FailedDelivery(
    EmailAddress.parse("x@d.org"), "550 5.1.1 <x@d.org>: Recipient address rejected: User unknown"
)
FULL = FailedDelivery(EmailAddress.parse("y@d.org"), "552 5.2.2 Quota exceeded")


def test_core_finds_sender_parts_and_message() -> None:
    message = parsed(report(UNKNOWN))
    assert "mailer-daemon" in message["From"].lower()
    assert message["Auto-Submitted"] == "auto-replied"
    assert "Undelivered Mail" in message["Subject"]
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    text, status, original = message.iter_parts()
    assert text.get_content().startswith("Could not deliver to x@d.org: 550 5.1.1")
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <original@d.org>" in original.get_content()


def test_status_part_names_every_recipient_in_exact_case() -> None:
    octets = report(UNKNOWN, FULL)
    assert octets.count(b"\r\nAction: failed\r\n") == 2
    assert b"\r\nFinal-Recipient: rfc822; x@d.org\r\n" in octets
    assert b"\r\nStatus: 5.1.1\r\n" in octets
    assert b"\r\nStatus: 5.2.2\r\n" in octets
    assert b"\r\nReporting-MTA: dns; mx.d.org\r\n" in octets


def test_line_ends_are_crlf_throughout() -> None:
    octets = report(UNKNOWN, FULL)
    assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")


def test_peer_text_can_not_inject_lines() -> None:
    octets = report(FailedDelivery(EmailAddress.parse("x@d.org"), "550 no\r\nBcc: <v@w.org>\0ü"))
    assert b"\r\nBcc:" not in octets
    assert b"550 no??Bcc: <v@w.org>??" in octets


def test_text_stays_small_with_a_thousand_recipients() -> None:
    failed = [
        FailedDelivery(EmailAddress.parse(f"user{index}@d.org"), "550 5.1.1 gone" * 20)
        for index in range(1000)
    ]
    text = next(iter(parsed(report(*failed)).iter_parts()))
    assert len(text.get_content()) <= 4096


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("mx.peer.test", "mx.peer.test"),
        ("203.0.113.7", "[203.0.113.7]"),
        ("2001:db8::7", "[IPv6:2001:db8::7]"),
    ],
)
def test_the_relay_that_refused_is_named(host: str, shown: str) -> None:
    octets = report(FailedDelivery(EmailAddress.parse("x@d.org"), "554 5.7.1 no", host))
    assert f"\r\nRemote-MTA: dns; {shown}\r\n".encode() in octets


def test_what_we_refuse_ourselves_names_no_other_relay() -> None:
    assert b"Remote-MTA" not in report(UNKNOWN)
