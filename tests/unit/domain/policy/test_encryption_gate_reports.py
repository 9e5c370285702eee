"""Plaintext that passes: delivery reports of other relays and our own."""

from __future__ import annotations

from typing import Any

import pytest

from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import Accept, AcceptedKind, RefusalReason
from chatmail.domain.policy.encryption_gate import DkimResult
from tests.builders import (
    ALICE,
    BOB,
    REPORT_STATUS,
    delivery_report,
    envelope,
    make_message,
    multipart,
    part,
    report_body,
)
from tests.unit.domain.policy.judging import DAEMON, INB, accepted, refused
from tests.unit.domain.scanning import outcome

BOUNCE: dict[str, Any] = {"envelope": envelope(None, BOB)}
GOOD_REPORTS = {
    "postfix": delivery_report(),
    "postmaster": delivery_report(sender="Postmaster@example.net"),
    "no report-type": delivery_report().replace(b"report-type=delivery-status;", b""),
    "two parts": delivery_report(
        body=multipart(
            part(b"text", "Content-Type: text/plain"),
            part(REPORT_STATUS, "Content-Type: message/global-delivery-status"),
        )
    ),
    "headers": delivery_report(
        body=report_body().replace(b"message/rfc822", b"text/rfc822-headers")
    ),
    "8-bit text": delivery_report(body=report_body(text="Empfänger unbekannt".encode())),
    "90 kB original": delivery_report(
        body=report_body(original=make_message(encrypted=False, text="long " * 18_000))
    ),
}


@pytest.mark.parametrize("message", GOOD_REPORTS.values(), ids=GOOD_REPORTS.keys())
def test_x_dsn_reports_of_relays_pass(message: bytes) -> None:
    assert outcome(message, INB, **BOUNCE) == "bounce"
    assert outcome(message, INB, envelope=envelope(DAEMON, BOB)) == "bounce"


@pytest.mark.parametrize(("size", "passes"), [(100 * 1024, True), (100 * 1024 + 1, False)])
def test_x_dsn4_reports_of_up_to_100_kib_pass(size: int, passes: bool) -> None:
    original = make_message(size=300)
    missing = size - len(delivery_report(body=report_body(original=original)))
    filler = b"x" * (missing % 64) + (b"\r\n" + b"x" * 62) * (missing // 64)
    message = delivery_report(body=report_body(original=original + filler))
    assert len(message) == size
    assert (outcome(message, INB, **BOUNCE) == "bounce") is passes


BAD_REPORTS = {
    "X-DSN2 author": delivery_report(sender="xmailer-daemon@example.net"),
    "X-DSN2 author suffix": delivery_report(sender="mailer-daemonx@example.net"),
    "X-DSN2 not automatic": delivery_report(without=["Auto-Submitted"]),
    "X-DSN2 no": delivery_report(fields=[("Auto-Submitted", "no")]),
    "X-DSN2 no, with comment": delivery_report(fields=[("Auto-Submitted", "No; x=y")]),
    "X-DSN2 empty": delivery_report(fields=[("Auto-Submitted", "")]),
    "X-DSN3 read receipt": delivery_report().replace(
        b"report-type=delivery-status", b"report-type=disposition-notification"
    ),
    "X-DSN3 kind in the body only": delivery_report().replace(
        b"Content-Type: multipart/report", b"Content-Type: multipart/mixed"
    ),
    "X-DSN3 html": delivery_report(body=report_body().replace(b"text/plain", b"text/html")),
    "X-DSN3 long text": delivery_report(body=report_body(text=b"x" * 16385)),
    "X-DSN3 long status": delivery_report(
        body=report_body().replace(REPORT_STATUS, REPORT_STATUS * 120)
    ),
    "X-DSN3 attachment": delivery_report(
        body=report_body().replace(b"message/rfc822", b"application/octet-stream")
    ),
    "X-DSN3 four parts": delivery_report(
        body=report_body(part(b"more", "Content-Type: text/plain"))
    ),
    "X-DSN3 one part": delivery_report(body=multipart(part(b"x", "Content-Type: text/plain"))),
    "X-DSN3 long preamble": delivery_report(
        body=report_body().replace(b"This is a MIME", b"secret " * 150)
    ),
    "X-DSN3 not closed": delivery_report(body=report_body()[:-6]),
    "X-DSN4 size": delivery_report(
        body=report_body(original=make_message(encrypted=False, text="long " * 21_000))
    ),
}


@pytest.mark.parametrize("message", BAD_REPORTS.values(), ids=BAD_REPORTS.keys())
def test_x_dsn_anything_else_is_plaintext(message: bytes) -> None:
    assert refused(message, INB, **BOUNCE).reason is RefusalReason.ENCRYPTION_NEEDED


@pytest.mark.parametrize(
    "paths",
    [
        envelope("carol@example.net", BOB),
        envelope("xmailer-daemon@example.net", BOB),
        envelope(None, BOB, "alice0001@example.org"),
        envelope(None, "someone@example.net"),
    ],
    ids=["person", "name contains", "two recipients", "remote recipient"],
)
def test_x_dsn1_wrong_envelopes(paths: Any) -> None:
    assert outcome(delivery_report(), INB, envelope=paths) == "M-01"


def test_x_dsn4_an_unsigned_report_is_refused() -> None:
    judged = refused(delivery_report(), INB, dkim=DkimResult.NONE, **BOUNCE)
    assert judged.reason is RefusalReason.NO_DKIM


def test_d11_users_never_bounce() -> None:
    message = delivery_report(sender=ALICE)
    assert outcome(message) == "M-01"
    assert outcome(message, settings={"passthrough_senders": frozenset({ALICE})}) == "M-01"


def test_x_dsn6_our_own_reports_are_exempt() -> None:
    judged = accepted(delivery_report(sender="MAILER-DAEMON@example.org"), Door.REPORT)
    assert judged == Accept(AcceptedKind.EXEMPT)
