"""The table reason -> reply."""

from __future__ import annotations

import pytest

from chatmail.adapters.smtp.replies import REPLIES, accepted, reply_to
from chatmail.domain.model.verdict import RefusalReason, Refuse

E, H, U, R = "e@x.example", "h@x.example", "u@relay.example", "r@relay.example"


def test_the_table_is_total() -> None:
    assert set(REPLIES) == set(RefusalReason)


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_refusal_is_negative_and_safe_for_core(reason: RefusalReason) -> None:
    subject = "550 5.1.1 no such user" if reason is RefusalReason.REMOTE else E
    reply = reply_to(Refuse(reason, subject=subject, object=U))
    assert not reply.is_positive
    assert not reply.octets[4:].startswith(b"5.5.0")


@pytest.mark.parametrize(
    ("refuse", "octets"),
    [
        (
            Refuse(RefusalReason.ENCRYPTION_NEEDED),
            b"523 5.7.1 Encryption Needed: Invalid Unencrypted Mail",
        ),
        (
            Refuse(RefusalReason.INVALID_FROM, subject=H, object=E),
            b"500 5.7.1 Invalid FROM <h@x.example> for <e@x.example>",
        ),
        (
            Refuse(RefusalReason.NOT_OWNER, subject=E, object=U),
            b"553 5.7.1 <e@x.example>: Sender address rejected: not owned by user u@relay.example",
        ),
        (
            Refuse(RefusalReason.NOT_OWNER, subject="", object=U),
            b"553 5.7.1 <>: Sender address rejected: not owned by user u@relay.example",
        ),
        (Refuse(RefusalReason.SPOOFED_DOMAIN), b"550 5.7.1 Sender domain is local"),
        (Refuse(RefusalReason.NO_DKIM), b"554 5.7.1 No DKIM signature found"),
        (Refuse(RefusalReason.BAD_DKIM), b"554 5.7.1 No valid DKIM signature found"),
        (
            Refuse(RefusalReason.DKIM_UNAVAILABLE),
            b"451 4.7.5 DKIM key not available, try again later",
        ),
        (Refuse(RefusalReason.TOO_BIG), b"552 5.3.4 message file too big"),
        (Refuse(RefusalReason.BAD_LINE), b"554 5.6.0 Bare CR, LF or NUL not allowed"),
        (Refuse(RefusalReason.BAD_HEADER), b"554 5.6.0 Malformed or oversized header"),
        (Refuse(RefusalReason.TOO_MANY_HOPS), b"554 5.4.6 Too many hops"),
        (
            Refuse(RefusalReason.TOO_MUCH_MAIL, subject=E),
            b"450 4.7.1: Too much mail from <e@x.example>",
        ),
        (Refuse(RefusalReason.POLICY), b"550 5.7.1 Policy Rejection"),
        (
            Refuse(RefusalReason.OVER_QUOTA),
            b"552 5.2.2 Quota exceeded (mailbox for user is full)",
        ),
        (
            Refuse(RefusalReason.UNKNOWN_RECIPIENT, subject=R),
            b"550 5.1.1 <r@relay.example>: Recipient address rejected: User unknown",
        ),
        (Refuse(RefusalReason.RELAY_DENIED), b"550 5.7.1 Relaying denied"),
        (Refuse(RefusalReason.TEMPORARY), b"451 4.3.0 Temporary failure"),
        (
            Refuse(RefusalReason.BAD_CREDENTIALS),
            b"535 5.7.8 Error: authentication failed: Invalid credentials",
        ),
        (
            Refuse(RefusalReason.LOGIN_UNAVAILABLE),
            b"454 4.7.0 Temporary server problem, try again later",
        ),
        (Refuse(RefusalReason.TOO_MANY_SESSIONS), b"421 4.7.0 Too many connections"),
        (
            Refuse(RefusalReason.TLS_REQUIRED),
            b"530 5.7.0 Must issue a STARTTLS command first",
        ),
    ],
    ids=lambda value: value.reason.value if isinstance(value, Refuse) else "",
)
def test_texts_of_the_authoritative_table(refuse: Refuse, octets: bytes) -> None:
    assert reply_to(refuse).octets == octets + b"\r\n"


def test_a_full_queue_is_temporary() -> None:
    assert reply_to(Refuse(RefusalReason.QUEUE_FULL)).octets.startswith(b"452 4.3.1 ")


def test_acceptance_names_the_queue_id() -> None:
    assert accepted("7x").octets == b"250 2.0.0 Ok: queued as 7x\r\n"
