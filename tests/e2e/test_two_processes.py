"""Two relay processes on one PostgreSQL database are one relay to everybody.

Each has its own state directory, ports and certificate. What one has said yes to, the other knows:
at once where a client asks (SELECT, STATUS, LIST, login), soon where it waits (IDLE, NOOP).
"""

from __future__ import annotations

import re
import statistics
import time
from functools import partial

import pytest

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay
from tests.e2e.databases import needs_postgres
from tests.e2e.mailbox import messages, stored, usage_kib
from tests.e2e.pair import SOON_S, Pair, names, noop_until, rows_of, status
from tests.e2e.raw import RawImap, Sender, client, fill, in_parallel, newcomer
from tests.e2e.relay import wait_until
from tests.pace import slowdown

pytestmark = needs_postgres


# --- deliveries --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["a to b", "b to a"])
def test_a_message_accepted_by_one_wakes_idle_on_the_other(pair: Pair, way: str) -> None:
    here, there = pair if way == "a to b" else reversed(list(pair))
    account = newcomer(here)
    took = []
    with client(there, account, "INBOX") as idler, Sender(here) as sender:
        for number in range(1, 41):
            tag = idler.idle()
            began = time.monotonic()
            message_id = sender.send(account[0])
            assert idler.idle_line() == b"* %d EXISTS" % number
            took.append(time.monotonic() - began)
            idler.done(tag)
            fetched = idler.ok(f"UID FETCH {number} (BODY.PEEK[])")
            assert message_id.encode() in fetched.literals[0]
    p50 = statistics.median(took)
    print(f"{way}: DATA to EXISTS p50 {p50 * 1000:.1f} ms, max {max(took) * 1000:.1f} ms")
    assert p50 < slowdown()
    assert max(took) < SOON_S


def test_deliveries_through_both_get_unique_ascending_uids(pair: Pair) -> None:
    account, count = newcomer(pair.a), 200
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        tags = [on_a.idle(), on_b.idle()]
        seen: list[list[int]] = [[], []]

        def listen(raw: RawImap, told: list[int]) -> None:
            while not told or told[-1] < count:
                line = raw.idle_line()
                assert line.endswith(b" EXISTS")
                told.append(int(line.split()[1]))

        def send(relay: ConfiguredRelay) -> None:
            with Sender(relay) as sender:
                for _ in range(count // 8):
                    sender.send(account[0], size=500)

        jobs = [partial(send, relay) for relay in pair for _ in range(4)]
        in_parallel([*jobs, partial(listen, on_a, seen[0]), partial(listen, on_b, seen[1])])
        for raw, tag, told in zip((on_a, on_b), tags, seen, strict=True):
            raw.done(tag)
            assert told == sorted(set(told)), "EXISTS only grows"
            found = rows_of(raw)
            assert [int(number) for number, _, _ in found] == list(range(1, count + 1))
            assert [int(uid) for _, uid, _ in found] == list(range(1, count + 1))
        assert status(on_a, "INBOX") == status(on_b, "INBOX")
    listed = stored(pair.a, account)
    assert listed == stored(pair.b, account), "both know which message has which UID"
    assert len({message_id for _, message_id in listed}) == count


def test_one_message_to_members_of_both_is_there_for_all(pair: Pair) -> None:
    accounts = [newcomer(relay) for relay in pair for _ in range(5)]
    with Sender(pair.a) as on_a, Sender(pair.b) as on_b:
        sent = [
            sender.send(*(address for address, _ in accounts), size=size)
            for sender in (on_a, on_b)
            for size in (1_000, 400_000)
        ]
    for account in accounts:
        for relay in pair:
            assert [message_id for _, message_id in stored(relay, account)] == sent


def test_large_content_is_the_same_on_both(pair: Pair) -> None:
    account = newcomer(pair.a)
    message = wire.encrypted(account[0], 5_000_000)[1]
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        assert on_a.append(message).is_ok
        noop_until(on_b, b"* 1 EXISTS")
        for raw in (on_a, on_b):
            assert raw.ok("UID FETCH 1 (BODY.PEEK[])").literals == [message]
            head, part = message.index(b"\r\n\r\n") + 4, message[3_000_000:3_001_000]
            answer = raw.ok("UID FETCH 1 (BODY.PEEK[HEADER] BODY.PEEK[]<3000000.1000>)")
            assert answer.literals == [message[:head], part]


def test_appends_copies_and_deliveries_at_once_collide_nowhere(pair: Pair) -> None:
    account, rounds = newcomer(pair.a), 15
    fill(pair.a, account, 1)
    small = wire.encrypted(account[0], 300)[1]

    def append(relay: ConfiguredRelay) -> None:
        with client(relay, account, "INBOX") as raw:
            for _ in range(rounds):
                assert raw.append(small).is_ok

    def copy(relay: ConfiguredRelay) -> None:
        with client(relay, account, "INBOX") as raw:
            for _ in range(rounds):
                raw.ok("UID COPY 1 INBOX")

    def send(relay: ConfiguredRelay) -> None:
        with Sender(relay) as sender:
            for _ in range(rounds):
                sender.send(account[0], size=300)

    in_parallel([partial(job, relay) for relay in pair for job in (append, copy, send)])
    total = 6 * rounds + 1
    facts = []
    for relay in pair:
        with client(relay, account, "INBOX") as raw:
            assert [int(uid) for _, uid, _ in rows_of(raw)] == list(range(1, total + 1))
            modseqs = raw.ok("FETCH 1:* (UID MODSEQ)").find(rb"UID (\d+) MODSEQ \((\d+)\)")
            facts.append((modseqs, status(raw, "INBOX")))
    assert facts[0] == facts[1]


def test_quota_counts_what_the_other_stored(pair: Pair) -> None:
    account = newcomer(pair.a)
    with wire.imap(pair.a, *account) as on_a, wire.imap(pair.b, *account) as on_b:
        before = usage_kib(on_b)
        fill(pair.a, account, 4, size=100_000)
        assert usage_kib(on_b) == usage_kib(on_a)
        assert usage_kib(on_b)[0] >= before[0] + 4 * 90


# --- changes -----------------------------------------------------------------------------------


def test_flags_set_on_one_are_told_and_asked_on_the_other(pair: Pair) -> None:
    account = newcomer(pair.a)
    fill(pair.a, account, 5)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        tag = on_b.idle()
        on_a.ok("UID STORE 3 +FLAGS (\\Seen $Label1)")
        told = on_b.idle_line()
        while not told.startswith(b"* 3 FETCH"):  # a new keyword is announced first
            told = on_b.idle_line()
        assert set(re.findall(rb"[\\$]\w+", told)) == {b"\\Seen", b"$Label1"}
        on_b.done(tag)
        on_b.ok("UID STORE 2 +FLAGS (\\Flagged)")
        noop_until(on_a, b"* 2 FETCH (UID 2 FLAGS (\\Flagged))")
        assert rows_of(on_a) == rows_of(on_b)
        on_a.ok("UID STORE 1:* FLAGS (\\Seen)")
        assert status(on_b, "INBOX")[b"UNSEEN"] == 0
        with client(pair.b, account, "INBOX") as fresh:
            assert {flags for _, _, flags in rows_of(fresh)} == {b"\\Seen"}
            assert len(fresh.ok("UID SEARCH SEEN").lines[0].split()) == 2 + 5


def test_select_and_status_never_lag_behind_what_was_acknowledged(pair: Pair) -> None:
    """Without waiting for a hint: every answer is asked for right after the other's OK."""
    account = newcomer(pair.a)
    message = wire.encrypted(account[0], 300)[1]
    with (
        client(pair.a, account, "INBOX") as writer,
        client(pair.b, account) as reader,
        client(pair.b, account) as asker,
    ):
        for number in range(1, 31):
            assert writer.append(message).is_ok
            assert status(asker, "INBOX")[b"MESSAGES"] == number
            assert b"* %d EXISTS" % number in reader.select().lines
            writer.ok(f"UID STORE {number} +FLAGS.SILENT (\\Seen)")
            assert status(asker, "INBOX")[b"UNSEEN"] == 0
            assert reader.select().find(rb"OK \[UNSEEN") == []
            assert rows_of(reader)[-1][2] == b"\\Seen"


def test_expunge_on_one_is_told_on_the_other_with_right_numbers(pair: Pair) -> None:
    account = newcomer(pair.a)
    fill(pair.a, account, 6)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        on_a.ok("UID STORE 2,5 +FLAGS.SILENT (\\Deleted)")
        on_a.ok("EXPUNGE")
        view = list(range(1, 7))

        def has_followed() -> bool:
            for line in on_b.ok("NOOP").lines:
                if line.endswith(b" EXPUNGE"):
                    del view[int(line.split()[1]) - 1]
            return len(view) == 4

        wait_until("both are gone", has_followed, SOON_S)
        assert view == [1, 3, 4, 6]
        assert [int(uid) for _, uid, _ in rows_of(on_b)] == view
        tag = on_b.idle()
        on_a.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
        on_a.ok("UID EXPUNGE 3")
        while not (told := on_b.idle_line()).endswith(b" EXPUNGE"):
            assert b" FETCH " in told
        assert told == b"* 2 EXPUNGE"
        on_b.done(tag)
        assert on_b.ok("UID FETCH 3 (FLAGS)").untagged == []
        assert len(stored(pair.b, account)) == 3


def test_move_on_one_is_seen_in_both_mailboxes_on_the_other(pair: Pair) -> None:
    account = newcomer(pair.a)
    fill(pair.a, account, 4)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        on_a.ok('CREATE "DeltaChat"')
        tag = on_b.idle()
        on_a.ok('UID MOVE 2:3 "DeltaChat"')
        assert {on_b.idle_line(), on_b.idle_line()} <= {b"* 2 EXPUNGE", b"* 3 EXPUNGE"}
        on_b.done(tag)
        assert status(on_b, "DeltaChat")[b"MESSAGES"] == 2
        assert status(on_b, "INBOX")[b"MESSAGES"] == 2
        on_b.select("DeltaChat")
        assert len(on_b.ok("UID FETCH 1:* (BODY.PEEK[])").literals) == 2


def test_mailboxes_made_renamed_and_deleted_on_one_are_so_on_the_other(pair: Pair) -> None:
    account = newcomer(pair.a)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        on_b.ok('LIST "" "*"')
        on_a.ok('CREATE "One"')
        assert names(on_b) == {b"INBOX", b"One"}
        first = status(on_b, "One")[b"UIDVALIDITY"]
        assert on_b.append(wire.encrypted(account[0], 300)[1], "One").is_ok
        on_a.ok('RENAME "One" "Two"')
        assert names(on_b) == {b"INBOX", b"Two"}
        assert on_b.refused('SELECT "One"').startswith(b"NO ")
        assert status(on_b, "Two")[b"MESSAGES"] == 1
        assert on_b.refused('CREATE "Two"').startswith(b"NO [ALREADYEXISTS]")
        on_b.ok('DELETE "Two"')
        assert names(on_a) == {b"INBOX"}
        assert on_a.refused('STATUS "Two" (MESSAGES)').startswith(b"NO ")
        on_a.ok('CREATE "One"')
        assert status(on_b, "One")[b"UIDVALIDITY"] > first
        on_a.ok('UNSUBSCRIBE "One"')
        assert all(b"One" not in line for line in on_b.ok('LSUB "" "*"').lines)


def test_deleting_a_mailbox_ends_sessions_of_the_other_in_it(pair: Pair) -> None:
    account = newcomer(pair.a)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        on_a.ok('CREATE "Gone"')
        on_b.select("Gone")
        on_b.idle()
        on_a.ok('DELETE "Gone"')
        assert b"* BYE" in on_b.rest()
    with client(pair.b, account, "INBOX") as again:
        assert names(again) == {b"INBOX"}


def test_of_two_conditional_stores_at_once_one_wins(pair: Pair) -> None:
    account = newcomer(pair.a)
    fill(pair.a, account, 1)
    with client(pair.a, account, "INBOX") as on_a, client(pair.b, account, "INBOX") as on_b:
        for number in range(20):
            modseq = status(on_a, "INBOX")[b"HIGHESTMODSEQ"]
            wait_until("b knows", lambda m=modseq: status(on_b, "INBOX")[b"HIGHESTMODSEQ"] == m)
            tagged: list[bytes] = []

            def store(raw: RawImap, sign: str, before: int, told: list[bytes]) -> None:
                command = f"UID STORE 1 (UNCHANGEDSINCE {before}) {sign}FLAGS (\\Flagged)"
                told.append(raw.ok(command).tagged)

            # Adding what is there changes nothing: each takes the flag's other value.
            sign = "-" if number % 2 else "+"
            in_parallel([partial(store, raw, sign, modseq, tagged) for raw in (on_a, on_b)])
            refused = [line for line in tagged if b"[MODIFIED 1]" in line]
            assert len(refused) <= 1
            after = {status(raw, "INBOX")[b"HIGHESTMODSEQ"] for raw in (on_a, on_b)}
            assert len(after) == 1
            assert after.pop() > modseq


def test_keywords_added_on_both_at_once_are_all_kept(pair: Pair) -> None:
    account = newcomer(pair.a)
    fill(pair.a, account, 1)

    def add(relay: ConfiguredRelay, letter: str) -> None:
        with client(relay, account, "INBOX") as raw:
            for number in range(20):
                raw.ok(f"UID STORE 1 +FLAGS.SILENT (k{letter}{number})")

    in_parallel([partial(add, relay, letter) for relay, letter in zip(pair, "ab", strict=True)])
    wanted = {f"k{letter}{number}".encode() for letter in "ab" for number in range(20)}
    for relay in pair:
        with client(relay, account, "INBOX") as raw:
            assert set(rows_of(raw)[0][2].split()) == wanted


def test_moving_the_same_messages_from_both_doubles_none(pair: Pair) -> None:
    account, count = newcomer(pair.a), 40
    with client(pair.a, account, "INBOX") as raw:
        raw.ok('CREATE "Target"')
    with Sender(pair.a) as sender:
        sent = {sender.send(account[0], size=300) for _ in range(count)}

    def move(relay: ConfiguredRelay) -> None:
        with client(relay, account, "INBOX") as raw:
            for uid in range(1, count + 1):
                raw.run(f'UID MOVE {uid} "Target"')  # too late is NO or an empty OK: both are fine

    in_parallel([partial(move, relay) for relay in pair])
    for relay in pair:
        assert stored(relay, account) == []
        moved = stored(relay, account, "Target")
        assert len(moved) == count
        assert {message_id for _, message_id in moved} == sent
        assert len(messages(relay, account, "Target")) == count


def test_a_session_on_each_stays_right_under_the_changes_of_both(pair: Pair) -> None:
    """A view kept from EXISTS and EXPUNGE alone equals what FETCH says at the end."""
    account = newcomer(pair.a)
    fill(pair.a, account, 10)

    def work(relay: ConfiguredRelay, parity: int) -> None:
        with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
            for number in range(20):
                sender.send(account[0], size=300)
                uids = [int(uid) for _, uid, _ in rows_of(raw) if int(uid) % 2 == parity]
                if uids and number % 2:
                    raw.ok(f"UID STORE {uids[0]} +FLAGS.SILENT (\\Deleted)")
                    raw.ok(f"UID EXPUNGE {uids[0]}")
                else:
                    raw.ok("NOOP")
                assert_numbers(raw)

    def assert_numbers(raw: RawImap) -> None:
        found = rows_of(raw)
        numbers, uids = ([int(row[place]) for row in found] for place in (0, 1))
        assert numbers == sorted(set(numbers))
        assert uids == sorted(set(uids))
        # FETCH may not tell of an expunge: it leaves out what is gone, and the next command tells.
        left_out = set(range(1, max(numbers) + 1)) - set(numbers)
        told = raw.ok("NOOP").find(rb"^\* (\d+) EXPUNGE")
        assert left_out <= {int(number) for (number,) in told}

    in_parallel([partial(work, relay, parity) for parity, relay in enumerate(pair)])
    listed = [stored(relay, account) for relay in pair]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 10 + 40 - 20
