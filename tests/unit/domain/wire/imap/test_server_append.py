"""APPEND: content is decided on before it is read, streamed, bounded, or swallowed."""

from __future__ import annotations

import pytest

from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.wire.imap.commands import AppendBegin
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendEnd,
    AppendNext,
    CommandReceived,
    Rejected,
)
from chatmail.domain.wire.imap.server import ServerMachine

from .reading import AFTER, MAX_APPEND, NOOP, PLUS, drain, feed, machine, read, reply


def begin(size: int, *, sync: bool) -> CommandReceived:
    return CommandReceived(b"a", AppendBegin("INBOX", (), None, size, sync))


def test_append_waits_for_a_decision_and_streams():
    made = machine(AFTER)
    made.receive_data(b"a APPEND INBOX {10}\r\n")
    assert made.next_event() == begin(10, sync=True)
    with pytest.raises(LocalProtocolError):
        made.next_event()
    assert made.accept_append() == b"+ OK\r\n"
    assert made.next_event() is NEED_DATA
    made.receive_data(b"z NO")
    assert made.next_event() == AppendChunk(b"z NO")
    assert made.next_event() is NEED_DATA
    made.receive_data(b"OP\r\n\r\n\r\nz NOOP\r\n")
    assert drain(made) == [AppendChunk(b"OP\r\n\r\n"), AppendEnd(b"a"), NOOP]


def test_append_without_synchronising_needs_no_continuation():
    made = machine(AFTER)
    made.receive_data(b"a APPEND INBOX {3+}\r\nabc\r\n")
    assert made.next_event() == begin(3, sync=False)
    assert made.accept_append() == b""
    assert drain(made) == [AppendChunk(b"abc"), AppendEnd(b"a")]


def test_append_of_nothing_ends_at_once():
    assert read(b"a APPEND INBOX {0+}\r\n\r\n") == [begin(0, sync=False), AppendEnd(b"a")]


def test_append_chunks_are_at_most_64_kib():
    made = ServerMachine(tls_active=True, max_append_bytes=10**6)
    made.authenticated()
    made.receive_data(b"a APPEND INBOX {200000+}\r\n" + b"x" * 200000 + b"\r\n")
    sizes = [len(event.octets) for event in drain(made) if isinstance(event, AppendChunk)]
    assert max(sizes) <= 65536
    assert sum(sizes) == 200000


def test_a_refused_synchronising_append_reads_nothing():
    made = machine(AFTER)
    made.receive_data(b"a APPEND INBOX {10}\r\nz NOOP\r\n")
    made.next_event()
    assert made.refuse_append()
    assert drain(made) == [NOOP]


def test_a_refused_non_synchronising_append_is_swallowed():
    events = read(b"a APPEND INBOX {8+}\r\nb NOOP\r\n\r\nz NOOP\r\n", accept_appends=False)
    assert events == [begin(8, sync=False), NOOP]


def test_an_append_over_the_limit_is_toobig_before_any_continuation():
    events = read(b"a APPEND INBOX {%d}\r\nz NOOP\r\n" % (MAX_APPEND + 1))
    assert events == [Rejected(b"a NO [TOOBIG] message file too big\r\n"), NOOP]


def test_an_append_of_the_limit_is_taken():
    made = machine(AFTER)
    made.receive_data(b"a APPEND INBOX {%d}\r\n" % MAX_APPEND)
    assert made.next_event() == begin(MAX_APPEND, sync=True)


def test_an_oversized_non_synchronising_append_is_swallowed_and_the_next_command_works():
    size = MAX_APPEND + 65536
    octets = b"a APPEND INBOX {%d+}\r\n" % size + b"y NOOP\r\n" * (size // 8)
    assert size % 8 == 0
    events = read(octets + b"\r\nz NOOP\r\n")
    assert events == [Rejected(b"a NO [TOOBIG] message file too big\r\n"), NOOP]


def test_an_append_too_large_to_swallow_is_bye():
    (rejected,) = read(b"a APPEND INBOX {%d+}\r\n" % (MAX_APPEND + 65537))
    assert rejected.close
    assert reply(rejected).startswith(b"a NO [TOOBIG] ")
    assert b"\r\n* BYE [TOOBIG] " in reply(rejected)


@pytest.mark.parametrize("tail", [b")", b" x", b"\r", b"\0", b" {5}\0", b" \0{5+}\r\nabcde"])
def test_octets_behind_the_message_are_bad(tail):
    events = read(b"a APPEND INBOX {3+}\r\nabc" + tail + b"\r\nz NOOP\r\n")
    assert events[:2] == [begin(3, sync=False), AppendChunk(b"abc")]
    assert events[2] == Rejected(b"a BAD Unexpected octets after the message\r\n")
    assert events[3:] == [NOOP]


def test_one_append_holds_several_messages():
    made = machine(AFTER)
    made.receive_data(b"a APPEND INBOX (k) {3+}\r\nabc (\\Seen) {4}\r\n")
    assert made.next_event() == CommandReceived(b"a", AppendBegin("INBOX", ("k",), None, 3, False))
    assert made.accept_append() == b""
    assert made.next_event() == AppendChunk(b"abc")
    assert made.next_event() == AppendNext(("\\Seen",), None, 4)
    with pytest.raises(LocalProtocolError):
        made.next_event()
    assert made.accept_append() == b"+ OK\r\n"
    made.receive_data(b'defg "01-Jan-1970 00:00:10 +0000" {1+}\r\nh \r\nz NOOP\r\n')
    assert drain(made) == [
        AppendChunk(b"defg"),
        AppendNext((), 10, 1),
        AppendChunk(b"h"),
        AppendEnd(b"a"),
        NOOP,
    ]


def test_a_later_message_over_the_limit_is_toobig_before_any_continuation():
    events = read(b"a APPEND INBOX {3+}\r\nabc {%d}\r\nz NOOP\r\n" % (MAX_APPEND + 1))
    assert events[2:] == [Rejected(b"a NO [TOOBIG] message file too big\r\n"), NOOP]


def test_messages_behind_a_refused_one_are_swallowed():
    made = machine(AFTER)
    made.receive_data(
        b"a APPEND INBOX {3+}\r\nabc {8+}\r\nb NOOP\r\n {8+}\r\nc NOOP\r\n\r\nz NOOP\r\n"
    )
    made.next_event()
    made.accept_append()
    made.next_event()
    assert made.next_event() == AppendNext((), None, 8)
    assert made.refuse_append()
    assert drain(made) == [NOOP]


@pytest.mark.parametrize(
    "before",
    [b"{5+}", b" x {5+}", b" () x {5+}", b" (\\Recent) {5+}", b" () () {5+}", b' "x" {5+}'],
)
def test_what_stands_before_a_later_message_is_grammar_too(before):
    events = read(b"a APPEND INBOX {3+}\r\nabc" + before + b"\r\nabcde\r\nz NOOP\r\n")
    assert isinstance(events[2], Rejected)
    assert reply(events[2]).startswith(b"a BAD ")
    assert events[3:] == [NOOP]


def test_the_mailbox_of_append_may_be_a_literal():
    made = machine(AFTER)
    assert feed(made, [b"a APPEND {5}\r\n"]) == [PLUS]
    made.receive_data(b"inbox {3+}\r\n")
    assert made.next_event() == begin(3, sync=False)


@pytest.mark.parametrize("call", ["accept_append", "refuse_append"])
def test_only_an_append_can_be_decided(call):
    with pytest.raises(LocalProtocolError):
        getattr(machine(), call)()


def test_a_changed_append_limit_holds_for_the_next_append() -> None:
    made = ServerMachine(tls_active=True, max_append_bytes=10)
    made.authenticated()
    made.receive_data(b"a APPEND INBOX {20}\r\n")
    refused = made.next_event()
    assert isinstance(refused, Rejected)
    assert b"TOOBIG" in refused.octets
    made.max_append_bytes = 20
    made.receive_data(b"b APPEND INBOX {20}\r\n")
    assert isinstance(made.next_event(), CommandReceived)
