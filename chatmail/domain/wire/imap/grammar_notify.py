"""NOTIFY: groups of mailboxes and the events wanted of them.

Source:  RFC 5465 §8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from chatmail.domain.wire.imap.commands import Notify, NotifyGroup
from chatmail.domain.wire.imap.grammar_fetch import parse_items
from chatmail.domain.wire.imap.lexer import CommandRefused, Lexer, SyntaxProblem

MAX_GROUPS: Final = 32
MAX_NAMES: Final = 128
EVENTS: Final = {
    name.upper(): name
    for name in (
        *("MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange"),
        *("MailboxMetadataChange", "ServerMetadataChange"),
    )
}
_BAD_EVENT: Final = b"NO [BADEVENT (%b)] Event not supported" % " ".join(EVENTS.values()).encode()
_OVERFLOW: Final = b"NO [NOTIFICATIONOVERFLOW] Too many mailboxes to watch"
_OF_SELECTED: Final = frozenset(("SELECTED", "SELECTED-DELAYED"))
_NAMED: Final = frozenset(("SUBTREE", "MAILBOXES"))
_UNNAMED: Final = frozenset(("PERSONAL", "INBOXES", "SUBSCRIBED"))
_MESSAGES: Final = frozenset(("MESSAGENEW", "MESSAGEEXPUNGE"))


def parse_notify(lexer: Lexer) -> Notify:
    """Parse the arguments of NOTIFY."""
    lexer.space()
    verb = lexer.keyword()
    if verb == "NONE":
        return Notify(())
    if verb != "SET":
        raise SyntaxProblem(b"Expected SET or NONE")
    lexer.space()
    has_status = not lexer.peek(b"(")
    if has_status:
        if lexer.keyword() != "STATUS":
            raise SyntaxProblem(b"Expected STATUS or an event group")
        lexer.space()
    groups = [_parse_group(lexer)]
    while not lexer.at_end:
        lexer.space()
        groups.append(_parse_group(lexer))
    _check_sizes(groups)
    if sum(group.mailboxes in _OF_SELECTED for group in groups) > 1:
        raise SyntaxProblem(b"SELECTED stands twice")
    return Notify(tuple(groups), has_status)


def _check_sizes(groups: Sequence[NotifyGroup]) -> None:
    if len(groups) > MAX_GROUPS or sum(len(group.names) for group in groups) > MAX_NAMES:
        raise CommandRefused(_OVERFLOW)


def _parse_group(lexer: Lexer) -> NotifyGroup:
    lexer.expect(b"(")
    mailboxes = lexer.keyword()
    names: tuple[str, ...] = ()
    if mailboxes in _NAMED:
        lexer.space()
        names = _parse_names(lexer)
    elif mailboxes not in _OF_SELECTED | _UNNAMED:
        raise SyntaxProblem(b"Unknown mailbox specifier")
    lexer.space()
    group = NotifyGroup(mailboxes, names)
    if lexer.accept(b"("):
        group = _with_events(group, lexer)
    elif lexer.keyword() != "NONE":
        raise SyntaxProblem(b"Expected events or NONE")
    lexer.expect(b")")
    return group


def _parse_names(lexer: Lexer) -> tuple[str, ...]:
    if not lexer.accept(b"("):
        return (lexer.mailbox(),)
    names = [lexer.mailbox()]
    while not lexer.accept(b")"):
        lexer.space()
        names.append(lexer.mailbox())
    return tuple(names)


def _with_events(group: NotifyGroup, lexer: Lexer) -> NotifyGroup:
    is_of_selected = group.mailboxes in _OF_SELECTED
    events: set[str] = set()
    while True:
        event = lexer.keyword()
        events.add(event)
        has_next = lexer.accept_space()
        if has_next and lexer.peek(b"("):
            if event != "MESSAGENEW" or not is_of_selected:
                raise SyntaxProblem(b"FETCH items belong to MessageNew of SELECTED")
            attributes, sections = parse_items(lexer)
            group = attrs.evolve(group, attributes=attributes, sections=sections)
            has_next = lexer.accept_space()
        if lexer.accept(b")"):
            break
        if not has_next:
            raise SyntaxProblem(b"Missing argument")
    if not events <= EVENTS.keys():
        raise CommandRefused(_BAD_EVENT)
    _check_events(events, is_of_selected)
    return attrs.evolve(group, events=frozenset(events))


def _check_events(events: set[str], is_of_selected: bool) -> None:
    """Refuse what RFC 5465 §5 and §6.1 want refused with BAD."""
    if events & _MESSAGES and not events >= _MESSAGES:
        raise SyntaxProblem(b"MessageNew and MessageExpunge go together")
    if "FLAGCHANGE" in events and not events >= _MESSAGES:
        raise SyntaxProblem(b"FlagChange needs MessageNew and MessageExpunge")
    if is_of_selected and not events <= {*_MESSAGES, "FLAGCHANGE"}:
        raise SyntaxProblem(b"SELECTED takes message events only")
