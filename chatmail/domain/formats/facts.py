"""What the scanner found out about one message: all that any door's policy may ask.

The facts do not depend on how the octets were cut into chunks, and they hold for every door: where
our own users' doors are stricter than inbound ones, a `Finding` carries both answers.
"""

from __future__ import annotations

from typing import Final

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Door


@attrs.frozen
class Finding:
    """The first rule a message breaks (`M-08`), None when it breaks none.

    `strict` counts for submission and APPEND, `inbound` for mail from other relays. Whatever
    breaks an inbound rule also breaks a strict one, so `strict` is None only if `inbound` is.
    """

    strict: str | None = None
    inbound: str | None = None

    def at(self, door: Door) -> str | None:
        """Return the finding that counts at this door."""
        return self.inbound if door.is_inbound else self.strict

    def then(self, later: Finding) -> Finding:
        """Combine with the finding of a later layer: an earlier rule hides a later one."""
        if self is NO_FINDING or later is NO_FINDING:  # nearly always
            return later if self is NO_FINDING else self
        return Finding(self.strict or later.strict, self.inbound or later.inbound)


NO_FINDING: Final = Finding()


def broken(rule: str) -> Finding:
    """Return the finding of a rule that is the same at every door."""
    return Finding(rule, rule)


NO_SECURE_JOIN: Final = broken("X-SJ1")


@attrs.frozen(kw_only=True)
class HeaderFacts:
    """The header block, whatever the body holds.

    Attributes:
        names: every field name present, lower case.
        long_fields: names of fields whose unfolded value exceeds 256 octets.
        from_value: unfolded value of From, empty when there is none; not safe to echo.
        from_mailboxes: the mailboxes of From; empty when it is absent, malformed, a group, or
            holds an address that is none.
        sender: the one mailbox of Sender; None when absent or malformed.
        message_id: unfolded value of Message-ID, angle brackets included.
        auto_submitted: first word of Auto-Submitted, lower case; None when absent.
        media_type: `type/subtype` in lower case, `text/plain` when absent, empty when malformed.
        subject: unfolded value of Subject.
    """

    names: frozenset[bytes] = frozenset()
    long_fields: frozenset[bytes] = frozenset()
    from_value: bytes = b""
    from_mailboxes: tuple[EmailAddress, ...] = ()
    has_sender: bool = False
    sender: EmailAddress | None = None
    message_id: bytes | None = None
    subject: bytes | None = None
    auto_submitted: bytes | None = None
    received_count: int = 0
    media_type: bytes = b""

    @property
    def from_address(self) -> EmailAddress | None:
        """The author, if From is exactly one mailbox."""
        return self.from_mailboxes[0] if len(self.from_mailboxes) == 1 else None

    @property
    def has_date(self) -> bool:
        """Say whether there is a Date field."""
        return b"date" in self.names

    @property
    def has_message_id(self) -> bool:
        """Say whether there is a Message-ID field."""
        return b"message-id" in self.names


@attrs.frozen(kw_only=True)
class MessageFacts:
    """Everything the gate needs to know about one message, at any door.

    Attributes:
        size: octets of the whole message.
        too_big: P-01; then nothing else was looked at.
        bad_line: P-02, a bare CR or LF. has_nul: P-03.
        header: the header block with its empty line, at most 64 KiB; None if it never ended
            or was longer.
        header_fault: first of P-04..P-07, H-01..H-03.
        structure: first of H-05, H-06, M, A, O without O-20; NO_FINDING is an encrypted message.
        is_transparent: O-20, the "ciphertext" compresses. Only known when `structure` holds for
            inbound mail.
        secure_join: first of X-SJ1..X-SJ3; NO_FINDING is a Secure-Join request.
        report: first of X-DSN2 (Auto-Submitted only), X-DSN3; None is a delivery report.
        autocrypt_setup: the message has the form of an Autocrypt Setup Message.
    """

    size: int
    too_big: bool = False
    bad_line: bool = False
    has_nul: bool = False
    header: bytes | None = None
    header_facts: HeaderFacts = HeaderFacts()
    header_fault: Finding = NO_FINDING
    structure: Finding = NO_FINDING
    is_transparent: bool = False
    secure_join: Finding = NO_SECURE_JOIN
    report: str | None = "X-DSN3"
    autocrypt_setup: bool = False
