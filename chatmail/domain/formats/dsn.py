"""Delivery status reports (RFC 3464) in the shape Delta Chat core reads.

Core finds the failed message by the Message-ID in part 3, compares `Action: failed` letter by
letter and shows part 1 to the user. Source: federation-web.md A10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

import attrs

from chatmail.domain.model.address import EmailAddress

_MAX_TEXT_OCTETS: Final = 4096
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")


@attrs.frozen
class FailedDelivery:
    """One recipient of a report: `diagnostic` is an SMTP reply, `550 5.1.1 text`.

    `host` is who gave it: a name or a bare IP address; "" is this relay.
    """

    recipient: EmailAddress
    diagnostic: str
    host: str = ""


@attrs.frozen(kw_only=True)
class Report:
    """What a report says. Times are unix seconds, UTC."""

    mail_domain: str
    hostname: str
    sender: EmailAddress
    failed: Sequence[FailedDelivery]
    original_header: bytes
    arrived_s: int
    written_s: int
    message_id: str
    boundary: str


def render(report: Report) -> bytes:
    """Return the whole report message, CRLF lines, 7-bit but for what the quoted header holds.

    Only the original header block is quoted, never the body.
    Source:  RFC 3464 §2; federation-web.md A10.1, A10.2.
    """
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.mail_domain}>",
        f"To: <{report.sender}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {_date(report.written_s)}",
        f"Message-ID: <{report.message_id}@{report.mail_domain}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{report.boundary}"',
        "",
        f"--{report.boundary}",
        "Content-Type: text/plain; charset=utf-8",
        "",
        *_text(report.failed),
        f"--{report.boundary}",
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {report.hostname}",
        f"Arrival-Date: {_date(report.arrived_s)}",
    ]
    for failure in report.failed:
        lines += ["", *_status_block(failure, report.written_s)]
    lines += ["", f"--{report.boundary}", "Content-Type: text/rfc822-headers", "", ""]
    head = "\r\n".join(lines).encode("ascii", "replace")
    quoted = report.original_header.removesuffix(b"\r\n")
    return head + quoted + f"\r\n--{report.boundary}--\r\n".encode()


def _text(failed: Sequence[FailedDelivery]) -> list[str]:
    lines = ["Undelivered Mail", ""]
    used = 0
    for failure in failed:
        line = f"Could not deliver to {failure.recipient}: {_clean(failure.diagnostic)}"
        used += len(line) + 2
        if used > _MAX_TEXT_OCTETS - 200:
            lines.append("and more recipients")
            break
        lines.append(line)
    # Core shows this text as the error of the message, so the reason comes first.
    return [*lines[2:], "", *lines[:1], ""]


def _status_block(failure: FailedDelivery, written_s: int) -> list[str]:
    diagnostic = _clean(failure.diagnostic)
    return [
        f"Final-Recipient: rfc822; {failure.recipient}",
        "Action: failed",
        f"Status: {_status(diagnostic)}",
        *([f"Remote-MTA: dns; {_clean(_host(failure.host))}"] if failure.host else []),
        f"Diagnostic-Code: smtp; {diagnostic}",
        f"Last-Attempt-Date: {_date(written_s)}",
    ]


def _host(host: str) -> str:
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if host.replace(".", "").isdigit() else host


def _status(diagnostic: str) -> str:
    words = diagnostic.split(" ", 2)
    if len(words) > 1 and re.fullmatch(r"5\.\d{1,3}\.\d{1,3}", words[1]):
        return words[1]
    return "5.0.0"


def _clean(text: str) -> str:
    """One printable line: header injection through a peer's text must be impossible (A34)."""
    return _UNSAFE.sub("?", text)[:300]


def _date(unix_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(unix_s, UTC))
