"""Two relay processes on one PostgreSQL database are one relay to everybody.

Each has its own state directory, ports and certificate. What one has said yes to, the other knows:
at once where a client asks (SELECT, STATUS, LIST, login), soon where it waits (IDLE, NOOP).
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from deltachat_rpc_client import EventType

from tests import postgres
from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, Table
from tests.e2e.cores import Cores, await_event, await_text, introduce, second_device
from tests.e2e.databases import needs_postgres
from tests.e2e.ledger import Ledger, Persistent, sending
from tests.e2e.mailbox import await_messages, messages, stored, usage_kib
from tests.e2e.raw import RawImap, Sender, client, fill, in_parallel, newcomer
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import wait_until
from tests.e2e.test_settings import said
from tests.e2e.web import Web
from tests.pace import slowdown

pytestmark = needs_postgres

TOKEN = "/private/devicetoken"
SOON_S = 20
"""A hint takes milliseconds, and what missed it is found after 30 s; between them is a machine that
does much else."""


@dataclass
class Pair:
    """Two relays that are to be one."""

    a: ConfiguredRelay
    b: ConfiguredRelay

    def __iter__(self) -> Iterator[ConfiguredRelay]:
        return iter((self.a, self.b))


@contextlib.contextmanager
def running_pair(folder: Path, **tables: Table) -> Iterator[Pair]:
    """Start both at the same instant on an empty database; both have to end well."""
    server = postgres.shared()
    url = server.fresh_database()
    pair = Pair(*(ConfiguredRelay(folder / name, database=url, tables=tables) for name in "ab"))
    try:
        in_parallel([relay.start for relay in pair])
        yield pair
        for relay in pair:
            assert relay.stop() == 0, "\n".join(relay.errors[-20:])
            assert not any("Traceback" in line for line in relay.errors)
    finally:
        for relay in pair:
            if relay.process is not None and relay.process.poll() is None:
                relay.kill()
        server.drop_database(url)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with running_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
def mortal_pair(tmp_path: Path) -> Iterator[Pair]:
    """A pair of which a test may kill either."""
    with running_pair(tmp_path) as pair:
        yield pair


def rows_of(raw: RawImap) -> list[tuple[bytes, ...]]:
    """(number, UID, flags) of everything in the selected mailbox."""
    answer = raw.ok("FETCH 1:* (UID FLAGS)")
    return answer.find(rb"^\* (\d+) FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)")


def status(raw: RawImap, mailbox: str) -> dict[bytes, int]:
    """STATUS of a mailbox, all items."""
    items = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ"
    [line] = [
        line
        for line in raw.ok(f'STATUS "{mailbox}" ({items})').lines
        if line.startswith(b"* STATUS ")  # news of the selected mailbox may come with it
    ]
    return {name: int(value) for name, value in re.findall(rb"([A-Z]+) (\d+)", line)}


def names(raw: RawImap) -> set[bytes]:
    """The names LIST tells."""
    return {name for (name,) in raw.ok('LIST "" "*"').find(rb'"/" "?([^"]+)"?$')}


def noop_until(raw: RawImap, line: bytes) -> list[bytes]:
    """Say NOOP until it tells this; returns everything that was told up to then."""
    told: list[bytes] = []

    def is_told() -> bool:
        told.extend(raw.ok("NOOP").lines)
        return line in told

    wait_until(f"NOOP tells {line!r}", is_told, SOON_S)
    return told


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
        assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
        uids = [int(uid) for _, uid, _ in found]
        assert uids == sorted(set(uids))

    in_parallel([partial(work, relay, parity) for parity, relay in enumerate(pair)])
    listed = [stored(relay, account) for relay in pair]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 10 + 40 - 20


# --- accounts ----------------------------------------------------------------------------------


def test_an_account_made_on_one_logs_in_on_the_other_at_once(pair: Pair) -> None:
    for here, there in (pair, reversed(list(pair))):
        account = here.credentials()
        wire.imap(here, *account).logout()
        wire.imap(there, *account).logout()
        submitter(there, account).close()
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            wire.imap(there, account[0], "not the password")
        made = Web(here).post("/new").json()
        wire.smtp(there, made["email"], made["password"]).quit()


def test_one_name_asked_for_on_both_at_once_is_one_account(pair: Pair) -> None:
    for _ in range(5):
        account = pair.a.credentials()
        jobs = [partial(wire.imap, relay, *account) for relay in pair]
        jobs += [partial(wire.smtp, relay, *account) for relay in pair]
        with ThreadPoolExecutor(4) as pool:
            sessions = [pool.submit(job) for job in jobs]
        for session in sessions:
            open_one = session.result()
            open_one.logout() if isinstance(open_one, imaplib.IMAP4) else open_one.quit()
        validities = set()
        for relay in pair:
            with client(relay, account) as raw:
                validities.add(status(raw, "INBOX")[b"UIDVALIDITY"])
        assert len(validities) == 1
        with Sender(pair.a) as sender:
            sender.send(account[0])
        assert len(stored(pair.b, account)) == 1


def test_of_two_passwords_for_one_name_one_wins_on_both(pair: Pair) -> None:
    for _ in range(5):
        address, first = pair.a.credentials()
        _, second = pair.a.credentials()

        def works(relay: ConfiguredRelay, password: str, address: str = address) -> bool:
            try:
                wire.imap(relay, address, password).logout()
            except imaplib.IMAP4.error:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            tried = [pool.submit(works, pair.a, first), pool.submit(works, pair.b, second)]
        won = [attempt.result() for attempt in tried]
        assert sum(won) == 1
        winner, loser = (first, second) if won[0] else (second, first)
        for relay in pair:
            assert works(relay, winner)
            assert not works(relay, loser)


def test_a_push_token_set_on_one_is_read_on_the_other(pair: Pair) -> None:
    account = newcomer(pair.a)
    with client(pair.a, account) as on_a, client(pair.b, account) as on_b:
        assert on_b.ok(f'GETMETADATA "INBOX" ({TOKEN})').literals == []
        on_a.ok(f'SETMETADATA "INBOX" ({TOKEN} "first-token")')
        wait_until(
            "b knows the token",
            lambda: on_b.ok(f'GETMETADATA "INBOX" ({TOKEN})').literals == [b"first-token"],
            SOON_S,
        )
        in_parallel(
            [
                partial(raw.ok, f'SETMETADATA "INBOX" ({TOKEN} "of-{name}")')
                for name, raw in (("a", on_a), ("b", on_b))
            ]
        )
    for relay in pair:
        with client(relay, account) as raw:
            [value] = raw.ok(f'GETMETADATA "INBOX" ({TOKEN})').literals
            assert set(value.split()) == {b"first-token", b"of-a", b"of-b"}


def test_each_report_is_delivered_once_whoever_does_it(pair: Pair) -> None:
    accounts = [newcomer(relay) for relay in pair]
    for at in range(10):
        relay, account = (pair.a, accounts[0]) if at % 2 else (pair.b, accounts[1])
        nobody = relay.credentials()[0]
        with submitter(relay, account) as smtp:
            octets = wire.encrypted(account[0])[1]
            assert smtp.submit(account[0], [nobody, accounts[0][0]], octets).code == 250
    reports = [5, 5]
    mail = [10, 0]
    for account, wanted in zip(accounts, map(sum, zip(reports, mail, strict=True)), strict=True):
        await_messages(pair.a, account, wanted)
        await_messages(pair.b, account, wanted)


# --- what runs by itself -------------------------------------------------------------------------


def test_a_setting_changed_on_one_holds_on_the_other(pair: Pair) -> None:
    name = "limits_max_recipients"
    entry = "/shared/vendor/deltachat/maxsmtprecipients"
    with client(pair.b, newcomer(pair.b)) as raw:

        def holds(value: bytes) -> bool:
            return raw.ok(f'GETMETADATA "" {entry}').literals == [value]

        said(pair.a, "settings", "set", name, "7")
        wait_until("b follows", lambda: holds(b"7"), SOON_S)
        assert said(pair.b, "settings", "get", name)["effective"] == "7"
        said(pair.a, "settings", "reset", name)
        wait_until("b follows back", lambda: holds(b"1000"), SOON_S)


def test_retention_of_both_removes_once_and_tells_everybody(tmp_path: Path) -> None:
    with running_pair(tmp_path, retention={"interval": '"1s"'}) as pair:
        account = newcomer(pair.a)
        message = wire.encrypted(account[0])[1]
        idlers = [client(relay, account, "INBOX") for relay in pair]
        with client(pair.b, account) as other, idlers[0], idlers[1]:
            old = '"01-Jan-2024 00:00:00 +0000"'
            tags = [raw.idle() for raw in idlers]
            for _ in range(5):
                assert other.append(message, f"INBOX {old}").is_ok
            assert other.append(message).is_ok
            for raw, tag in zip(idlers, tags, strict=True):
                there = gone = 0
                while (there, gone) != (1, 5):
                    line = raw.idle_line()
                    number, what = int(line.split()[1]), line.split()[2]
                    assert what in (b"EXISTS", b"EXPUNGE")
                    there, gone = (number, gone) if what == b"EXISTS" else (there - 1, gone + 1)
                raw.done(tag)
            expected = {b"MESSAGES": 1, b"UIDNEXT": 7, b"UNSEEN": 1}
            for raw in (*idlers, other):
                facts = status(raw, "INBOX")
                assert {name: facts[name] for name in expected} == expected
        for relay in pair:
            assert [uid for uid, _ in stored(relay, account)] == [6]


# --- real clients ------------------------------------------------------------------------------


def test_cores_on_different_processes_chat(pair: Pair, cores: Cores) -> None:
    alice, bob = cores.online(pair.a), cores.online(pair.b)
    alice_chat, bob_chat = introduce(alice, bob)
    for number in range(10):
        alice_chat.send_text(f"ping {number}")
        await_text(bob, f"ping {number}")
        bob_chat.send_text(f"pong {number}")
        await_text(alice, f"pong {number}")


def test_devices_of_one_account_on_different_processes_agree(
    pair: Pair, cores: Cores, tmp_path: Path
) -> None:
    alice, credentials = cores.online(pair.a), pair.a.credentials()
    bob = cores.online(pair.a, credentials=credentials)
    alice_chat, bob_chat = introduce(alice, bob)
    second = second_device(cores, bob, pair.b, credentials[1], tmp_path / "backup")
    bob_chat.send_text("from the first device")
    await_text(second, "from the first device")
    await_text(alice, "from the first device")
    alice_chat.send_text("to both devices")
    on_first = await_text(bob, "to both devices")
    on_second = await_text(second, "to both devices")
    on_first.mark_seen()
    await_event(
        second,
        EventType.MSGS_NOTICED,
        lambda event: event.chat_id == on_second.get_snapshot().chat_id,
    )


# --- the end of one ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["killed", "restarted"])
def test_either_may_go_while_both_deliver(mortal_pair: Pair, way: str) -> None:
    pair, ledger = mortal_pair, Ledger()
    recipients = [newcomer(relay) for relay in pair]
    clients = {
        relay.folder.name: [
            Persistent(relay, relay.credentials(), recipients, ledger) for _ in range(2)
        ]
        for relay in pair
    }

    def await_progress(of: Ledger, more: int) -> None:
        goal = len(of.acknowledged) + more
        wait_until("more is acknowledged", lambda: len(of.acknowledged) >= goal)

    with sending([one for both in clients.values() for one in both]):
        for victim in [pair.a, pair.b] * 3:
            [survivor] = [relay for relay in pair if relay is not victim]
            assert survivor.process is not None
            pid = survivor.process.pid
            await_progress(ledger, 20)
            victim.kill() if way == "killed" else victim.stop()
            await_progress(ledger, 10)  # the other goes on
            victim.start()
            assert survivor.process.pid == pid
            assert survivor.process.poll() is None
    counts = {ledger.check_all(relay, recipients) for relay in pair}
    assert len(counts) == 1
    print(f"{way}: {len(ledger.acknowledged)} acknowledged, {counts} copies")
    print(dict(ledger.refusals))
    if way == "killed":
        assert not ledger.refusals, "the survivor refused mail because of the other's end"


def test_what_was_acknowledged_just_before_a_kill_is_told_by_the_other(mortal_pair: Pair) -> None:
    victim, survivor = mortal_pair
    account, sender = newcomer(survivor), victim.credentials()
    with client(survivor, account, "INBOX") as idler:
        tag = idler.idle()
        for number in range(1, 6):
            with submitter(victim, sender) as smtp:
                octets = wire.encrypted(sender[0])[1]
                assert smtp.submit(sender[0], [account[0]], octets).code == 250
                victim.kill()
            assert idler.idle_line() == b"* %d EXISTS" % number
            victim.start()
        idler.done(tag)
        assert len(idler.ok("UID FETCH 1:* (BODY.PEEK[])").literals) == 5


def test_a_kill_amid_moves_loses_and_doubles_nothing(mortal_pair: Pair) -> None:
    victim, survivor = mortal_pair
    account, count = newcomer(survivor), 60
    with client(survivor, account, "INBOX") as watcher:
        watcher.ok('CREATE "Target"')
        with Sender(survivor) as sender:
            sent = {sender.send(account[0], size=300) for _ in range(count)}
        mover = client(victim, account, "INBOX")
        moved = threading.Event()

        def move() -> None:
            with contextlib.suppress(OSError, AssertionError):  # it is killed under us
                for uid in range(1, count + 1):
                    mover.ok(f'UID MOVE {uid} "Target"')
                    moved.set()

        thread = threading.Thread(target=move)
        thread.start()
        moved.wait(60)
        victim.kill()
        thread.join(60)
        mover.close()
        here, there = stored(survivor, account), stored(survivor, account, "Target")
        assert len(here) + len(there) == count
        assert {message_id for _, message_id in [*here, *there]} == sent
        watcher.ok("NOOP")
        assert len(rows_of(watcher)) == len(here)
    victim.start()
    assert stored(victim, account) == here
    assert stored(victim, account, "Target") == there


def test_a_conversation_goes_on_when_one_process_is_killed(mortal_pair: Pair, cores: Cores) -> None:
    victim, survivor = mortal_pair
    alice, bob = cores.online(victim), cores.online(survivor)
    alice_chat, bob_chat = introduce(alice, bob)
    sent = [alice_chat.send_text(f"before {index}") for index in range(5)]
    sent[1].wait_until_delivered()
    victim.kill()
    bob_chat.send_text("while you are away")
    victim.start()
    cores.deltachat.maybe_network()
    await_text(alice, "while you are away")
    texts = set()
    wanted = {f"before {index}" for index in range(5)}

    def has_all() -> bool:
        texts.update(
            message.get_snapshot().text for message in bob.create_chat(alice).get_messages()
        )
        return wanted <= texts

    wait_until("all have arrived", has_all, 120)
