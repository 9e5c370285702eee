"""NOTIFY: the grammar of RFC 5465 §8 and its refusals."""

from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import BodySection, Notify, NotifyGroup, Section
from chatmail.domain.wire.imap.grammar import parse_command
from chatmail.domain.wire.imap.lexer import CommandRefused, SyntaxProblem

BOTH = frozenset(("MESSAGENEW", "MESSAGEEXPUNGE"))
ALL = BOTH | {"FLAGCHANGE"}


def parsed(text: bytes, *literals: bytes) -> object:
    return parse_command(b"NOTIFY", b"NOTIFY " + text, len(b"NOTIFY"), literals)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        pytest.param(b"NONE", Notify(()), id="none"),
        pytest.param(
            b"set (selected (messagenew messageexpunge flagchange))",
            Notify((NotifyGroup("SELECTED", (), ALL),)),
            id="case is ignored",
        ),
        pytest.param(
            b"SET STATUS (SELECTED-DELAYED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (FROM)])"
            b" MessageExpunge)) (SUBTREE Lists (MessageNew MessageExpunge))",
            Notify(
                (
                    NotifyGroup(
                        "SELECTED-DELAYED",
                        (),
                        BOTH,
                        ("UID",),
                        (
                            BodySection(
                                b"BODY[HEADER.FIELDS (FROM)]",
                                Section.HEADER_FIELDS,
                                fields=(b"FROM",),
                                peek=True,
                            ),
                        ),
                    ),
                    NotifyGroup("SUBTREE", ("Lists",), BOTH),
                ),
                has_status=True,
            ),
            id="fetch items and a subtree",
        ),
        pytest.param(
            b'SET (MAILBOXES (inbox "a b") (MailboxName)) (PERSONAL (SubscriptionChange))'
            b" (INBOXES NONE) (SUBSCRIBED (ServerMetadataChange MailboxMetadataChange))",
            Notify(
                (
                    NotifyGroup("MAILBOXES", ("INBOX", "a b"), frozenset(("MAILBOXNAME",))),
                    NotifyGroup("PERSONAL", (), frozenset(("SUBSCRIPTIONCHANGE",))),
                    NotifyGroup("INBOXES"),
                    NotifyGroup(
                        "SUBSCRIBED",
                        (),
                        frozenset(("SERVERMETADATACHANGE", "MAILBOXMETADATACHANGE")),
                    ),
                )
            ),
            id="other mailboxes",
        ),
    ],
)
def test_what_is_asked_for(text: bytes, command: Notify) -> None:
    assert parsed(text) == command


def test_names_may_be_literals() -> None:
    command = parsed(b"SET (MAILBOXES {\n (MailboxName))", b"x")
    assert command == Notify((NotifyGroup("MAILBOXES", ("x",), frozenset(("MAILBOXNAME",))),))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SET", id="no group"),
        pytest.param(b"SET ()", id="empty group"),
        pytest.param(b"GET (PERSONAL NONE)", id="unknown verb"),
        pytest.param(b"SET ALL (PERSONAL NONE)", id="unknown indicator"),
        pytest.param(b"SET (EVERYTHING NONE)", id="unknown specifier"),
        pytest.param(b"SET (PERSONAL)", id="no events"),
        pytest.param(b"SET (PERSONAL ())", id="empty events"),
        pytest.param(b"SET (PERSONAL (MessageNew))", id="new without expunge"),
        pytest.param(b"SET (PERSONAL (MessageExpunge))", id="expunge without new"),
        pytest.param(b"SET (SELECTED (FlagChange))", id="flags alone"),
        pytest.param(b"SET (SELECTED (MailboxName))", id="names of selected"),
        pytest.param(
            b"SET (PERSONAL (MessageNew (UID) MessageExpunge))", id="items of other mailboxes"
        ),
        pytest.param(
            b"SET (SELECTED (MessageNew MessageExpunge (UID)))", id="items of another event"
        ),
        pytest.param(b"SET (SELECTED NONE) (SELECTED-DELAYED NONE)", id="selected twice"),
        pytest.param(b"SET (PERSONAL NONE) x", id="octets behind"),
        pytest.param(b"NONE x", id="octets behind NONE"),
    ],
)
def test_what_is_not_a_notify_is_bad(text: bytes) -> None:
    with pytest.raises(SyntaxProblem):
        parsed(text)


@pytest.mark.parametrize("event", [b"AnnotationChange", b"X-Later"])
def test_an_unknown_event_is_no_with_all_that_are_known(event: bytes) -> None:
    with pytest.raises(CommandRefused) as refused:
        parsed(b"SET (PERSONAL (MailboxName %b))" % event)
    assert refused.value.response.startswith(
        b"NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange"
        b" MailboxMetadataChange ServerMetadataChange)] "
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"SET" + b" (PERSONAL NONE)" * 33, id="groups"),
        pytest.param(b"SET (MAILBOXES (" + b" ".join([b"x"] * 129) + b") NONE)", id="names"),
    ],
)
def test_too_much_is_an_overflow(text: bytes) -> None:
    with pytest.raises(CommandRefused) as refused:
        parsed(text)
    assert refused.value.response.startswith(b"NO [NOTIFICATIONOVERFLOW] ")
