"""Two relay processes on one database: accounts, settings, retention, real clients."""

from __future__ import annotations

import imaplib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from deltachat_rpc_client import EventType

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay
from tests.e2e.cores import Cores, await_event, await_text, introduce, second_device
from tests.e2e.databases import needs_postgres
from tests.e2e.mailbox import await_messages, stored
from tests.e2e.pair import SOON_S, Pair, running_pair, status
from tests.e2e.raw import RawImap, Sender, client, in_parallel, newcomer
from tests.e2e.rawsmtp import submitter
from tests.e2e.relay import wait_until
from tests.e2e.test_settings import said
from tests.e2e.web import Web

pytestmark = needs_postgres
TOKEN = "/private/devicetoken"


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

            def has_all(raw: RawImap = raw) -> bool:
                [value] = raw.ok(f'GETMETADATA "INBOX" ({TOKEN})').literals
                return set(value.split()) == {b"first-token", b"of-a", b"of-b"}

            wait_until("it knows all tokens", has_all, SOON_S)  # the other's by a hint


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
            old = imaplib.Time2Internaldate(time.time() - 15 * 86_400)
            tags = [raw.idle() for raw in idlers]
            for _ in range(5):
                assert other.append(message, f"INBOX {old}").is_ok
            assert other.append(message).is_ok
            for raw in idlers:
                while (line := raw.idle_line()) != b"* 6 EXISTS":
                    assert line.endswith(b" EXISTS")
            # What is too old from the first may go before anybody is told of it.
            said(pair.a, "settings", "set", "message_retention", "10d")
            for raw, tag in zip(idlers, tags, strict=True):
                there = [1, 2, 3, 4, 5, 6]
                while there != [6]:
                    line = raw.idle_line()
                    assert line.endswith(b" EXPUNGE")
                    del there[int(line.split()[1]) - 1]
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
