"""Delivery reports: what is left of one after its reduction."""

from __future__ import annotations

import email
import email.policy

import pytest

from chatmail.domain.formats.report_form import minimise_report
from tests.builders import (
    BOUNDARY,
    REPORT_STATUS,
    delivery_report,
    make_message,
    multipart,
    part,
    report_body,
    wrap,
)
from tests.unit.domain.scanning import scan

ORIGINAL = make_message(message_id="<the-one@localhost>", size=9000)


def parts(report: bytes) -> list[tuple[str, bytes]]:
    """Read a report with the standard library."""
    message = email.message_from_bytes(report, policy=email.policy.SMTP)
    payload = message.get_payload()
    assert isinstance(payload, list)
    found = []
    for one in payload:
        assert isinstance(one, email.message.Message)
        found.append((one.get_content_type(), one.as_bytes().split(b"\r\n\r\n", 1)[1]))
    return found


def test_original_shrinks_to_its_header_block() -> None:
    reduced = minimise_report(delivery_report(body=report_body(original=ORIGINAL)))
    kinds = [kind for kind, _ in parts(reduced)]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert b"Message-ID: <the-one@localhost>" in parts(reduced)[2][1]
    assert b"PGP" not in reduced
    assert b"MIME-encapsulated" not in reduced


def test_header_of_the_report_and_status_stay_octet_for_octet() -> None:
    report = delivery_report()
    reduced = minimise_report(report)
    end = report.index(b"\r\n\r\n") + 4
    assert reduced[:end] == report[:end]
    assert REPORT_STATUS in reduced


def test_reduced_report_is_a_report_and_stays_as_it_is() -> None:
    reduced = minimise_report(delivery_report(body=report_body(original=ORIGINAL)))
    assert scan(reduced).report is None
    assert minimise_report(reduced) == reduced


def test_text_is_cut_at_a_line_of_4_kib() -> None:
    text = b"0123456789abcdef\r\n" * 400
    reduced = minimise_report(delivery_report(body=report_body(text=text)))
    kept = reduced.count(b"0123456789abcdef\r\n")
    assert 4096 - 18 - 18 <= 18 * kept <= 4096
    unbroken = minimise_report(delivery_report(body=report_body(text=b"x" * 9000)))
    assert unbroken.count(b"x" * 4096) == 1
    assert b"x" * 4097 not in unbroken


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"Message-ID: <1>\r\n", True),
        (b"Message-ID: <1>\r\n\r\nsecret", True),
        (b"Message-ID: <1>\r\nsecret text\r\nmore\r\n", True),
        (b"secret text", False),
        (b"", False),
    ],
)
def test_nothing_but_header_fields_is_kept(content: bytes, kept: bool) -> None:
    reduced = minimise_report(delivery_report(body=report_body(original=content)))
    assert (b"Message-ID: <1>\r\n" in reduced) == kept
    assert b"secret" not in reduced
    assert scan(reduced).report is None


def test_encoded_original_is_decoded_first() -> None:
    body = multipart(
        part(b"text", "Content-Type: text/plain"),
        part(REPORT_STATUS, "Content-Type: message/delivery-status"),
        part(
            wrap("Subject: Grüße\r\nMessage-ID: <1>\r\n\r\nsecret".encode()),
            "Content-Type: message/global",
            "Content-Transfer-Encoding: base64",
        ),
    )
    reduced = minimise_report(delivery_report(body=body))
    assert "Subject: Grüße\r\nMessage-ID: <1>\r\n".encode() in reduced
    assert b"Content-Transfer-Encoding: 8bit" in reduced


def test_report_without_original() -> None:
    body = multipart(
        part(b"text", "Content-Type: text/plain"),
        part(REPORT_STATUS, "Content-Type: message/delivery-status"),
    )
    assert len(parts(minimise_report(delivery_report(body=body)))) == 2


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"no header",
        make_message(),
        delivery_report(body=report_body()[:-6]),
        delivery_report().replace(b"multipart/report;", b"multipart/report (x);"),
        delivery_report().replace(f'boundary="{BOUNDARY}"'.encode(), b"x=y", 1),
    ],
)
def test_anything_else_comes_back_as_it_is(octets: bytes) -> None:
    assert minimise_report(octets) == octets
