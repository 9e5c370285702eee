"""Clients that mean harm or know no better: memory stays bounded, others are served meanwhile.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import contextlib
import os
import random
import zlib
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.databases import IS_POSTGRESQL
from tests.e2e.raw import Closed, RawImap, Sender, client, fill, newcomer, running
from tests.e2e.relay import Relay, wait_until
from tests.e2e.stopwatch import Stopwatch
from tests.e2e.watch import Watch, resident_kib

MIB = 1024
SESSIONS = 30
# An idle relay has 87, with the heap that one password hash left; that must not hide the rest.
PEAK_MIB = 128
# To PostgreSQL a large message goes in one statement, one message at a time: the file of the spool,
# the statement and the buffer of the connection, each as large as the message.
STATEMENT_MIB = 96
# The watcher and the attacker share two cores with the relay; a stall would be seconds.
RESPONSIVE_S = 1.0


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("hostile"))) as relay:
        yield relay


def pour(raw: RawImap, octets: bytes, times: int) -> int:
    """Send the same octets again and again until the server has enough; returns how often."""
    for turn in range(times):
        try:
            raw.socket.sendall(octets)
        except OSError:
            return turn
    return times


def check(watch: Watch, grown_mib: float, *, stores_large: bool = False) -> None:
    """Nobody waited, and memory stayed below a ceiling."""
    extra_mib = STATEMENT_MIB if IS_POSTGRESQL else 0
    print(
        f"slowest NOOP {watch.slowest_s * 1000:.0f} ms of {watch.rounds},"
        f" grown {watch.grown_kib / MIB:.1f} to {watch.peak_kib / MIB:.0f} MiB"
    )
    assert watch.rounds > 0
    assert watch.slowest_s < RESPONSIVE_S
    assert watch.grown_kib < (grown_mib + stores_large * extra_mib) * MIB
    # What one test has left in the heap shows in the peaks of the later ones.
    assert watch.peak_kib < (PEAK_MIB + extra_mib) * MIB


# --- 24: before login ---------------------------------------------------------------------------


def test_long_line_before_login_closes(relay: Relay) -> None:
    """24: 64 KiB, with an end and without."""
    with Watch(relay) as watch:
        for line in (b"A1 LOGIN " + b"x" * 65536 + b" y\r\n", b"x" * (1 << 20)):
            with RawImap(relay) as raw:
                raw.greet()
                pour(raw, line, 1)
                told = raw.rest()
                assert told in (b"", told), "the reset may have been faster"
                assert b"OK" not in told
        with RawImap(relay) as raw:
            raw.greet()
            raw.send(b"A1 LOGIN " + b"x" * 9000 + b"\r\n")
            assert raw.rest().startswith(b"* BAD Command line too long\r\n")
    check(watch, 8)


@pytest.mark.parametrize(
    "command",
    [
        b"A1 LOGIN {99999999999}\r\n",
        b"A1 LOGIN {4097}\r\n",
        b"A1 LOGIN {-1}\r\n",
        b"A1 LOGIN {}\r\n",
        b"A1 LOGIN {1e9}\r\n",
        b"A1 LOGIN {" + b"9" * 4000 + b"}\r\n",
        b"A1 ID {10}\r\n",
        b"A1 NO\0OP\r\n",
        b"A1 LOGIN " + b"(" * 7000 + b"\r\n",
        b'A1 LOGIN "' + b'\\"' * 3000 + b"\r\n",
        b"A1 LOGIN \xff\xfe\xfd \x80\r\n",
        b"A1\r\n",
        b"\r\n",
        b" \r\n",
        b"+ NOOP\r\n",
    ],
)
def test_odd_commands_before_login_get_bad_and_no_continuation(
    relay: Relay, command: bytes
) -> None:
    """24."""
    with RawImap(relay) as raw:
        raw.greet()
        raw.send(command)
        line = raw.line()
        assert line.startswith((b"A1 BAD ", b"* BAD ")), line
        raw.ok("NOOP")


def test_endless_literal_before_login_is_not_kept(relay: Relay) -> None:
    """24: `{n+}` that nobody asked for, far above what may be swallowed and just below."""
    chunk = b"A NOOP\r\n" * 8192
    with Watch(relay) as watch:
        with RawImap(relay) as raw:
            raw.greet()
            raw.send(b"A1 LOGIN {4294967295+}\r\n")
            assert pour(raw, chunk, 4096) < 4096
        with RawImap(relay) as raw:
            raw.greet()
            size = 30 << 20
            raw.send(b"A1 LOGIN {%d+}\r\n" % size)
            assert raw.line().startswith(b"A1 BAD ")
            assert pour(raw, chunk, size // len(chunk)) == size // len(chunk)
            raw.send(b" x\r\n")
            assert raw.ok("NOOP").lines == [], "no octet of it was a command"
    check(watch, 8)


def test_too_many_errors_before_login_close(relay: Relay) -> None:
    """4.1: ten in a row."""
    with RawImap(relay) as raw:
        raw.greet()
        raw.send(b"x FROB\r\n" * 1000)
        told = raw.rest()
    assert told.count(b"x BAD ") == 10
    assert told.endswith(b"* BYE Too many errors\r\n")


def test_silent_and_slow_connections_cost_little(relay: Relay) -> None:
    """24, slow loris: nothing said at all, and literals that lack one octet."""
    account = newcomer(relay)
    with contextlib.ExitStack() as stack, Watch(relay) as watch:
        for _ in range(100):
            stack.enter_context(contextlib.closing(RawImap(relay, "imap")))
        for _ in range(50):
            raw = stack.enter_context(contextlib.closing(RawImap(relay)))
            raw.greet()
            raw.send(b"A1 LOGIN {4000+}\r\n" + b"x" * 3999)
        with client(relay, account, "INBOX") as raw:
            raw.ok("NOOP")
    check(watch, 16)


# --- after login --------------------------------------------------------------------------------


def test_odd_commands_after_login_end_nothing(relay: Relay) -> None:
    """24: nested parentheses, numbers out of range, sets without end, long lines."""
    account = newcomer(relay)
    fill(relay, account, 3)
    deep = 10_000
    with client(relay, account, "INBOX") as raw, Watch(relay) as watch:
        for command in (
            "UID SEARCH " + "(" * deep + "ALL" + ")" * deep,
            "UID SEARCH " + "NOT " * deep + "ALL",
            "UID SEARCH " + "OR " * deep + "ALL",
            "UID FETCH 1 " + "(" * deep,
            "UID FETCH 0 FLAGS",
            "UID FETCH 4294967296 FLAGS",
            "UID FETCH 1:2:3 FLAGS",
            "UID FETCH 1 BODY[" + "1." * 3000 + "MIME]",
            "UID FETCH 1 BODY[]<4294967296.1>",
            "FETCH 99 FLAGS",
            "STATUS INBOX (" + "MESSAGES " * 5000 + ")",
            "SELECT {65537}",
            "SELECT {99999999999}",
            'LIST "" ' + "%*" * 3000,
            'LIST "" ' + "*a" * 3000,
            'GETMETADATA "" (' + "/shared/comment " * 2000 + ")",
        ):
            raw.run(command)
            raw.ok("NOOP")
        sets = ",".join(f"{n}:*" for n in range(1, 5000))
        assert len(raw.ok(f"UID FETCH {sets} FLAGS").lines) == 3
        raw.send(b"L1 NOOP " + b"x" * 70_000 + b"\r\n")
        assert raw.answer(b"L1").tagged.startswith(b"L1 BAD ")
        raw.ok("NOOP")
        raw.send(b"L2 NOOP " + b"x" * 70_000 + b"\r\n")
        assert b"L2 BAD " in raw.rest()
    check(watch, 16)


def test_a_thousand_pipelined_fetches_are_answered_without_a_queue(relay: Relay) -> None:
    """1,000 times FETCH 1:* in one go, 100,000 lines: neither end is kept in memory."""
    account = newcomer(relay)
    fill(relay, account, 100)
    with client(relay, account, "INBOX") as raw, Watch(relay) as watch:
        raw.send(b"".join(b"P%d FETCH 1:* (FLAGS UID RFC822.SIZE)\r\n" % n for n in range(1000)))
        for number in range(1000):
            assert len(raw.answer(b"P%d" % number).lines) == 100
    check(watch, 12)


def test_pipelined_bodies_to_a_reader_that_stopped_stay_out_of_memory(relay: Relay) -> None:
    """1.7: a stuck reader of 1,000 times 1.4 MB; mail for the same account goes on meanwhile."""
    account = newcomer(relay)
    with Sender(relay) as sender:
        sender.send(account[0], size=1_000_000)
        with RawImap(relay, buffer_octets=4096) as raw, Watch(relay) as watch:
            raw.greet()
            raw.log_in(account)
            raw.select()
            raw.send(b"".join(b"P%d UID FETCH 1 BODY.PEEK[]\r\n" % n for n in range(1000)))
            raw.exactly(100_000)
            with client(relay, account, "INBOX") as other:
                for count in range(2, 12):
                    tag = other.idle()
                    sender.send(account[0])
                    assert other.idle_line() == b"* %d EXISTS" % count
                    other.done(tag)
            raw.exactly(2_000_000)
    check(watch, 12)


def test_compress_bomb_closes_the_session(relay: Relay) -> None:
    """16: zeros that inflate a thousandfold, in one line and in a literal."""
    account = newcomer(relay)
    stopwatch = Stopwatch(relay)
    for opening in (b"", b"B1 APPEND INBOX {30000000+}\r\n", b"B1 SELECT {60000+}\r\n"):
        compressor = zlib.compressobj(9, wbits=-15)
        bomb = compressor.compress(opening + bytes(256 << 20)) + compressor.flush()
        with client(relay, account, "INBOX") as raw, Watch(relay) as watch:
            raw.compress()
            stopwatch.start()
            pour(raw, bomb, 1)
            with contextlib.suppress(Closed, zlib.error):
                while True:
                    raw._fill()
            assert stopwatch.elapsed_s() < 5
        check(watch, 16)


def test_compress_garbage_and_truncation_close_quietly(relay: Relay) -> None:
    """16."""
    account = newcomer(relay)
    for octets in (os.urandom(5000), b"\x07" * 100, zlib.compress(b"A1 NOOP\r\n")):
        with client(relay, account) as raw:
            raw.compress()
            raw.socket.sendall(octets)
            with contextlib.suppress(Closed, zlib.error, TimeoutError):
                raw.socket.settimeout(2)
                raw.response()
    with client(relay, account) as raw:
        raw.compress()
        for number in range(2000):  # every command its own block, tags as core counts them
            raw.send(b"A%04d NOOP\r\n" % (number % 9999 + 1))
        assert raw.answer(b"A2000").is_ok


def test_compressed_input_before_the_answer_is_refused(relay: Relay) -> None:
    """RFC 4978 §3: nothing may follow COMPRESS; the session stays in cleartext."""
    with client(relay, newcomer(relay)) as raw:
        raw.send(b"C1 COMPRESS DEFLATE\r\nC2 NOOP\r\n")
        assert raw.answer(b"C1").tagged.startswith(b"C1 BAD ")
        assert raw.answer(b"C2").is_ok


def test_octets_before_the_first_compressed_command_wait(relay: Relay) -> None:
    """16, trap T12: news in the selected mailbox do not slip in behind the OK."""
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        sender.send(account[0])
        raw.send(b"C1 COMPRESS DEFLATE\r\n")
        *before, _ = raw.until(b"C1 OK ")
        raw.start_deflate()
        assert raw.is_silent(0.3)
        lines = [response.skeleton.rstrip() for response in before]
        assert [*lines, *raw.ok("NOOP").lines] == [b"* 1 EXISTS"]


# --- sessions -----------------------------------------------------------------------------------


def test_thirty_sessions_of_one_account_and_no_more(relay: Relay) -> None:
    """2.6, 0: the 31st is told so, others are not concerned, a free place is a free place."""
    account = newcomer(relay)
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(client(relay, account, "INBOX")) for _ in range(SESSIONS)]
        login = f'LOGIN "{account[0]}" "{account[1]}"'
        with RawImap(relay) as late:
            late.greet()
            for _ in range(3):
                assert late.refused(login) == b"NO [LIMIT] Too many connections."
            client(relay, newcomer(relay), "INBOX").close()
            tags = [raw.idle() for raw in sessions]
            with Sender(relay) as sender:
                sender.send(account[0])
            assert {raw.idle_line() for raw in sessions} == {b"* 1 EXISTS"}
            sessions[0].done(tags[0])
            sessions[0].ok("LOGOUT")
            wait_until("a place is free", lambda: late.run(login).is_ok)
        for raw, tag in zip(sessions[1:], tags[1:], strict=True):
            raw.done(tag)


def test_sessions_that_vanish_leave_nothing_behind(relay: Relay) -> None:
    """Abrupt ends are the normal end (1.8): memory, places and descriptors come back."""
    account = newcomer(relay)
    fill(relay, account, 20)

    def descriptors() -> int:
        assert relay.process is not None
        return len(os.listdir(f"/proc/{relay.process.pid}/fd"))

    def rush() -> None:
        for number in range(60):
            with client(relay, account, "INBOX") as raw:
                if number % 3 == 0:
                    raw.idle()
                elif number % 3 == 1:
                    raw.send(b"X APPEND INBOX {5000+}\r\nhalf of it")
                else:
                    raw.send(b"X UID FETCH 1:* BODY.PEEK[]\r\n" * 20)

    rush()
    wait_until("all are gone", lambda: descriptors() < 60)
    files, memory = descriptors(), resident_kib(relay)
    rush()
    wait_until("all are gone again", lambda: descriptors() <= files)
    grown = resident_kib(relay) - memory
    print(f"grown {grown} KiB over 60 sessions that vanished")
    assert grown < 4 * MIB
    spool = relay.folder / "state" / "spool"
    wait_until("no spool file is left", lambda: not list(spool.glob("*.part")))


def test_streamed_append_of_the_largest_message_needs_little_memory(relay: Relay) -> None:
    """0, 4.1: 30 MB go through a spool, not through memory."""
    account = newcomer(relay)
    message = wire.encrypted(account[0], 30_000_000)[1]
    with client(relay, account, "INBOX") as raw, Watch(relay) as watch:
        assert raw.append(message).is_ok
        assert raw.ok("UID FETCH 1 BODY.PEEK[]").literals == [message]
    check(watch, 24, stores_large=True)


# --- anything at all -----------------------------------------------------------------------------

CORPUS = [
    b'LIST "" (INBOX "a*") RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES UNSEEN))',
    b'LIST (SUBSCRIBED RECURSIVEMATCH) "" "*"',
    b'LSUB "" "%"',
    b"CREATE Fuzz/a/b (USE (\\Sent))",
    b"RENAME Fuzz Fizz",
    b"RENAME INBOX Taken",
    b"DELETE Fuzz/a/b",
    b"SUBSCRIBE INBOX",
    b"STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE DELETED)",
    b"ENABLE CONDSTORE UTF8=ACCEPT",
    b"NAMESPACE",
    b'SELECT "INBOX" (CONDSTORE)',
    b"EXAMINE INBOX",
    b"UNSELECT",
    b"UID FETCH 1:3,5 (FLAGS UID RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE MODSEQ)",
    b"FETCH 1:* FULL",
    b"FETCH 1 (BODY BODY.PEEK[1.MIME] BODY.PEEK[2]<10.20> BODY.PEEK[1.1.TEXT] RFC822.TEXT)",
    b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 2)",
    b"UID FETCH 2 BODY[HEADER.FIELDS.NOT (Date From)]<5.100>",
    b"UID STORE 1:* (UNCHANGEDSINCE 3) +FLAGS.SILENT (\\Seen $x)",
    b"STORE 2 FLAGS \\Draft abc",
    b"UID SEARCH RETURN (MIN MAX ALL COUNT) OR (1:3 NOT SEEN) (SINCE 1-Jan-2020 LARGER 10)",
    b'SEARCH CHARSET UTF-8 TEXT {5+}\r\nh\xc3\xa4llo HEADER Message-ID "" MODSEQ 1',
    b"SEARCH BODY a TO b CC c BCC d KEYWORD $x UNKEYWORD y YOUNGER 10 OLDER 1 SENTSINCE 1-Jan-2020",
    b"UID COPY 1:2 Fizz",
    b"UID MOVE * INBOX",
    b"UID EXPUNGE 1:*",
    b"EXPUNGE",
    b"CLOSE",
    b'GETMETADATA (MAXSIZE 5 DEPTH 1) "" (/shared /private/devicetoken)',
    b'SETMETADATA "INBOX" (/private/devicetoken {3+}\r\nabc)',
    b'GETQUOTAROOT "Fizz"',
    b'ID ("name" NIL "version" "1")',
    b"NOOP",
    b"CHECK",
]
PIECES = [
    *(b"(", b")", b'"', b"\\", b"{", b"}", b"{3+}\r\nxyz", b"{0+}\r\n", b"[", b"]", b"*", b"%"),
    *(b" ", b":", b",", b"<", b">", b"0", b"4294967295", b"4294967296", b"-1", b"NIL", b"&AAA-"),
    *(b"\x00", b"\r", b"\x7f", b"\xff", b"\xc3\xa4", b"\t", b"INBOX", b"1:*", b"BODY[", b"999"),
]


def mutated(chance: random.Random) -> bytes:
    """A command of the corpus with some pieces changed."""
    command = chance.choice(CORPUS)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        at = chance.randrange(len(command) + 1)
        cut = chance.choice((0, 0, 1, 3))
        command = command[:at] + chance.choice(PIECES) + command[at + cut :]
    return command


def test_mutated_commands_are_answered_or_end_the_session_in_order(relay: Relay) -> None:
    """24: nothing crashes a connection (the fixture looks into the log), nothing hangs."""
    account = newcomer(relay)
    chance = random.Random(20_260)
    ends = 0
    with Watch(relay) as watch:
        for _ in range(30):
            fill(relay, account, 6)
            with client(relay, account, "INBOX") as raw:
                try:
                    for _ in range(60):
                        tag = raw.tag()
                        # A literal that a mutation left without its octets swallows this NOOP.
                        raw.send(tag + b" " + mutated(chance) + b"\r\nEND NOOP\r\n")
                        while not raw.line().startswith((b"END ", tag + b" BAD ", b"+ ")):
                            pass
                except Closed:
                    ends += 1
    print(f"{ends} of 30 sessions ended early")
    assert ends < 25
    check(watch, 24)
