"""What the IMAP server machine tells its shell.

The shell loop: `machine.next_event()` until `NEED_DATA`; then flush replies, read, and
`machine.receive_data(octets)`.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from chatmail.domain.wire.imap.commands import Command


class NeedData(enum.Enum):
    """No event until more octets arrive."""

    NEED_DATA = "need_data"


NEED_DATA: Final = NeedData.NEED_DATA


@attrs.frozen
class CommandReceived:
    """A whole, valid command that the state allows. `tag` is echoed in the tagged reply."""

    tag: bytes
    command: Command


@attrs.frozen
class ContinuationWanted:
    """A literal is announced and wanted: the shell sends these octets at once."""

    octets: bytes


@attrs.frozen
class Rejected:
    """The command was refused by the machine itself: `octets` is the whole reply.

    `close`: the connection ends after it (too many errors, hopeless framing).
    """

    octets: bytes
    close: bool = False


@attrs.frozen
class ResponseLine:
    """An answer of the client to `+` inside AUTHENTICATE, without its line end."""

    octets: bytes = attrs.field(repr=False)


@attrs.frozen
class IdleDone:
    """DONE ended IDLE; the tag is that of the IDLE command."""

    tag: bytes


@attrs.frozen
class AppendChunk:
    """Octets of the literal of the APPEND that the shell accepted, at most 64 KiB."""

    octets: bytes


@attrs.frozen
class AppendNext:
    """One more message in the same APPEND (RFC 3502): the shell accepts or refuses its literal."""

    flags: tuple[str, ...]
    internal_date_s: int | None
    size: int


@attrs.frozen
class AppendEnd:
    """The literal and its command line are complete."""

    tag: bytes


Event: TypeAlias = (
    NeedData
    | CommandReceived
    | ContinuationWanted
    | Rejected
    | ResponseLine
    | IdleDone
    | AppendChunk
    | AppendNext
    | AppendEnd
)
