from __future__ import annotations

import pytest

from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.wire.imap.commands import (
    AppendBegin,
    Authenticate,
    Close,
    Compress,
    Create,
    Fetch,
    GetMetadata,
    GetQuotaRoot,
    Id,
    Idle,
    Login,
    Logout,
    Noop,
    Select,
    SetMetadata,
    StartTls,
    Store,
)
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendEnd,
    AppendNext,
    CommandReceived,
    ContinuationWanted,
    IdleDone,
    Rejected,
    ResponseLine,
)
from chatmail.domain.wire.imap.server import ServerMachine, State

from .reading import MAX_APPEND, drain, feed, machine, read

BEFORE = State.NOT_AUTHENTICATED
AFTER = State.AUTHENTICATED
PLUS = ContinuationWanted(b"+ OK\r\n")
NOOP = CommandReceived(b"z", Noop())


def reply(event) -> bytes:
    assert isinstance(event, Rejected)
    return event.octets


# --- lines -----------------------------------------------------------------------------------


def test_pipelined_commands_come_out_in_order():
    events = read(b"a NOOP\r\nb NOOP\nc NOOP\r\nd NO")
    assert events == [CommandReceived(tag, Noop()) for tag in (b"a", b"b", b"c")]


def test_tags_may_repeat():
    assert read(b"A0001 NOOP\r\nA0001 NOOP\r\n") == [CommandReceived(b"A0001", Noop())] * 2


@pytest.mark.parametrize(
    "line",
    [b"a NO\rOP", b"a NOOP\r", b"a NO\0OP", b'a SELECT "x\ry"', b"a RENAME x {3+}\r\nx\ry\r"],
)
def test_bare_cr_and_nul_are_bad(line):
    events = read(line + b"\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Bare CR or NUL\r\n"), NOOP]


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        (b"", b"* BAD Missing or invalid tag\r\n"),
        (b"+ NOOP", b"* BAD Missing or invalid tag\r\n"),
        (b"\xff\xfe", b"* BAD Missing or invalid tag\r\n"),
        (b"a", b"a BAD Missing command\r\n"),
        (b"a ", b"a BAD Missing command\r\n"),
        (b"a FOO", b"a BAD Unknown command\r\n"),
        (b"a LOGIN u p", b"a BAD Command not allowed in this state\r\n"),
    ],
)
def test_what_is_no_command_is_bad_and_the_next_one_works(line, octets):
    assert read(line + b"\r\nz NOOP\r\n") == [Rejected(octets), NOOP]


def test_a_command_in_the_wrong_state_is_bad_and_the_connection_stays():
    events = read(b"a SELECT INBOX\r\nb UID FETCH 1 FLAGS\r\nz NOOP\r\n", BEFORE)
    assert [reply(event)[:5] for event in events[:2]] == [b"a BAD", b"b BAD"]
    assert events[2] == NOOP


@pytest.mark.parametrize("line", [b"z NOOP\r\n", b"x" * 8193])
def test_a_line_over_8_kib_before_login_closes(line):
    (rejected,) = read(b"a NOOP " + b" " * 8200 + b"\r\n" + line, BEFORE)
    assert rejected.close
    assert reply(rejected).startswith(b"* BAD Command line too long\r\n* BYE ")


def test_a_line_of_8_kib_before_login_is_read():
    padding = b" " * (8192 - len(b"a NOOP\r"))
    assert read(b"a NOOP" + padding + b"\r\n", BEFORE) == [CommandReceived(b"a", Noop())]


def test_64_kib_without_line_end_before_login_end_the_connection_early():
    made = machine(BEFORE)
    events = feed(made, [b"x" * 1024] * 64)
    assert [event.close for event in events] == [True]
    assert made.state is State.LOGOUT
    assert not made.has_buffered_input


def test_a_line_over_64_kib_after_login_is_borne_once():
    long = b"a SEARCH SUBJECT " + b"x" * 65536 + b"\r\n"
    first, between, second = read(long + b"z NOOP\r\n" + long + b"y NOOP\r\n")
    assert first == Rejected(b"a BAD Command line too long\r\n")
    assert between == NOOP
    assert second.close
    assert reply(second).startswith(b"a BAD Command line too long\r\n* BYE ")


def test_the_lines_of_one_command_are_limited_together():
    part = b"x" * 40000
    rejected, after = read(
        b"a SEARCH SUBJECT " + part + b" SUBJECT {1+}\r\ny SUBJECT " + part + b"\r\nz NOOP\r\n"
    )
    assert reply(rejected) == b"a BAD Command line too long\r\n"
    assert after == NOOP


def test_the_literal_of_an_overlong_line_is_no_command():
    long = b"a SEARCH SUBJECT " + b"x" * 65536 + b" {10+}\r\nz LOGOUT\r\n\r\nz NOOP\r\n"
    assert read(long) == [Rejected(b"a BAD Command line too long\r\n"), NOOP]


# --- errors in a row -------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "bound"), [(BEFORE, 10), (AFTER, 50)])
def test_too_many_errors_in_a_row_end_the_connection(state, bound):
    events = read(b"a FOO\r\n" * (bound + 5), state)
    assert len(events) == bound
    assert [event.close for event in events] == [False] * (bound - 1) + [True]
    assert reply(events[-1]) == b"a BAD Unknown command\r\n* BYE Too many errors\r\n"


def test_a_good_command_starts_the_count_again():
    events = read((b"a FOO\r\n" * 9 + b"z NOOP\r\n") * 3, BEFORE)
    assert not any(isinstance(event, Rejected) and event.close for event in events)


def test_no_replies_are_not_errors():
    events = read(b"a CREATE x (USE (\\Odd))\r\n" * 60)
    assert not any(event.close for event in events)


# --- literals --------------------------------------------------------------------------------


def test_a_synchronising_literal_is_asked_for():
    made = machine(BEFORE)
    assert feed(made, [b"a LOGIN {3}\r\n"]) == [PLUS]
    assert feed(made, [b"u@d {2}\r\n"]) == [PLUS]
    assert feed(made, [b"pw\r\n"]) == [CommandReceived(b"a", Login(b"u@d", b"pw"))]


def test_octets_of_a_literal_are_never_commands():
    (event,) = read(b"a LOGIN {10+}\r\nb NOOP\r\nxy {2+}\r\npw\r\n", BEFORE)
    assert event == CommandReceived(b"a", Login(b"b NOOP\r\nxy", b"pw"))


@pytest.mark.parametrize("word", [b"ID (", b"FOO ", b"SELECT ", b"NOOP ", b""])
@pytest.mark.parametrize("form", [b"{8+}\r\nb NOOP\r\n\r\n", b"{8}\r\n"])
def test_before_login_only_login_has_literals(word, form):
    rejected, after = read(b"a " + word + form + b"z NOOP\r\n", BEFORE)
    assert reply(rejected).startswith(b"a BAD ")
    assert after == NOOP


def test_literals_before_login_are_limited_to_4_kib_together():
    made = machine(BEFORE)
    assert feed(made, [b"a LOGIN {4097}\r\n"]) == [Rejected(b"a BAD Literal is too large\r\n")]
    events = feed(made, [b"b LOGIN {4000+}\r\n", b"u" * 4000, b" {97}\r\n"])
    assert events == [Rejected(b"b BAD Literal is too large\r\n")]
    events = feed(made, [b"c LOGIN {4000+}\r\n", b"u" * 4000, b" {96+}\r\n", b"p" * 96, b"\r\n"])
    assert isinstance(events[0], CommandReceived)


def test_literals_after_login_are_limited_to_64_kib_together():
    made = ServerMachine(tls_active=True, max_append_bytes=10**6)
    made.authenticated()
    value = b"v" * 65536
    line = b"a SETMETADATA INBOX (/a {65536+}\r\n" + value
    (event,) = feed(made, [line + b")\r\n"])
    assert event.command == SetMetadata("INBOX", (("/a", value),))
    events = feed(made, [line + b" /b {1+}\r\nx)\r\nz NOOP\r\n"])
    assert events == [Rejected(b"a BAD Literal is too large\r\n"), NOOP]


def test_a_refused_non_synchronising_literal_is_swallowed_exactly():
    swallowed = b"b NOOP\r\n" * 100
    header = b"a SETMETADATA INBOX (/a {%d+}\r\n" % len(swallowed)
    events = read(header + swallowed + b")\r\nz NOOP\r\n", BEFORE)
    assert events == [Rejected(b"a BAD Command not allowed in this state\r\n"), NOOP]


def test_all_literals_of_a_refused_command_are_swallowed():
    events = read(b"a FOO {8+}\r\nb NOOP\r\n x {8+}\r\nc NOOP\r\n)\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Unknown command\r\n"), NOOP]


@pytest.mark.parametrize("size", [MAX_APPEND + 65537, 99999999999, 10**30])
@pytest.mark.parametrize("state", [BEFORE, AFTER])
def test_a_literal_too_large_to_swallow_closes(size, state):
    (rejected,) = read(b"a LOGIN {%d+}\r\nz NOOP\r\n" % size, state)
    assert rejected.close
    assert reply(rejected).startswith(b"a BAD ")
    assert b"\r\n* BYE [TOOBIG] " in reply(rejected)


def test_a_hopeless_literal_behind_a_swallowed_one_closes():
    rejected, bye = read(b"a FOO {3+}\r\nabc {99999999999+}\r\nz NOOP\r\n")
    assert reply(rejected) == b"a BAD Unknown command\r\n"
    assert bye.close
    assert reply(bye).startswith(b"* BYE [TOOBIG] ")


@pytest.mark.parametrize("announced", [b"{99999999999}", b"{-1}", b"{" + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("command", [b"LOGIN", b"SELECT", b"APPEND x"])
def test_absurd_sizes_are_bad_without_continuation(announced, command):
    state = BEFORE if command == b"LOGIN" else AFTER
    rejected, after = read(b"a " + command + b" " + announced + b"\r\nz NOOP\r\n", state)
    assert reply(rejected).startswith(b"a BAD ")
    assert not rejected.close
    assert after == NOOP


def test_the_number_of_literals_is_bounded():
    events = read(b"a SEARCH" + b" SUBJECT {0+}\r\n" * 300 + b"\r\nz NOOP\r\n")
    assert events == [Rejected(b"a BAD Too many literals\r\n"), NOOP]


def test_an_empty_literal_is_a_string():
    (event,) = read(b"a LOGIN {0+}\r\n {0+}\r\n\r\n", BEFORE)
    assert event == CommandReceived(b"a", Login(b"", b""))


# --- APPEND ----------------------------------------------------------------------------------


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


# --- IDLE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [b"DONE\r\n", b"done\n", b"DoNe\r\n"])
def test_done_ends_idle(done):
    events = read(b"i IDLE\r\n" + done + b"z NOOP\r\n")
    assert events == [CommandReceived(b"i", Idle()), IdleDone(b"i"), NOOP]


@pytest.mark.parametrize("line", [b"b NOOP", b"", b"DONE x", b"x {8+}\r\nDONE\r\n\r\n", b"\xff"])
def test_anything_else_in_idle_is_bad_and_ends_it(line):
    events = read(b"i IDLE\r\n" + line + b"\r\nz NOOP\r\n")
    assert events[1:] == [Rejected(b"i BAD Expected DONE\r\n"), NOOP]


def test_done_outside_idle_is_bad():
    assert read(b"DONE\r\n") == [Rejected(b"DONE BAD Missing command\r\n")]


# --- AUTHENTICATE ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"AHUAcA==", b"*", b"", b"x {5+}"])
def test_the_answer_to_a_challenge_is_given_as_it_is(line):
    events = read(b"a AUTHENTICATE PLAIN\r\n" + line + b"\r\nz NOOP\r\n", BEFORE)
    assert events == [CommandReceived(b"a", Authenticate("PLAIN")), ResponseLine(line), NOOP]


def test_an_answer_over_the_limit_closes():
    events = read(b"a AUTHENTICATE PLAIN\r\n" + b"A" * 9000 + b"\r\n", BEFORE)
    assert events[1].close


def test_secrets_without_tls_are_refused_unseen():
    made = machine(BEFORE, tls_active=False)
    events = feed(made, [b"a LOGIN u@d {6}\r\nb AUTHENTICATE PLAIN AAAA\r\nc LOGIN u p\r\n"])
    assert [reply(event)[2:] for event in events] == [b"NO [PRIVACYREQUIRED] TLS required.\r\n"] * 3


# --- STARTTLS, COMPRESS, LOGOUT --------------------------------------------------------------


def test_cleartext_behind_starttls_is_seen_and_never_executed():
    made = machine(BEFORE, tls_active=False)
    made.receive_data(b"a STARTTLS\r\nb LOGIN u p\r\n")
    assert made.next_event() == CommandReceived(b"a", StartTls())
    assert made.has_buffered_input
    with pytest.raises(RemoteProtocolError):
        made.starttls_done()


def test_after_starttls_login_is_possible():
    made = machine(BEFORE, tls_active=False)
    made.receive_data(b"a STARTTLS\r\n")
    assert made.next_event() == CommandReceived(b"a", StartTls())
    assert not made.has_buffered_input
    made.starttls_done()
    events = feed(made, [b"a LOGIN u p\r\nb STARTTLS\r\n"])
    assert events == [
        CommandReceived(b"a", Login(b"u", b"p")),
        Rejected(b"b BAD TLS is already active\r\n"),
    ]


def test_tags_restart_after_compress():
    made = machine()
    (event,) = feed(made, [b"A0003 COMPRESS DEFLATE\r\n"])
    assert event.command == Compress("DEFLATE")
    made.compressed()
    assert made.is_compressed
    assert feed(made, [b"A0001 NOOP\r\n"]) == [CommandReceived(b"A0001", Noop())]


def test_nothing_is_read_after_logout():
    made = machine()
    assert feed(made, [b"a LOGOUT\r\nb NOOP\r\n", b"c NOOP\r\n"]) == [
        CommandReceived(b"a", Logout())
    ]
    assert made.state is State.LOGOUT
    assert made.next_event() is NEED_DATA
    assert not made.has_buffered_input


def test_the_shell_is_told_when_to_read():
    made = machine()
    assert made.wants_input
    made.receive_data(b"a NOOP\r\nb NOOP\r\n")
    assert not made.wants_input
    made.next_event()
    assert not made.wants_input
    assert len(drain(made)) == 1
    assert made.wants_input


def test_states_are_told_by_the_shell():
    made = machine(BEFORE)
    assert made.state is State.NOT_AUTHENTICATED
    made.authenticated()
    assert made.state is State.AUTHENTICATED
    made.selected()
    assert made.state is State.SELECTED
    made.deselected()
    assert made.state is State.AUTHENTICATED
    made.enable("CONDSTORE")
    assert made.enabled == {"CONDSTORE"}


def test_login_select_and_fetch_in_one_segment():
    made = machine(BEFORE)
    made.receive_data(b'a LOGIN u p\r\nb SELECT "INBOX"\r\nc UID FETCH 1:* (FLAGS)\r\n')
    seen = []
    while (event := made.next_event()) is not NEED_DATA:
        seen.append(event.tag)
        match event.command:
            case Login():
                made.authenticated()
            case Select():
                made.selected()
    assert seen == [b"a", b"b", b"c"]


def test_idle_and_responses_begin_between_commands_only():
    made = machine()
    made.receive_data(b"a SELECT {5}\r\n")
    made.next_event()
    with pytest.raises(LocalProtocolError):
        made.begin_idle(b"a")
    with pytest.raises(LocalProtocolError):
        made.begin_response()


# --- the exact session of Delta Chat (spec mail 3.2) -----------------------------------------

TRANSCRIPT = [
    (b'A0001 LOGIN "user@D" "p\\"a\\\\ss"', Login(b"user@D", b'p"a\\ss')),
    (b'A0002 ID ("name" "Delta Chat")', Id()),
    (b"A0003 COMPRESS DEFLATE", Compress("DEFLATE")),
    (b'A0001 GETQUOTAROOT "INBOX"', GetQuotaRoot("INBOX")),
    (
        b'A0002 GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay'
        b" /shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients"
        b" /shared/vendor/deltachat/appversions)",
        GetMetadata,
    ),
    (
        b'A0003 SETMETADATA "INBOX" (/private/devicetoken "openpgp:abc+/=")',
        SetMetadata("INBOX", (("/private/devicetoken", b"openpgp:abc+/="),)),
    ),
    (b'A0004 SELECT "INBOX"', Select("INBOX", read_only=False)),
    (
        b"A0005 UID FETCH 7:506 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE"
        b" X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM CONTENT-TYPE SECURE-JOIN CHAT-VERSION"
        b" CHAT-IS-POST-MESSAGE AUTOCRYPT-SETUP-MESSAGE)])",
        Fetch,
    ),
    (b"A0006 UID FETCH 7,9:12 (FLAGS BODY.PEEK[])", Fetch),
    (b"A0007 UID STORE 7,9:12 +FLAGS (\\Deleted)", Store),
    (b"A0008 CLOSE", Close(expunge=True)),
    (b'A0009 SELECT "INBOX"', Select("INBOX", read_only=False)),
    (b"A0010 IDLE", Idle()),
]


def test_the_session_of_delta_chat():
    made = machine(BEFORE)
    for line, expected in TRANSCRIPT:
        made.receive_data(line + b"\r\n")
        event = made.next_event()
        assert isinstance(event, CommandReceived), event
        assert event.tag == line.split()[0]
        assert event.command == expected or type(event.command) is expected
        assert made.next_event() is NEED_DATA
        match event.command:
            case Login():
                made.authenticated()
            case Compress():
                made.compressed()
            case Select():
                made.selected()
            case Close():
                made.deselected()
            case Idle():
                made.begin_idle(event.tag)
    assert feed(made, [b"DONE\r\n"]) == [IdleDone(b"A0010")]


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        pytest.param(
            b'a01 SETMETADATA INBOX (/private/devicetoken "1111" )\n', b"1111", id="relay-test"
        ),
        pytest.param(
            b'a01 SETMETADATA "INBOX" (/private/devicetoken {4+}\r\n11\r\n)\r\n',
            b"11\r\n",
            id="old-core-without-literal-plus-check",
        ),
    ],
)
def test_device_tokens_in_the_forms_of_trap_t36(octets, value):
    (event,) = read(octets)
    assert event.command == SetMetadata("INBOX", (("/private/devicetoken", value),))


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


# --- what ENABLE changes ------------------------------------------------------------------------


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


# --- for the shell ------------------------------------------------------------------------------


def test_a_bad_of_the_shell_counts_as_one_of_ours() -> None:
    made = machine()
    for _ in range(49):
        feed(made, [b"a NOOP\r\n"])
        assert made.answered_bad() == b""
    feed(made, [b"a NOOP\r\n"])
    assert made.answered_bad() == b"* BYE Too many errors\r\n"
    assert made.state is State.LOGOUT
    assert feed(made, [b"a NOOP\r\n"]) == []


def test_a_good_command_forgives_bads_of_both_kinds() -> None:
    made = machine()
    for _ in range(30):
        feed(made, [b"a NOOP\r\n"])
        assert made.answered_bad() == b""
        feed(made, [b"x NOSUCH\r\n"])
        feed(made, [b"a NOOP\r\n"])  # answered with OK


def test_between_commands_is_where_nothing_of_the_next_one_was_read() -> None:
    made = machine()
    assert made.is_between_commands
    feed(made, [b"a CREATE {3}\r\n"])
    assert not made.is_between_commands
    feed(made, [b"abc"])
    assert not made.is_between_commands
    feed(made, [b"\r\n"])
    assert made.is_between_commands
    feed(made, [b"a IDLE\r\n"])
    assert not made.is_between_commands
