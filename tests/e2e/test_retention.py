"""Retention as its users see it: mail and accounts that expire under live sessions."""

from __future__ import annotations

import contextlib
import imaplib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import make_message
from tests.e2e import raw, wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.databases import sqlite_only
from tests.e2e.mailbox import append, count, messages, newcomer, state_bytes, usage_kib
from tests.e2e.relay import Relay, wait_until
from tests.e2e.test_settings import change, rpc, said

pytestmark = pytest.mark.e2e
Account = tuple[str, str]
DAY_S = 86_400
SECONDS = {"interval": '"1s"'}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("retention"), retention=SECONDS) as relay:
        yield relay


def message(account: Account, size: int = 2000) -> bytes:
    return make_message(sender=account[0], size=size)


def put(client: imaplib.IMAP4, octets: bytes, age_s: float = 0.0) -> None:
    when = imaplib.Time2Internaldate(time.time() - age_s)
    assert append(client, octets, options=f"{when} ").startswith(b"OK")


def await_line(client: imaplib.IMAP4, wanted: bytes) -> list[bytes]:
    """Read lines until the wanted one; return all."""
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(wanted):
        lines.append(client.readline())
        assert lines[-1], lines
    return lines


def rows(relay: Relay, query: str) -> int:
    with relay.rows() as connection:
        return int(connection.execute(query).fetchone()[0])


def make_old(relay: Relay, account: Account) -> None:
    """Put the last login 100 days back in the stopped relay's database."""
    day = int(time.time()) // DAY_S * DAY_S - 100 * DAY_S
    with relay.rows() as connection:
        changed = connection.execute(
            "UPDATE accounts SET first_login_day = ?, last_login_day = ? WHERE address = ?",
            (day, day, account[0]),
        )
        assert changed.rowcount == 1


@contextlib.contextmanager
def days_kept(relay: ConfiguredRelay, days: int) -> Iterator[None]:
    """While the block runs, mail is kept for so long.

    Mail that is too old from the first may go before anybody is told of it. That is as it should
    be, and nothing to wait for.
    """
    change(relay, message_retention=f"{days}d")
    try:
        yield
    finally:
        rpc(relay, "setting.reset", name="message_retention")


def test_old_mail_goes_while_a_session_idles(relay: ConfiguredRelay) -> None:
    account = newcomer(relay)
    with wire.imap(relay, *account) as client, wire.imap(relay, *account) as other:
        put(client, message(account))
        client.select("INBOX")
        client.send(b"I1 IDLE\r\n")
        await_line(client, b"+")
        put(other, message(account), age_s=15 * DAY_S)
        await_line(client, b"* 2 EXISTS\r\n")
        with days_kept(relay, 10):
            await_line(client, b"* 2 EXPUNGE\r\n")
        client.send(b"DONE\r\n")
        await_line(client, b"I1 OK")
        status = other.status("INBOX", "(MESSAGES UIDNEXT)")[1][0]
        assert b"MESSAGES 1" in status
        assert b"UIDNEXT 3" in status
        assert usage_kib(other)[0] == -(-len(message(account)) // 1024)


def test_large_mail_stays_until_its_mailbox_was_open(relay: ConfiguredRelay) -> None:
    account = newcomer(relay)
    with wire.imap(relay, *account) as client:
        put(client, message(account, 180_000), age_s=8 * DAY_S)  # more than 200,000 in base64
        put(client, message(account, 1000), age_s=8 * DAY_S)
        done = relay.said("task_done")
        marker = newcomer(relay)
        with wire.imap(relay, *marker) as other:
            put(other, message(marker), age_s=21 * DAY_S)
            wait_until("a round has run", lambda: relay.said("task_done") > done)
            wait_until("the marker went", lambda: count(relay, marker) == 0)
        assert count(relay, account) == 2
        client.select("INBOX", readonly=True)
        await_news(client, b"EXPUNGE")
        client.close()
    assert [len(one) for one in messages(relay, account)] == [len(message(account, 1000))]


def await_news(client: imaplib.IMAP4, wanted: bytes) -> None:
    def has_come() -> bool:
        client.noop()
        return bool(client.untagged_responses.get(wanted.decode()))

    wait_until("the news came", has_come)


def uid_validity(device: raw.RawImap) -> int:
    (line,) = device.ok("STATUS INBOX (UIDVALIDITY)").lines
    return int(line.rpartition(b" ")[2].rstrip(b")"))


def test_a_qresync_client_reads_which_uids_retention_took(relay: ConfiguredRelay) -> None:
    """Spec policy T-27: VANISHED, and UIDs are never given out again."""
    account = newcomer(relay)
    with raw.client(relay, account) as device, wire.imap(relay, *account) as other:
        device.ok("ENABLE QRESYNC")
        put(other, message(account))
        device.ok("SELECT INBOX")
        device.idle()
        put(other, message(account), age_s=15 * DAY_S)
        told = [device.idle_line()]
        assert told == [b"* 2 EXISTS"]
        with days_kept(relay, 10):
            while b"* VANISHED 2" not in told:
                told.append(device.idle_line())
        assert not any(line.endswith(b"EXPUNGE") for line in told)
        put(other, message(account))
        while b"* 2 EXISTS" not in told[-1:]:
            told.append(device.idle_line())
        other.select("INBOX")
        assert other.uid("FETCH", "1:*", "(UID)")[1] == [b"1 (UID 1)", b"2 (UID 3)"]


def test_an_inactive_account_goes_and_its_owner_may_return(tmp_path: Path) -> None:
    relay = ConfiguredRelay(tmp_path, tables={"retention": SECONDS})
    relay.start()
    try:
        account, other = newcomer(relay), newcomer(relay)
        with wire.imap(relay, *account) as client:
            put(client, message(account))
        token = "INBOX (/private/devicetoken {0})"
        with raw.client(relay, account, "INBOX") as device:
            device.ok("SETMETADATA " + token.format('"a-token"'))
            before = uid_validity(device)
        wait_until("the relay wrote the time down", lambda: relay.said("time_suspect"))
        wait_until("the first run was skipped", lambda: relay.said("task_skipped"))
        relay.stop()
        make_old(relay, account)
        relay.start()
        wait_until("the account went", lambda: relay.said("account_deleted"))
        assert rows(relay, "SELECT count(*) FROM accounts") == 1
        with pytest.raises(imaplib.IMAP4.error):
            wire.imap(relay, account[0], "another password, long enough")
        assert count(relay, account) == 0  # made anew, and empty, by the old password
        with raw.client(relay, account) as device:
            assert uid_validity(device) > before
            (told,) = device.ok("GETMETADATA INBOX /private/devicetoken").lines
            assert told.endswith(b"(/private/devicetoken NIL)")
        assert count(relay, other) == 0
        assert relay.stop() == 0
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()


@sqlite_only("space of segment files")
def test_a_kill_during_the_deletion_of_a_large_account_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    relay = ConfiguredRelay(tmp_path, tables={"retention": SECONDS})
    relay.start()
    try:
        account = newcomer(relay)
        with wire.imap(relay, *account) as client:
            put(client, message(account))
            client.select("INBOX")
            for _ in range(12):
                assert client.copy("1:*", "INBOX")[0] == "OK"
        wait_until("the first run was skipped", lambda: relay.said("task_skipped"))
        relay.stop()
        make_old(relay, account)
        relay.start()
        wait_until("it began", lambda: rows(relay, "SELECT count(*) FROM accounts") == 0)
        relay.kill()
        left = rows(relay, "SELECT count(*) FROM messages")
        relay.start()
        wait_until("it ended", lambda: rows(relay, "SELECT count(*) FROM messages") == 0)
        wait_until("it ended", lambda: rows(relay, "SELECT count(*) FROM departing") == 0)
        wait_until("the space is back", lambda: state_bytes(relay) == 0)
        print(f"{left} messages were left by the kill")
        assert relay.stop() == 0
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()


@sqlite_only("space of segment files")
def test_space_comes_back_and_kills_during_compaction_lose_nothing(tmp_path: Path) -> None:
    relay = ConfiguredRelay(tmp_path, tables={"retention": SECONDS})
    relay.start()
    try:
        account = newcomer(relay)
        with wire.imap(relay, *account) as client:
            for number in range(200):
                put(client, message(account, 20_000 + number))
        before = messages(relay, account)
        relay.restart()  # a process appends only to segments of its own
        with wire.imap(relay, *account) as client:
            client.select("INBOX")
            client.store("1:180", "+FLAGS.SILENT", "(\\Deleted)")
            full = state_bytes(relay)
            client.expunge()
        for pause_s in (0.0, 0.05, 0.2):
            time.sleep(pause_s)
            relay.kill()
            relay.start()
            assert messages(relay, account) == before[180:]
        wait_until("the space is back", lambda: state_bytes(relay) < full / 4)
        assert messages(relay, account) == before[180:]
        assert relay.stop() == 0
        assert not any("content_" in line for line in relay.errors), relay.errors
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()


def test_a_mailbox_above_three_quarters_loses_its_oldest_mail_under_an_idle_session(
    tmp_path: Path,
) -> None:
    """T-26: trimmed to 70 percent, EXPUNGE seen live, counters right at once."""
    limits = {"max_mailbox_size": '"100K"', "max_message_size": '"50K"'}
    with running(tmp_path, limits=limits) as relay:
        account = newcomer(relay)
        with wire.imap(relay, *account) as client, wire.imap(relay, *account) as other:
            for number in range(7):
                put(client, message(account, 7000), age_s=(10 - number) * DAY_S)
            assert 70 < usage_kib(other)[0] <= 75
            client.select("INBOX")
            client.send(b"I1 IDLE\r\n")
            await_line(client, b"+")
            with wire.smtp(relay, *account) as sender:
                sender.sendmail(account[0], [account[0]], message(account, 7000))
            lines = await_line(client, b"* 1 EXPUNGE")
            if b"* 2 EXPUNGE\r\n" not in lines:
                await_line(client, b"* 1 EXPUNGE")
            client.send(b"DONE\r\n")
            await_line(client, b"I1 OK")
            assert usage_kib(other)[0] <= 70
            assert b"MESSAGES 6" in other.status("INBOX", "(MESSAGES)")[1][0]


def test_expire_counts_and_removes_only_when_told(tmp_path: Path) -> None:
    with running(tmp_path, retention={"interval": '"1h"'}) as relay:
        account = newcomer(relay)
        with wire.imap(relay, *account) as client:
            put(client, message(account), age_s=21 * DAY_S)
            put(client, message(account))
        assert deleted(said(relay, "expire")) == deleted(said(relay, "expire", "--dry-run")) == 1
        assert count(relay, account) == 2
        assert deleted(said(relay, "expire", "--remove", "-y")) == 1
        assert count(relay, account) == 1
        assert deleted(said(relay, "expire")) == 0


def deleted(report: Any) -> int:
    return sum(task["deleted_messages"] for task in report["reports"])
