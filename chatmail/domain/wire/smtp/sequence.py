"""Which command may come when: the states of an SMTP session and what they forbid.

Source:  RFC 5321 §4.1.4; RFC 3207 §4; RFC 4954 §4; spec mail 1.4, 6.3.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Auth, Command, Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.events import ContentEnd, Login
from chatmail.domain.wire.smtp.replies import Reply


class Role(enum.Enum):
    """Who is served: our users with their mail programs, or other relays on port 25."""

    SUBMISSION = "submission"
    INBOUND = "inbound"


class State(enum.Enum):
    """Where the dialogue stands."""

    CONNECTED = "connected"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    SASL = "sasl"
    CONTENT = "content"
    PAUSED = "paused"
    CLOSED = "closed"

    # Members are single objects; by name, as enum does it, costs a call in Python each time.
    __hash__ = object.__hash__


NEXT: Final[Mapping[tuple[State, type], State]] = {
    (State.CONNECTED, Hello): State.READY,
    (State.READY, Hello): State.READY,
    (State.MAIL, Hello): State.READY,
    (State.RCPT, Hello): State.READY,
    (State.CONNECTED, StartTls): State.PAUSED,
    (State.READY, StartTls): State.PAUSED,
    (State.READY, Auth): State.SASL,
    (State.SASL, Login): State.READY,
    (State.READY, Mail): State.MAIL,
    (State.MAIL, Rcpt): State.RCPT,
    (State.RCPT, Rcpt): State.RCPT,
    (State.RCPT, Data): State.CONTENT,
    (State.CONTENT, ContentEnd): State.READY,
}
"""State after a positive reply; what is missing here is a bad sequence."""


def refusal(
    command: Command,
    state: State,
    role: Role,
    *,
    is_tls: bool,
    is_logged_in: bool,
    needs_tls: bool = True,
) -> Reply | None:
    """Return the reply to a command that may not come now, None: it may.

    `needs_tls`: MAIL waits for it; AUTH always does.
    """
    match command:
        case Rcpt():
            return None if (state, Rcpt) in NEXT else replies.MAIL_FIRST
        case Mail() | Auth():
            early = _needs_secrecy(type(command), role, is_tls=is_tls, needs_tls=needs_tls)
            if early is None and state is State.CONNECTED:
                early = replies.HELLO_FIRST
            if early is not None:
                return early
            if isinstance(command, Auth):
                return _refusal_of_auth(state, is_logged_in=is_logged_in)
            return _refusal_of_mail(state, role, is_logged_in=is_logged_in)
        case Data():
            if state is State.MAIL:
                return replies.NO_RECIPIENTS
            return None if (state, Data) in NEXT else replies.MAIL_FIRST
        case StartTls():
            if is_tls:
                return replies.TLS_ACTIVE
            return None if (state, StartTls) in NEXT else replies.BAD_SEQUENCE
        case _:
            return None


def refusal_of_malformed(
    line: bytes, role: Role, *, is_tls: bool, needs_tls: bool = True
) -> Reply | None:
    """Return what is said to a malformed command before its syntax is, None: nothing.

    Where there is no AUTH, or where TLS comes first, the arguments do not matter.
    """
    verb = _SECRET.get(line[:4].upper())
    return _needs_secrecy(verb, role, is_tls=is_tls, needs_tls=needs_tls) if verb else None


_SECRET: Final[Mapping[bytes, type]] = {b"AUTH": Auth, b"MAIL": Mail}


def _needs_secrecy(verb: type, role: Role, *, is_tls: bool, needs_tls: bool) -> Reply | None:
    if verb is Auth and role is Role.INBOUND:
        return replies.NOT_IMPLEMENTED
    is_secret = is_tls or (verb is Mail and not needs_tls)
    return None if is_secret else replies.TLS_FIRST


def _refusal_of_auth(state: State, *, is_logged_in: bool) -> Reply | None:
    if is_logged_in:
        return replies.ALREADY_LOGGED_IN
    return None if (state, Auth) in NEXT else replies.LOGIN_IN_TRANSACTION


def _refusal_of_mail(state: State, role: Role, *, is_logged_in: bool) -> Reply | None:
    if role is Role.SUBMISSION and not is_logged_in:
        return replies.LOGIN_FIRST
    return None if (state, Mail) in NEXT else replies.NESTED_MAIL
