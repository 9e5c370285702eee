"""What ENABLE changes in the reading of commands."""

from __future__ import annotations

from chatmail.domain.wire.imap.commands import AppendBegin, Create, Noop
from chatmail.domain.wire.imap.events import AppendChunk, AppendEnd, CommandReceived, Rejected
from chatmail.domain.wire.imap.server import ServerMachine

from .reading import feed, machine


def enabled(*names: str) -> ServerMachine:
    made = machine()
    for name in names:
        made.enable(name)
    return made


def test_modes_follow_what_was_enabled() -> None:
    assert not machine().is_utf8
    assert not machine().is_rev2
    assert enabled("UTF8=ACCEPT").is_utf8
    assert not enabled("UTF8=ACCEPT").is_rev2
    assert enabled("IMAP4REV2").is_utf8
    assert enabled("CONDSTORE", "IMAP4REV2").is_rev2


def test_append_with_utf8_headers_ends_behind_its_parenthesis() -> None:
    """RFC 6855 §4."""
    events = feed(enabled("UTF8=ACCEPT"), [b"a APPEND x utf8 (~{3+}\r\nabc)\r\nb NOOP\r\n"])
    assert events[0] == CommandReceived(b"a", AppendBegin("x", (), None, 3, False))
    assert events[1:3] == [AppendChunk(b"abc"), AppendEnd(b"a")]
    assert events[3] == CommandReceived(b"b", Noop())


def test_append_with_utf8_headers_is_bad_when_it_is_not_whole_or_not_enabled() -> None:
    [*_, last] = feed(enabled("UTF8=ACCEPT"), [b"a APPEND x UTF8 (~{3+}\r\nabc\r\n"])
    assert last == Rejected(b"a BAD Expected )\r\n")
    for made in (machine(), enabled("IMAP4REV2")):
        [refused] = feed(made, [b"a APPEND x UTF8 (~{3+}\r\nabc)\r\n"])
        assert isinstance(refused, Rejected)
        assert refused.octets.startswith(b"a BAD ")


def test_a_plain_append_after_a_refused_utf8_one_needs_no_parenthesis() -> None:
    made = enabled("UTF8=ACCEPT")
    feed(made, [b"a APPEND x UTF8 (~{3+}\r\nabc)\r\n"], accept_appends=False)
    events = feed(made, [b"b APPEND x {3+}\r\nabc\r\n"])
    assert events[-1] == AppendEnd(b"b")


def test_names_of_commands_are_utf8_once_that_is_enabled() -> None:
    raw = 'a CREATE "ü&-"\r\n'.encode()
    assert feed(enabled("IMAP4REV2"), [raw]) == [CommandReceived(b"a", Create("ü&-"))]
    assert isinstance(feed(machine(), [raw])[0], Rejected)
