"""Messages before the gate, and what it says of them."""

from __future__ import annotations

from typing import Any

from chatmail.domain.model.message import Door
from chatmail.domain.model.verdict import Accept, Refuse
from tests.builders import ALICE, make_message
from tests.unit.domain.scanning import REMOTE, verdict

SUB, INB, APPEND = Door.SUBMISSION, Door.SMTP_INBOUND, Door.APPEND
DAEMON = "mailer-daemon@example.net"
PLAIN = make_message(encrypted=False)


def refused(message: bytes, door: Door = SUB, **changes: Any) -> Refuse:
    judged = verdict(message, door, **changes)
    assert isinstance(judged, Refuse)
    return judged


def accepted(message: bytes, door: Door = SUB, **changes: Any) -> Accept:
    judged = verdict(message, door, **changes)
    assert isinstance(judged, Accept), judged
    return judged


def remote(message: bytes) -> bytes:
    """The same message from a remote author."""
    return message.replace(ALICE.encode(), REMOTE.encode())
