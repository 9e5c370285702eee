"""The reply tables are total and say what the specification says."""

from __future__ import annotations

from chatmail.adapters.imap.replies import METADATA_REFUSALS, PROBLEMS, REFUSALS
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.usecases.service_metadata import MetadataRefusal


def test_every_reason_has_a_reply() -> None:
    assert set(REFUSALS) == set(RefusalReason)
    assert set(PROBLEMS) == set(MailboxProblem)
    assert set(METADATA_REFUSALS) == set(MetadataRefusal)


def test_append_texts_of_the_authoritative_table() -> None:
    for reason, line in (
        (RefusalReason.ENCRYPTION_NEEDED, b"[CANNOT] Encryption Needed: Invalid Unencrypted Mail"),
        (RefusalReason.INVALID_FROM, b"[CANNOT] Invalid From header"),
        (RefusalReason.TOO_BIG, b"[TOOBIG] message file too big"),
        (RefusalReason.BAD_LINE, b"[CANNOT] Bare CR, LF or NUL not allowed"),
        (RefusalReason.BAD_HEADER, b"[CANNOT] Malformed or oversized header"),
        (RefusalReason.OVER_QUOTA, b"[OVERQUOTA] Quota exceeded (mailbox for user is full)"),
        (
            RefusalReason.TEMPORARY,
            b"[UNAVAILABLE] Temporary server problem, try again later.",
        ),
    ):
        assert REFUSALS[reason].to(b"a") == b"a NO " + line + b"\r\n"


def test_login_texts() -> None:
    for reason, line in (
        (RefusalReason.BAD_CREDENTIALS, b"[AUTHENTICATIONFAILED] Authentication failed."),
        (RefusalReason.TOO_MANY_SESSIONS, b"[LIMIT] Too many connections."),
        (RefusalReason.TLS_REQUIRED, b"[PRIVACYREQUIRED] TLS required."),
    ):
        assert REFUSALS[reason].to(b"a") == b"a NO " + line + b"\r\n"


def test_only_the_wrong_password_speaks_of_authentication() -> None:
    for reason, reply in REFUSALS.items():
        if reason is not RefusalReason.BAD_CREDENTIALS:
            assert b"authentication" not in reply.to(b"a").lower()
