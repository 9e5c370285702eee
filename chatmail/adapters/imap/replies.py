"""Refusals as IMAP says them: the only place that knows both the reason and the reply.

Source:  spec mail 2.6 and 4.5, policy 1.11 (column APPEND).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.usecases.service_metadata import MetadataRefusal
from chatmail.domain.wire.imap.responses import bye, tagged


@attrs.frozen
class Reply:
    """A tagged reply that is not OK."""

    code: str
    text: str
    kind: bytes = b"NO"

    def to(self, tag: bytes) -> bytes:
        """Encode for one command."""
        return tagged(tag, self.kind, self.text, self.code)


# Trap T21: "authentication" in a temporary text would look like a wrong password to the user.
UNAVAILABLE: Final = Reply("UNAVAILABLE", "Temporary server problem, try again later.")
TOO_MANY_SESSIONS: Final = Reply("LIMIT", "Too many connections.")
READ_ONLY: Final = Reply("READ-ONLY", "Mailbox is read-only.")
NO_SUCH_MAILBOX: Final = Reply("NONEXISTENT", "Mailbox doesn't exist")
BAD_CHARSET: Final = Reply("BADCHARSET (US-ASCII UTF-8)", "Charset not supported")
BAD_NUMBER: Final = Reply("", "Invalid message number", b"BAD")

_POLICY: Final = Reply("CANNOT", "Policy Rejection")
_OVER_QUOTA: Final = Reply("OVERQUOTA", "Quota exceeded (mailbox for user is full)")

REFUSALS: Final[Mapping[RefusalReason, Reply]] = {
    RefusalReason.ENCRYPTION_NEEDED: Reply("CANNOT", "Encryption Needed: Invalid Unencrypted Mail"),
    RefusalReason.INVALID_FROM: Reply("CANNOT", "Invalid From header"),
    RefusalReason.NOT_OWNER: Reply("CANNOT", "Invalid From header"),
    RefusalReason.SPOOFED_DOMAIN: _POLICY,
    RefusalReason.NO_DKIM: _POLICY,
    RefusalReason.BAD_DKIM: _POLICY,
    RefusalReason.DKIM_UNAVAILABLE: UNAVAILABLE,
    RefusalReason.TOO_BIG: Reply("TOOBIG", "message file too big"),
    RefusalReason.BAD_LINE: Reply("CANNOT", "Bare CR, LF or NUL not allowed"),
    RefusalReason.BAD_HEADER: Reply("CANNOT", "Malformed or oversized header"),
    RefusalReason.TOO_MANY_HOPS: Reply("CANNOT", "Too many hops"),
    RefusalReason.TOO_MUCH_MAIL: Reply("LIMIT", "Too much mail"),
    RefusalReason.POLICY: _POLICY,
    RefusalReason.OVER_QUOTA: _OVER_QUOTA,
    RefusalReason.UNKNOWN_RECIPIENT: Reply("TRYCREATE", "Mailbox doesn't exist"),
    RefusalReason.REMOTE: _POLICY,
    RefusalReason.RELAY_DENIED: _POLICY,
    RefusalReason.TEMPORARY: UNAVAILABLE,
    RefusalReason.QUEUE_FULL: UNAVAILABLE,
    RefusalReason.MAIL_WAITS: UNAVAILABLE,
    RefusalReason.BAD_CREDENTIALS: Reply("AUTHENTICATIONFAILED", "Authentication failed."),
    RefusalReason.LOGIN_UNAVAILABLE: UNAVAILABLE,
    RefusalReason.TOO_MANY_SESSIONS: TOO_MANY_SESSIONS,
    RefusalReason.TLS_REQUIRED: Reply("PRIVACYREQUIRED", "TLS required."),
}

PROBLEMS: Final[Mapping[MailboxProblem, Reply]] = {
    MailboxProblem.NONEXISTENT: NO_SUCH_MAILBOX,
    MailboxProblem.ALREADY_EXISTS: Reply("ALREADYEXISTS", "Mailbox exists already"),
    MailboxProblem.CANNOT: Reply("CANNOT", "Not possible with this mailbox name"),
    MailboxProblem.LIMIT: Reply("LIMIT", "Too many mailboxes or keywords, or one too long"),
    MailboxProblem.OVER_QUOTA: _OVER_QUOTA,
    MailboxProblem.TRY_CREATE: Reply("TRYCREATE", "Mailbox doesn't exist"),
}

METADATA_REFUSALS: Final[Mapping[MetadataRefusal, Reply]] = {
    MetadataRefusal.NO_PERMISSION: Reply("NOPERM", "This entry cannot be set"),
    MetadataRefusal.NO_PRIVATE: Reply("METADATA NOPRIVATE", "This entry cannot be set"),
    MetadataRefusal.TOO_LONG: Reply("METADATA MAXSIZE 8192", "Value is too long"),
    MetadataRefusal.BAD_TOKEN: Reply("", "Invalid device token", b"BAD"),
}

BYE_UNAVAILABLE: Final = bye("Temporary server problem, try again later.", "UNAVAILABLE")
BYE_RESTARTING: Final = bye("Server restarting", "UNAVAILABLE")
BYE_MAILBOX_DELETED: Final = bye("Mailbox deleted")
BYE_FAILURES: Final = bye("Too many authentication failures")
BYE_INACTIVE: Final = bye("Disconnected for inactivity")
BYE_SESSION_CLOSED: Final = bye("Session closed by the server")
