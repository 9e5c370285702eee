"""Which command may come when."""

from __future__ import annotations

import pytest

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import (
    Auth,
    Command,
    Data,
    Hello,
    Mail,
    Noop,
    StartTls,
    parse_command,
)
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role, State, refusal, refusal_of_malformed

MAIL = Mail(None, None)
RCPT = parse_command(b"RCPT TO:<a@b.example>")
AUTH = Auth("PLAIN", None)
SUB, INB = Role.SUBMISSION, Role.INBOUND


@pytest.mark.parametrize(
    ("command", "state", "role", "is_tls", "is_logged_in", "expected"),
    [
        (MAIL, State.READY, SUB, False, False, replies.TLS_FIRST),
        (MAIL, State.CONNECTED, SUB, False, False, replies.TLS_FIRST),
        (MAIL, State.CONNECTED, SUB, True, False, replies.HELLO_FIRST),
        (MAIL, State.READY, SUB, True, False, replies.LOGIN_FIRST),
        (MAIL, State.READY, SUB, True, True, None),
        (MAIL, State.MAIL, SUB, True, True, replies.NESTED_MAIL),
        (MAIL, State.RCPT, SUB, True, True, replies.NESTED_MAIL),
        (MAIL, State.READY, INB, False, False, replies.TLS_FIRST),
        (MAIL, State.READY, INB, True, False, None),
        (RCPT, State.READY, SUB, True, True, replies.MAIL_FIRST),
        (RCPT, State.MAIL, SUB, True, True, None),
        (RCPT, State.RCPT, SUB, True, True, None),
        (Data(), State.READY, SUB, True, True, replies.MAIL_FIRST),
        (Data(), State.MAIL, SUB, True, True, replies.NO_RECIPIENTS),
        (Data(), State.RCPT, SUB, True, True, None),
        (AUTH, State.READY, SUB, False, False, replies.TLS_FIRST),
        (AUTH, State.CONNECTED, SUB, True, False, replies.HELLO_FIRST),
        (AUTH, State.READY, SUB, True, False, None),
        (AUTH, State.READY, SUB, True, True, replies.ALREADY_LOGGED_IN),
        (AUTH, State.RCPT, SUB, True, False, replies.LOGIN_IN_TRANSACTION),
        (AUTH, State.READY, INB, True, False, replies.NOT_IMPLEMENTED),
        (AUTH, State.CONNECTED, INB, False, False, replies.NOT_IMPLEMENTED),
        (StartTls(), State.CONNECTED, SUB, False, False, None),
        (StartTls(), State.READY, INB, False, False, None),
        (StartTls(), State.READY, SUB, True, True, replies.TLS_ACTIVE),
        (StartTls(), State.MAIL, SUB, False, True, replies.BAD_SEQUENCE),
        (Hello(True), State.RCPT, SUB, True, True, None),
        (Noop(), State.CONNECTED, INB, False, False, None),
    ],
)
def test_refusals(
    command: Command,
    state: State,
    role: Role,
    is_tls: bool,
    is_logged_in: bool,
    expected: Reply | None,
) -> None:
    assert refusal(command, state, role, is_tls=is_tls, is_logged_in=is_logged_in) is expected


@pytest.mark.parametrize(
    ("line", "role", "is_tls", "expected"),
    [
        (b"auth", INB, True, replies.NOT_IMPLEMENTED),
        (b"AUTH", SUB, False, replies.TLS_FIRST),
        (b"MAIL x", INB, False, replies.TLS_FIRST),
        (b"MAIL x", INB, True, None),
        (b"RCPT x", INB, False, None),
    ],
)
def test_what_counts_more_than_syntax(
    line: bytes, role: Role, is_tls: bool, expected: Reply | None
) -> None:
    assert refusal_of_malformed(line, role, is_tls=is_tls) is expected
