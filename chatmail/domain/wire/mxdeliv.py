"""`POST /mxdeliv`: the header fields, cut into requests and read again; what an answer means.

Source:  spec federation-web.md A4 (client), B2.3 (server).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

import attrs

from chatmail.domain.formats.reply_line import clean_text, parse_reply_text, reply_line
from chatmail.domain.model.address import AddressError, EmailAddress
from chatmail.domain.model.errors import ChatmailError
from chatmail.domain.model.federation import HopFault, RecipientFate

MAX_RECIPIENTS: Final = 50
MAX_RECIPIENT_OCTETS: Final = 6 * 1024
"""Of all X-Mail-To fields of one request: proxies commonly take 8 KiB of header."""
MAX_ANSWER_OCTETS: Final = 4096
MAX_RECEIVED_RECIPIENTS: Final = 100
MAX_VALUE: Final = 320
MAX_PATIENCE_S: Final = 3600.0
FULL_PATIENCE_S: Final = 900.0
"""A full mailbox does not empty itself in a minute."""

_SNIFFED_OCTETS: Final = 512
_DIAGNOSTIC: Final = 200
_FIELD_COST: Final = len("X-Mail-To: \r\n")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

HeaderField: TypeAlias = tuple[bytes, bytes]


# --- the client ----------------------------------------------------------------------------------


def requests(
    recipients: Sequence[EmailAddress], limit: int = MAX_RECIPIENTS
) -> Iterator[tuple[EmailAddress, ...]]:
    """Cut recipients into requests of at most `limit`, in order."""
    batch: list[EmailAddress] = []
    octets = 0
    for recipient in recipients:
        cost = _FIELD_COST + len(str(recipient))
        if batch and (len(batch) >= limit or octets + cost > MAX_RECIPIENT_OCTETS):
            yield tuple(batch)
            batch, octets = [], 0
        batch.append(recipient)
        octets += cost
    if batch:
        yield tuple(batch)


def header_fields(
    host: str,
    sender: EmailAddress | None,
    recipients: Sequence[EmailAddress],
    size: int,
    user_agent: str,
) -> list[HeaderField]:
    """Return the fields of a request.

    Args:  host: as it belongs into `Host`. size: of the whole message in octets; it is sent as
        it is, because some proxies refuse or buffer chunks.
    """
    return [
        (b"Host", host.encode("ascii")),
        (b"X-Mail-From", (str(sender) if sender else "").encode("ascii")),
        *((b"X-Mail-To", recipient.verbatim.encode("ascii")) for recipient in recipients),
        (b"Content-Type", b"message/rfc822"),
        (b"Content-Length", str(size).encode("ascii")),
        (b"User-Agent", user_agent.encode("ascii")),
    ]


@attrs.frozen(kw_only=True)
class Answer:
    """An HTTP response.

    `head`: its first octets, at most 4 KiB. The fields are as received, "" when absent.
    """

    status: int
    head: bytes = b""
    content_type: str = ""
    retry_after: str = ""
    date: str = ""


@attrs.frozen(kw_only=True)
class Judgement:
    """What an answer means: a fate of all recipients of the request, or else a fault.

    `reply` is a clean SMTP reply line. With UNCLEAR it is what holds when SMTP cannot be asked.
    """

    fate: RecipientFate | None = None
    fault: HopFault | None = None
    reply: str
    retry_after_s: float | None = None


_SUCCESSES: Final = frozenset((200, 201, 202, 204))
_ABSENT: Final = frozenset((404, 405, 501))
_UNSUPPORTED: Final = Judgement(
    fault=HopFault.UNSUPPORTED, reply="450 4.4.4 The host takes no mail over HTTP"
)


def judge_answer(answer: Answer) -> Judgement:
    """Say what an answer means (the table of A4.7). Total over every status."""
    status = answer.status
    if 200 <= status < 300:
        return _judge_success(answer)
    if 300 <= status < 400:
        # A4.4: whoever follows a redirect takes a landing page's 200 for a delivery.
        return _UNSUPPORTED
    said = _smtp_text(answer)
    if status == 507:
        return Judgement(
            fate=RecipientFate.TEMPORARY,
            reply=_said(said, "4") or _diagnosed(452, "4.2.2", answer, "Mailbox full"),
            retry_after_s=max(FULL_PATIENCE_S, _patience(answer) or 0.0),
        )
    if status in (429, 503):
        # 4.7 says that it is about us: then the other door is none either.
        kind = "450 4.7.1" if status == 429 else "451 4.3.2"
        usable = _said(said, "4") if status == 503 or (said or "")[3:7] == " 4.7" else ""
        return Judgement(
            fault=HopFault.BUSY,
            reply=usable or _diagnosed(int(kind[:3]), kind[4:], answer, "Busy"),
            retry_after_s=_patience(answer),
        )
    if status in _ABSENT and (said is None or said[0] == "2"):
        return _UNSUPPORTED
    if 400 <= status < 500 or status == 501:
        return _judge_refusal(answer, said)
    return Judgement(
        fault=HopFault.BROKEN,
        reply=_said(said, "4") or _diagnosed(451, "4.3.0", answer, "Server error"),
    )


def _judge_success(answer: Answer) -> Judgement:
    # A4.5: a web site answers 200 to anything.
    kind = answer.content_type.partition(";")[0].strip().lower()
    is_page = kind == "text/html" or answer.head[:_SNIFFED_OCTETS].lstrip().startswith(b"<")
    if answer.status not in _SUCCESSES or is_page:
        return _UNSUPPORTED
    reply = _said(_smtp_text(answer), "2") or _diagnosed(250, "2.0.0", answer, "OK")
    return Judgement(fate=RecipientFate.DELIVERED, reply=reply)


def _judge_refusal(answer: Answer, said: str | None) -> Judgement:
    if answer.status == 413:
        return Judgement(
            fate=RecipientFate.PERMANENT,
            reply=_said(said, "5") or _diagnosed(552, "5.3.4", answer, "Message too large"),
        )
    if said is not None and said[0] in "45":
        fate = RecipientFate.PERMANENT if said[0] == "5" else RecipientFate.TEMPORARY
        return Judgement(fate=fate, reply=said)
    if answer.status == 403:
        reply = _diagnosed(550, "5.7.1", answer, "Forbidden")
    else:
        reply = _diagnosed(450, "4.0.0", answer, "Request refused")
    return Judgement(fault=HopFault.UNCLEAR, reply=reply)


def _smtp_text(answer: Answer) -> str | None:
    return parse_reply_text(answer.head[:MAX_ANSWER_OCTETS].decode("latin-1"))


def _said(reply: str | None, kind: str) -> str:
    """Return the peer's SMTP reply if it is of that kind, else ""."""
    return reply if reply is not None and reply[0] == kind else ""


def _diagnosed(code: int, enhanced: str, answer: Answer, otherwise: str) -> str:
    head = answer.head[:MAX_ANSWER_OCTETS].decode("latin-1").lstrip()
    first = clean_text(head.partition("\n")[0])[:_DIAGNOSTIC]
    text = otherwise if not first or first.startswith("<") else first
    if code >= 400:
        text = f"HTTP {answer.status}: {text}"
    return reply_line(code, [f"{enhanced} {text}"])


def _patience(answer: Answer) -> float | None:
    """Return what Retry-After asks for (RFC 9110 §10.2.3), at most an hour.

    A date is measured against the answer's own Date: no clock is needed, and theirs need not be
    right.
    """
    value = answer.retry_after.strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return min(float(value), MAX_PATIENCE_S)
    until, now = _moment(value), _moment(answer.date)
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), MAX_PATIENCE_S)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


# --- the server ----------------------------------------------------------------------------------


class MxdelivFieldError(ChatmailError):
    """The envelope of a request is unusable: 400. The text is for the peer and repeats nothing."""


def parse_sender(values: Sequence[str]) -> EmailAddress | None:
    """Return the envelope sender; None is the null sender.

    Args:  values: those of every X-Mail-From field.
    Raises:  MxdelivFieldError: none or several, or no address.
    """
    if len(values) != 1:
        raise MxdelivFieldError("exactly one X-Mail-From is needed")
    value = _bare(values[0])
    return _address(value, "X-Mail-From") if value else None


def parse_recipients(values: Sequence[str]) -> tuple[EmailAddress, ...]:
    """Return the recipients in order, each once.

    Args:  values: those of every X-Mail-To field; each may name several, between commas.
    Raises:  MxdelivFieldError: none, more than a hundred, or one that is no address.
    """
    found: dict[EmailAddress, None] = {}
    count = 0
    for value in values:
        for part in value.split(","):
            if not part.strip(" \t"):
                continue
            count += 1
            if count > MAX_RECEIVED_RECIPIENTS:
                raise MxdelivFieldError("too many recipients")
            found[_address(_bare(part), "X-Mail-To")] = None
    if not found:
        raise MxdelivFieldError("X-Mail-To is needed")
    return tuple(found)


def _bare(value: str) -> str:
    """Return a value without blanks around it and without one pair of angle brackets."""
    if len(value) > MAX_VALUE or _CONTROL.search(value.strip(" \t")):
        raise MxdelivFieldError("a value is too long or has control characters")
    text = value.strip(" \t")
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _address(text: str, field: str) -> EmailAddress:
    try:
        return EmailAddress.parse(text)
    except AddressError:
        raise MxdelivFieldError(f"{field} is not a mail address") from None
