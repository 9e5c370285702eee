"""The SMTP face's table: reason of a refusal → reply. The only place that knows both.

The table is total over `RefusalReason` (a test demands it). Texts are an interface: Delta Chat
core and other relays' tests match several of them (spec policy 1.11, mail 2.6, 6.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.wire.smtp.replies import TLS_FIRST, Reply

ReplyMaker: TypeAlias = Callable[[Refuse], Reply]


def _not_owner(refuse: Refuse) -> Reply:
    owner = f"<{refuse.subject}>: Sender address rejected: not owned by user {refuse.object}"
    return Reply(553, "5.7.1", owner)


def _remote(refuse: Refuse) -> Reply:
    """Pass on what another relay said; whoever made the refusal has cleaned it."""
    code, enhanced, text = refuse.subject.split(" ", 2)
    return Reply(int(code), enhanced, text)


REPLIES: Final[Mapping[RefusalReason, Reply | ReplyMaker]] = {
    RefusalReason.ENCRYPTION_NEEDED: Reply(
        523, "5.7.1", "Encryption Needed: Invalid Unencrypted Mail"
    ),
    RefusalReason.INVALID_FROM: lambda refuse: Reply(
        500, "5.7.1", f"Invalid FROM <{refuse.subject}> for <{refuse.object}>"
    ),
    RefusalReason.NOT_OWNER: _not_owner,
    RefusalReason.SPOOFED_DOMAIN: Reply(550, "5.7.1", "Sender domain is local"),
    RefusalReason.NO_DKIM: Reply(554, "5.7.1", "No DKIM signature found"),
    RefusalReason.BAD_DKIM: Reply(554, "5.7.1", "No valid DKIM signature found"),
    RefusalReason.DKIM_UNAVAILABLE: Reply(451, "4.7.5", "DKIM key not available, try again later"),
    RefusalReason.TOO_BIG: Reply(552, "5.3.4", "message file too big"),
    RefusalReason.BAD_LINE: Reply(554, "5.6.0", "Bare CR, LF or NUL not allowed"),
    RefusalReason.BAD_HEADER: Reply(554, "5.6.0", "Malformed or oversized header"),
    RefusalReason.TOO_MANY_HOPS: Reply(554, "5.4.6", "Too many hops"),
    RefusalReason.TOO_MUCH_MAIL: lambda refuse: Reply(
        450, "4.7.1:", f"Too much mail from <{refuse.subject}>"
    ),
    RefusalReason.POLICY: Reply(550, "5.7.1", "Policy Rejection"),
    RefusalReason.OVER_QUOTA: Reply(552, "5.2.2", "Quota exceeded (mailbox for user is full)"),
    RefusalReason.UNKNOWN_RECIPIENT: lambda refuse: Reply(
        550, "5.1.1", f"<{refuse.subject}>: Recipient address rejected: User unknown"
    ),
    RefusalReason.REMOTE: _remote,
    RefusalReason.RELAY_DENIED: Reply(550, "5.7.1", "Relaying denied"),
    RefusalReason.TEMPORARY: Reply(451, "4.3.0", "Temporary failure"),
    RefusalReason.QUEUE_FULL: Reply(452, "4.3.1", "Server is busy, try again later"),
    RefusalReason.MAIL_WAITS: Reply(452, "4.3.1", "Too much mail waiting"),
    RefusalReason.BAD_CREDENTIALS: Reply(
        535, "5.7.8", "Error: authentication failed: Invalid credentials"
    ),
    RefusalReason.LOGIN_UNAVAILABLE: Reply(
        454, "4.7.0", "Temporary server problem, try again later"
    ),
    RefusalReason.TOO_MANY_SESSIONS: Reply(421, "4.7.0", "Too many connections"),
    RefusalReason.TLS_REQUIRED: TLS_FIRST,
}


def reply_to(refuse: Refuse) -> Reply:
    """Return the reply that states this refusal."""
    entry = REPLIES[refuse.reason]
    return entry if isinstance(entry, Reply) else entry(refuse)


def accepted(queue_id: str) -> Reply:
    """Return the reply that promises delivery."""
    return Reply(250, "2.0.0", f"Ok: queued as {queue_id}")
