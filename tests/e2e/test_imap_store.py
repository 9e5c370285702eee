"""Changing what is there: STORE, SEARCH, COPY and MOVE, APPEND.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.builders import make_message
from tests.e2e import wire
from tests.e2e.raw import (
    Answer,
    Closed,
    RawImap,
    Sender,
    TunedRelay,
    client,
    fill,
    in_parallel,
    newcomer,
    running,
)
from tests.e2e.relay import Relay

MAX_MESSAGE = 1 << 20


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file; messages of 1 MiB at most, mailboxes of 8 MiB."""
    limits = f'max_message_size = {MAX_MESSAGE}\nmax_mailbox_size = "8M"'
    with running(TunedRelay(tmp_path_factory.mktemp("store"), limits=limits)) as relay:
        yield relay


def flags_of(raw: RawImap, uid: int = 1) -> bytes:
    """The flags of one message, in parentheses."""
    [[flags]] = raw.ok(f"UID FETCH {uid} FLAGS").find(rb"FLAGS (\(.*?\))")
    return flags


# --- 22: STORE ----------------------------------------------------------------------------------


def test_store_in_all_its_forms(relay: Relay) -> None:
    """22."""
    account = newcomer(relay)
    fill(relay, account, 3)
    with client(relay, account, "INBOX") as raw:
        told = raw.ok("UID STORE 1 +FLAGS (\\Seen $Junk)")
        assert told.lines == [b"* 1 FETCH (UID 1 FLAGS (\\Seen $Junk))"]
        assert raw.ok("UID STORE 1 +FLAGS.SILENT (\\Flagged)").lines == []
        assert flags_of(raw) == b"(\\Flagged \\Seen $Junk)"
        assert raw.ok("STORE 1 -FLAGS ($Junk)").lines == [b"* 1 FETCH (FLAGS (\\Flagged \\Seen))"]
        assert raw.ok("UID STORE 1 FLAGS (\\Draft)").find(rb"FLAGS \(\\Draft\)") == [()]
        assert raw.ok("UID STORE 1 FLAGS.SILENT ()").lines == []
        assert flags_of(raw) == b"()"
        assert raw.ok("UID STORE 77 +FLAGS (\\Seen)").lines == []
        assert raw.refused("UID STORE 1 +FLAGS (\\Recent)").startswith(b"BAD ")
        assert raw.refused(f"UID STORE 1 +FLAGS ({'k' * 65})").startswith(b"NO [LIMIT]")
        raw.ok(f"UID STORE 1 +FLAGS.SILENT ({' '.join(f'key{n}' for n in range(100))})")
        many = " ".join(f"other{n}" for n in range(40))
        assert raw.refused(f"UID STORE 2 +FLAGS ({many})").startswith(b"NO [LIMIT]")
        raw.ok("EXAMINE INBOX")
        assert raw.refused("UID STORE 1 +FLAGS (\\Seen)").startswith(b"NO [READ-ONLY]")


def test_deleted_is_a_flag_until_expunge(relay: Relay) -> None:
    """22; RFC 4315."""
    account = newcomer(relay)
    fill(relay, account, 5)
    with client(relay, account, "INBOX") as raw:
        raw.ok("UID STORE 1:4 +FLAGS.SILENT (\\Deleted)")
        assert raw.select().number(rb"(\d+) EXISTS") == 5
        assert raw.ok("UID EXPUNGE 2,5").lines == [b"* 2 EXPUNGE"]
        raw.ok("UNSELECT")
        assert raw.select().number(rb"(\d+) EXISTS") == 4
        raw.ok("EXAMINE INBOX")
        raw.ok("CLOSE")
        assert raw.select().number(rb"(\d+) EXISTS") == 4
        numbers = [int(number) for (number,) in raw.ok("EXPUNGE").find(rb"^\* (\d+) EXPUNGE")]
        left = [1, 3, 4, 5]
        for number in numbers:
            del left[number - 1]
        assert left == [5]


def test_unchangedsince_keeps_what_somebody_else_changed(relay: Relay) -> None:
    """22; RFC 7162."""
    account = newcomer(relay)
    fill(relay, account, 2)
    with client(relay, account, "INBOX") as raw, client(relay, account, "INBOX") as other:
        modseq = raw.select().number(rb"HIGHESTMODSEQ (\d+)")
        other.ok("UID STORE 1 +FLAGS (\\Flagged)")
        answer = raw.ok(f"UID STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Deleted)")
        assert b"[MODIFIED 1]" in answer.tagged
        assert flags_of(raw, 1) == b"(\\Flagged)"
        assert flags_of(raw, 2) == b"(\\Deleted)"


def test_search_keys_that_clients_use(relay: Relay) -> None:
    """22: imap_tools and core's tests."""
    account = newcomer(relay)
    with Sender(relay) as sender, client(relay, account) as raw:
        ids = [sender.send(account[0], size=size) for size in (500, 500, 60_000)]
        raw.ok("SELECT Inbox")
        raw.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
        raw.ok("UID STORE 2 +FLAGS.SILENT (\\Flagged $odd)")
        today = time.strftime("%d-%b-%Y", time.gmtime())
        for key, uids in {
            "ALL": "1 2 3",
            "(ALL)": "1 2 3",
            "UNSEEN": "2 3",
            "SEEN": "1",
            "(UNSEEN FLAGGED)": "2",
            "OR SEEN FLAGGED": "1 2",
            "NOT (OR SEEN FLAGGED)": "3",
            "KEYWORD $odd": "2",
            "UNKEYWORD $odd": "1 3",
            "LARGER 50000": "3",
            "SMALLER 50000": "1 2",
            f"SINCE {today}": "1 2 3",
            f"BEFORE {today}": "",
            f"ON {today}": "1 2 3",
            "SENTON 18-Nov-2025": "1 2 3",
            f'HEADER Message-ID "{ids[1]}"': "2",
            f'FROM "{sender.address}"': "1 2 3",
            'TEXT "nowhere to be found"': "",
            'SUBJECT "[...]"': "1 2 3",
            "UID 2:*": "2 3",
            "2:3 UNSEEN": "2 3",
            "*": "3",
            "YOUNGER 3600": "1 2 3",
            "DELETED": "",
        }.items():
            for charset in ("", "CHARSET US-ASCII ", "CHARSET UTF-8 "):
                expected = f"* SEARCH {uids}".strip().encode()
                assert raw.ok(f"UID SEARCH {charset}{key}").lines == [expected], key
        refusal = raw.refused("SEARCH CHARSET KOI8-R ALL")
        assert refusal.startswith(b"NO [BADCHARSET (US-ASCII UTF-8)]")
        tag = raw.tag()
        raw.send(tag + b" UID SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN\r\n")
        assert raw.line() == b'* ESEARCH (TAG "%b") UID MIN 2 MAX 3 ALL 2:3 COUNT 2\r\n' % tag
        assert raw.answer(tag).is_ok


class View:
    """What a client believes of a mailbox: UIDs by message number, None where it was not told."""

    def __init__(self, raw: RawImap) -> None:
        self.raw = raw
        self.uids: list[int | None] = [None] * raw.select().number(rb"(\d+) EXISTS")

    def run(self, command: bytes) -> None:
        """Run a command that has to succeed and believe what is told."""
        answer = self.raw.ok(command)
        # RFC 3501 §7.4.1: numbers may not change under a command that names or tells them.
        is_fixed = command.split()[0] in (b"FETCH", b"STORE", b"SEARCH")
        self.believe(answer, is_fixed)

    def idle(self) -> None:
        """Look in for what is new."""
        self.believe(self.raw.done(self.raw.idle()), is_fixed=False)

    def believe(self, answer: Answer, is_fixed: bool) -> None:
        """Follow the untagged lines; fail on any that contradicts an earlier one."""
        for line in answer.lines:
            found = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(?: \(UID (\d+))?", line)
            if found is None:
                continue
            number, uid = int(found[1]), found[3] and int(found[3])
            if found[2] == b"EXISTS":
                assert number >= len(self.uids), "EXISTS without the EXPUNGE before it"
                self.uids += [None] * (number - len(self.uids))
            elif found[2] == b"EXPUNGE":
                assert not is_fixed
                del self.uids[number - 1]
            elif uid:
                assert self.uids[number - 1] in (None, uid), "a number changed its message"
                self.uids[number - 1] = uid
                known = [uid for uid in self.uids if uid is not None]
                assert known == sorted(set(known))


def test_many_clients_work_on_one_mailbox(relay: Relay) -> None:
    """11, 22, imaptest in small: six sessions at random, and what each is told stays consistent."""
    account = newcomer(relay)
    fill(relay, account, 20)
    message = wire.encrypted(account[0], 300)[1]
    rest = threading.Barrier(6)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with client(relay, account) as raw:
            view = View(raw)
            for _ in range(80):
                n = 1 + chance.randrange(30)
                command = chance.choice(
                    [
                        b"APPEND INBOX {%d+}\r\n%b" % (len(message), message),
                        b"UID STORE %d:%d +FLAGS (\\Deleted)" % (n, n + 2),
                        b"STORE 1:* +FLAGS ($k%d)" % (n % 3),
                        b"EXPUNGE",
                        b"UID COPY %d:%d INBOX" % (n, n + 1),
                        b"UID MOVE %d INBOX" % n,
                        b"UID SEARCH UNSEEN",
                        b"SEARCH DELETED",
                        b"UID STORE %d:* -FLAGS.SILENT (\\Seen)" % n,
                        b"UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])",
                        b"FETCH 1:* (UID FLAGS)",
                        b"UID FETCH 1:* (UID BODY[])",
                        b"NOOP",
                        b"",
                    ]
                )
                if command and (view.uids or not command.startswith((b"STORE", b"FETCH"))):
                    view.run(command)
                else:
                    view.idle()
            rest.wait(60)
            view.run(b"NOOP")
            view.run(b"UID FETCH 1:* (UID FLAGS)")
            assert None not in view.uids

    in_parallel([partial(work, seed) for seed in range(6)])
    with client(relay, account, "INBOX") as raw:
        status = raw.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)")
        assert len(raw.ok("UID FETCH 1:* (UID)").lines) == status


# --- 21: COPY and MOVE --------------------------------------------------------------------------


def test_move_and_copy_tell_copyuid_and_change_nothing_without_target(relay: Relay) -> None:
    """21."""
    account = newcomer(relay)
    fill(relay, account, 4)
    with client(relay, account, "INBOX") as raw:
        for verb in ("UID MOVE", "UID COPY", "MOVE", "COPY"):
            assert raw.refused(f"{verb} 1:2 Missing").startswith(b"NO [TRYCREATE]")
        assert raw.ok("NOOP").lines == []
        assert raw.ok("UID FETCH 1:* UID").lines == [
            b"* %d FETCH (UID %d)" % (n, n) for n in range(1, 5)
        ]
        raw.ok("UID STORE 2 +FLAGS.SILENT (\\Flagged $odd)")
        raw.ok("CREATE Archive")
        date = raw.ok("UID FETCH 2 INTERNALDATE").find(rb'INTERNALDATE "(.*?)"')
        [[validity]] = raw.ok("STATUS Archive (UIDVALIDITY)").find(rb"UIDVALIDITY (\d+)")
        copied = raw.ok("UID COPY 1:2 Archive")
        assert b"[COPYUID %b 1:2 1:2]" % validity in copied.tagged
        assert copied.lines == []
        moved = raw.ok("UID MOVE 2,4 Archive")
        assert moved.lines[0].startswith(b"* OK [COPYUID %b 2,4 3:4]" % validity)
        assert sorted(moved.lines[1:]) in (
            [b"* 2 EXPUNGE", b"* 3 EXPUNGE"],
            [b"* 2 EXPUNGE", b"* 4 EXPUNGE"],
        )
        assert b"COPYUID" not in moved.tagged
        assert b"COPYUID" not in raw.ok("UID COPY 99 Archive").tagged
        assert raw.ok("UID MOVE 99 Archive").lines == []
        raw.select("Archive")
        assert flags_of(raw, 3) == b"(\\Flagged $odd)"
        assert raw.ok("UID FETCH 3 INTERNALDATE").find(rb'INTERNALDATE "(.*?)"') == date
        again = raw.ok("UID MOVE 1 Archive")
        assert again.find(rb"COPYUID \d+ 1 5\]") == [()]


def test_kill_amid_moves_loses_and_doubles_nothing(relay: Relay) -> None:
    """21, 5.6: kill -9."""
    account = newcomer(relay)
    fill(relay, account, 200, distinct=200)
    with client(relay, account, "INBOX") as raw:
        raw.ok("CREATE Other")
        names = [literal for literal in message_ids(raw)]
        assert len(set(names)) == 200
    chance = random.Random(5)
    here, there = "INBOX", "Other"
    for _ in range(2):
        with client(relay, account, here) as raw:
            raw.send(b"".join(b"M%d MOVE 1 %b\r\n" % (n, there.encode()) for n in range(150)))
            for _ in range(chance.randrange(10, 60)):
                raw.response()
            relay.kill()
        relay.start()
        found = []
        with client(relay, account) as raw:
            for name in ("INBOX", "Other"):
                raw.select(name)
                found += message_ids(raw)
        assert sorted(found) == sorted(names)
        here, there = there, here


def message_ids(raw: RawImap) -> list[bytes]:
    """The Message-ID fields of all messages in the selected mailbox."""
    return raw.ok("UID FETCH 1:* BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]").literals


def test_mailboxes_come_and_go(relay: Relay) -> None:
    """4.4 CREATE, DELETE, RENAME, STATUS; a re-created name has a larger UIDVALIDITY."""
    account = newcomer(relay)
    fill(relay, account, 2)
    with client(relay, account, "INBOX") as raw, client(relay, account) as other:
        assert raw.refused("CREATE INBOX").startswith(b"NO [CANNOT]")
        assert raw.refused("DELETE Missing").startswith(b"NO [NONEXISTENT]")
        assert raw.refused("SELECT Missing").startswith(b"NO [NONEXISTENT]")
        for name in ("..", "a//b", '"a\\\\b/../c"', "/".join("abcdefghi")):
            assert raw.refused(f"CREATE {name}").startswith(b"NO [CANNOT]"), name
        raw.ok('CREATE "A/B &- &BB8-"')
        assert raw.refused('CREATE "A/B &- &BB8-"').startswith(b"NO [ALREADYEXISTS]")
        assert b'* LIST (\\HasNoChildren) "/" "A/B &- &BB8-"' in raw.ok('LIST "" A/*').lines
        raw.ok("CREATE Gone")
        first = raw.ok("STATUS Gone (UIDVALIDITY)").number(rb"UIDVALIDITY (\d+)")
        other.select("Gone")
        raw.ok("DELETE Gone")
        with contextlib.suppress(Closed):
            other.send(b"x NOOP\r\n")
            assert other.line().startswith((b"* BYE ", b"x NO "))
        raw.ok("CREATE Gone")
        assert raw.ok("STATUS Gone (UIDVALIDITY)").number(rb"UIDVALIDITY (\d+)") > first
        raw.ok("RENAME INBOX Old")
        assert raw.ok("STATUS Old (MESSAGES)").number(rb"MESSAGES (\d+)") == 2
        assert raw.ok('STATUS "inbox" (MESSAGES)').lines == [b'* STATUS "INBOX" (MESSAGES 0)']


# --- 20: APPEND ---------------------------------------------------------------------------------


def test_append_is_judged_before_it_is_sent(relay: Relay) -> None:
    """20: TRYCREATE, TOOBIG without `+`, a swallowed literal, the next command works."""
    account = newcomer(relay)
    big = MAX_MESSAGE + 1
    with client(relay, account, "INBOX") as raw:
        for arguments, refusal in (
            ("Missing {1000}", b"NO [TRYCREATE]"),
            (f"INBOX {{{big}}}", b"NO [TOOBIG]"),
            (f"Missing {{{big}}}", b"NO [TOOBIG]"),
            ("INBOX {4294967296}", b"BAD "),
        ):
            # Nothing is sent behind it: an answer without `+` is the refusal itself.
            answer = raw.run(f"APPEND {arguments}")
            assert answer.untagged == []
            assert answer.tagged.split(b" ", 1)[1].startswith(refusal), arguments
        octets = b"Z9 LOGOUT\r\n" * (big // 11 + 1)
        answer = raw.run(b"APPEND INBOX {%d+}\r\n%b" % (big, octets[:big]))
        assert answer.tagged.split(b" ", 1)[1].startswith(b"NO [TOOBIG]")
        answer = raw.append(b"A NOOP\r\nB LOGOUT\r\n" * 20, "Missing")
        assert answer.tagged.split(b" ", 1)[1].startswith(b"NO [TRYCREATE]")
        assert raw.ok("NOOP").lines == []
        [[names]] = raw.ok("CAPABILITY").find(rb"APPENDLIMIT=(\d+)")
        assert int(names) == MAX_MESSAGE
        raw.send(b"X APPEND INBOX {99999999+}\r\n")
        assert b"* BYE [TOOBIG]" in raw.rest()


def test_append_stores_what_the_gate_lets_in(relay: Relay) -> None:
    """20, 39: cleartext, NUL and a bare CR are refused, bare LF becomes CRLF."""
    account = newcomer(relay)
    message = wire.encrypted(account[0])[1]
    with client(relay, account) as other, client(relay, account) as raw:
        validity = raw.select().number(rb"UIDVALIDITY (\d+)")
        raw.ok("CREATE Sent")
        other.select("Sent")
        for octets in (
            make_message(sender=account[0], encrypted=False),
            message.replace(b"\r\n\r\n--", b"\r\n\r\n\0\r\n--", 1),
            message.replace(b"Chat-Version: 1.0", b"Chat-Version: 1\r0", 1),
        ):
            assert raw.append(octets).tagged.split(b" ", 1)[1].startswith(b"NO [CANNOT]")
        appended = raw.append(message)
        assert appended.lines == [b"* 1 EXISTS"]
        assert b"[APPENDUID %d 1]" % validity in appended.tagged
        dated = '(\\Seen $odd) " 7-Feb-2024 21:52:25 -0800"'
        bare = raw.append(message.replace(b"\r\n", b"\n"), f"Sent {dated}")
        assert bare.find(rb"\[APPENDUID \d+ 1\]") == [()]
        assert raw.ok("UID FETCH 1 BODY.PEEK[]").literals == [message]
        assert other.ok("NOOP").find(rb"^\* 1 EXISTS") == [()]
        answer = other.ok("UID FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[])")
        assert answer.literals == [message]
        assert answer.find(rb"FLAGS \(\\Seen \$odd\)") == [()]
        assert answer.find(rb'INTERNALDATE " 8-Feb-2024 05:52:25 \+0000"') == [()]


def test_append_and_copy_over_quota_are_refused_and_trim_nothing(relay: Relay) -> None:
    """20, 4.4: OVERQUOTA."""
    account = newcomer(relay)
    message = wire.encrypted(account[0], 700_000)[1]
    room = (8 << 20) // len(message)
    old = '"01-Jan-2024 00:00:00 +0000"'
    with client(relay, account, "INBOX") as raw:
        for _ in range(room):
            assert raw.append(message, f"INBOX {old}").is_ok
        answer = raw.run(f"APPEND INBOX {{{len(message)}}}")
        assert answer.untagged == []
        assert b" NO [OVERQUOTA]" in answer.tagged
        assert b" NO [OVERQUOTA]" in raw.append(message).tagged
        raw.ok("CREATE Other")
        assert raw.refused(f"UID COPY 1:{room} Other").startswith(b"NO [OVERQUOTA]")
        raw.ok("UID MOVE 1 Other")
        counts = raw.ok("STATUS INBOX (MESSAGES)"), raw.ok("STATUS Other (MESSAGES)")
        assert [answer.number(rb"MESSAGES (\d+)") for answer in counts] == [room - 1, 1]
        raw.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        raw.ok("EXPUNGE")
        assert raw.append(message).is_ok, "expunged octets are given back at once (trap T42)"


def test_sync_append_waits_for_the_continuation(relay: Relay) -> None:
    """20: `{n}` and literals everywhere else, in pieces of one octet."""
    account = newcomer(relay)
    message = wire.encrypted(account[0], 300)[1]
    with client(relay, account, "INBOX") as raw:
        raw.send(b"S1 APPEND {5}\r\n")
        assert raw.response().octets.startswith(b"+ ")
        raw.send(b"INBOX {%d}\r\n" % len(message))
        assert raw.response().octets.startswith(b"+ ")
        for at in range(0, len(message), 97):
            raw.send(message[at : at + 97])
        raw.send(b"\r")
        raw.send(b"\n")
        answer = raw.answer(b"S1")
        assert answer.is_ok
        assert re.search(rb"APPENDUID \d+ 1\]", answer.tagged)
