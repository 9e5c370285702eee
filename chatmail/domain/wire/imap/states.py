"""What a session may send by its state: commands, sizes, number of errors.

Source:  RFC 3501 §3; spec mail 0, 1.4 and 4.1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from chatmail.domain.wire.imap.grammar import PARSERS

_TAG: Final = rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64})"
_HEAD: Final = re.compile(_TAG + rb" +([!-~]+)")
_TAG_ALONE: Final = re.compile(_TAG + rb"(?= |\Z)")
NO_TAG: Final = b"*"


class State(enum.Enum):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = "not_authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


@attrs.frozen(kw_only=True)
class Limits:
    """Sums over one command, and how many BADs in a row are borne."""

    line_bytes: int
    literal_bytes: int
    bad_commands: int


BEFORE_LOGIN: Final = Limits(line_bytes=8 * 1024, literal_bytes=4 * 1024, bad_commands=10)
AFTER_LOGIN: Final = Limits(line_bytes=64 * 1024, literal_bytes=64 * 1024, bad_commands=50)
MAX_LITERALS: Final = 256

_ANY: Final = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
_ONLY_BEFORE_LOGIN: Final = frozenset({State.NOT_AUTHENTICATED})
_LOGGED_IN: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED: Final = frozenset({State.SELECTED})

LOGINS: Final = frozenset({b"LOGIN", b"AUTHENTICATE"})
ALLOWED_IN: Final[Mapping[bytes, frozenset[State]]] = {
    **dict.fromkeys((*PARSERS, b"APPEND"), _LOGGED_IN),
    **dict.fromkeys((b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"), _ANY),
    **dict.fromkeys((b"STARTTLS", *LOGINS), _ONLY_BEFORE_LOGIN),
    **dict.fromkeys((b"CHECK", b"CLOSE", b"UNSELECT", b"EXPUNGE", b"UID"), _SELECTED),
    **dict.fromkeys((b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE"), _SELECTED),
}


@attrs.frozen
class Head:
    """How a command begins; its arguments begin at `args_at`."""

    tag: bytes
    word: bytes
    args_at: int


def read_head(line: bytes) -> Head | None:
    """Return tag and command name (in capitals) of a line, None when it has none."""
    found = _HEAD.match(line)
    return Head(found[1], found[2].upper(), found.end()) if found else None


def tag_of(line: bytes) -> bytes:
    """Return the tag that a line begins with, `*` when it has none that may be echoed."""
    found = _TAG_ALONE.match(line)
    return found[1] if found else NO_TAG


def problem_of(word: bytes, state: State, tls_active: bool) -> bytes | None:
    """Return the reply (without tag) that a command gets before its arguments are looked at."""
    states = ALLOWED_IN.get(word)
    if states is None:
        return b"BAD Unknown command"
    if state not in states:
        return b"BAD Command not allowed in this state"
    if states is _ONLY_BEFORE_LOGIN:
        if word not in LOGINS:
            return b"BAD TLS is already active" if tls_active else None
        # Secrets are refused before they are looked at (spec mail 1.4, RFC 5530).
        return None if tls_active else b"NO [PRIVACYREQUIRED] TLS required."
    return None


def literal_problem(
    word: bytes, state: State, limits: Limits, literals: Sequence[bytes], size: int
) -> bytes | None:
    """Return the reply (without tag) to a literal that this command may not have.

    Args:
        literals: those the command has already.
        size: announced octets of the next one.
    """
    if state is State.NOT_AUTHENTICATED and word not in LOGINS:
        return b"BAD Literal not allowed before login"
    if sum(map(len, literals)) + size > limits.literal_bytes:
        return b"BAD Literal is too large"
    return b"BAD Too many literals" if len(literals) >= MAX_LITERALS else None
