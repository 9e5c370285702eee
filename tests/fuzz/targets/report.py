"""Delivery reports: those of others are reduced to the same form; ours hold whatever is told."""

from __future__ import annotations

from chatmail.domain.formats.message_scanner import MessageScanner
from chatmail.domain.formats.report_form import minimise_report
from tests.builders import delivery_report, make_message, part, report_body
from tests.fuzz.cutting import read, vector

WORDS = (
    *(b"\r\n--18c7a0c1f2e4b3a9_0_ab12cd34ef56", b"--\r\n", b"\r\n\r\n", b"Content-Type: "),
    *(b"text/plain\r\n", b"message/delivery-status\r\n", b"message/rfc822\r\n", b"text/html\r\n"),
    *(b"text/rfc822-headers\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Message-ID: <x>\r\n"),
    *(b"quoted-printable\r\n", b"=\r\n", b"\xc3\xa4", b"From: x\r\n"),
)
LIMIT = 200_000


def check(data: bytes) -> None:
    """A reduced report is a report, reducing it again changes nothing, no text is added."""
    given = read(data)
    octets = delivery_report(body=given.payload) if given.options & 1 else given.payload
    reduced = minimise_report(octets)
    if _fault(octets) is not None:
        return
    assert _fault(reduced) is None
    assert minimise_report(reduced) == reduced
    assert len(reduced) <= len(octets) + 200
    header = octets.index(b"\r\n\r\n") + 4
    assert reduced[:header] == octets[:header]
    for line in reduced.split(b"\r\n"):
        assert b"\r" not in line
        assert b"\n" not in line


def _fault(octets: bytes) -> str | None:
    scanner = MessageScanner(max_bytes=LIMIT)
    scanner.feed(octets)
    facts = scanner.finish()
    return facts.report if facts.header_fault.inbound is None else "header"


VECTORS = (
    vector(delivery_report()),
    vector(report_body(), 1),
    vector(report_body(text=b"long line\r\n" * 500), 1),
    vector(report_body(original=b"Message-ID: <x>\r\nno field\r\n\r\nbody"), 1),
    vector(report_body(original=b"Subject: \xc3\xa4\r\n\r\n"), 1),
    vector(report_body(part(b"x", "Content-Type: text/html")), 1),
    vector(make_message(), 0),
)
