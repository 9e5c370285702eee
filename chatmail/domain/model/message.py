"""A message on its way in: envelope, what the scanner found, the edits a door makes, the octets."""

from __future__ import annotations

import enum
from typing import NewType, TypeAlias

import attrs

from chatmail.domain.model.address import EmailAddress

BlobId = NewType("BlobId", int)


class Door(enum.Enum):
    """An entrance for messages. What differs between doors is decided by this value alone."""

    SUBMISSION = "submission"  # 587, 465, 443/smtp, WebSMTP
    SMTP_INBOUND = "smtp_inbound"  # port 25
    HTTPS_INBOUND = "https_inbound"  # /mxdeliv
    APPEND = "append"  # IMAP APPEND
    REPORT = "report"  # our own delivery reports: exempt from the gate

    @property
    def is_inbound(self) -> bool:
        """Say whether the message comes from another relay."""
        return self in (Door.SMTP_INBOUND, Door.HTTPS_INBOUND)


@attrs.frozen
class Envelope:
    """Who sends to whom. `reverse_path` None is the null sender `<>`.

    `recipients` are unique and in RCPT order.
    """

    reverse_path: EmailAddress | None
    recipients: tuple[EmailAddress, ...]


@attrs.frozen
class DeleteField:
    """Remove every top-level header field of this name (lower case)."""

    name: bytes


@attrs.frozen
class ReplaceValue:
    """Replace the value of the top-level header field of this name (lower case), if present."""

    name: bytes
    value: bytes


@attrs.frozen
class AddField:
    """Append one header field at the end of the header block."""

    name: bytes
    value: bytes


HeaderEdit: TypeAlias = DeleteField | ReplaceValue | AddField


@attrs.frozen
class Body:
    """The octets of one whole message, CRLF lines, dot-unstuffed, ready to store.

    A message of at most 256 KiB is held in `chunks`; a larger one was spooled through a
    `BlobStore` and is named by `spooled`, with only its header block in memory.

    `header` is the header block with the empty line that ends it; `chunks` is what follows.
    """

    header: bytes
    chunks: tuple[bytes | memoryview, ...]
    content_size: int
    spooled: object | None = None

    @property
    def size(self) -> int:
        """Octets of the whole message (RFC822.SIZE)."""
        return len(self.header) + self.content_size
