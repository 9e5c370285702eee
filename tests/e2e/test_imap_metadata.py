"""METADATA, push tokens, quota: what core asks before it fetches its first message.

Numbers in docstrings are those of spec mail 11.
"""

from __future__ import annotations

import json
import re
import smtplib
import time
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.raw import RawImap, Sender, TunedRelay, client, newcomer, running
from tests.e2e.relay import Relay
from tests.e2e.stopwatch import Stopwatch
from tests.pace import slowdown

QUOTA = 4 << 20
DELTACHAT = "/shared/vendor/deltachat"
ENTRIES = [
    "/shared/comment",
    "/shared/admin",
    f"{DELTACHAT}/irohrelay",
    f"{DELTACHAT}/turn",
    f"{DELTACHAT}/maxsmtprecipients",
    f"{DELTACHAT}/appversions",
]
OLD = '"01-Jan-2024 00:00:00 +0000"'


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file, with mailboxes of 4 MiB."""
    limits = f"max_message_size = 1000000\nmax_mailbox_size = {QUOTA}"
    with running(TunedRelay(tmp_path_factory.mktemp("metadata"), limits=limits)) as relay:
        yield relay


def entries_of(raw: RawImap, mailbox: str, names: list[str]) -> dict[str, bytes | None]:
    """GETMETADATA, one line for all."""
    answer = raw.ok(f'GETMETADATA "{mailbox}" ({" ".join(names)})')
    assert answer.tagged.split(b" ", 1)[1] == b"OK Getmetadata completed\r\n"
    assert len(answer.untagged) <= 1
    values = iter(answer.literals)
    text = answer.lines[0] if answer.lines else b""
    assert text.startswith(f'* METADATA "{mailbox}" ('.encode()) or not text
    return {
        name.decode(): None if value == b"NIL" else next(values)
        for name, value in re.findall(rb"(/[a-z/]+) (NIL|\x00)", text)
    }


def tokens(raw: RawImap) -> list[str]:
    """The push tokens of the account."""
    value = entries_of(raw, "INBOX", ["/private/devicetoken"])["/private/devicetoken"]
    return [] if value is None else value.decode().split(" ")


# --- 17: GETMETADATA ----------------------------------------------------------------------------


def test_core_list_in_one_line_is_answered_at_once(relay: Relay) -> None:
    """17, traps T15, T16, T17."""
    with client(relay, relay.credentials()) as raw:
        stopwatch = Stopwatch(relay)
        stopwatch.start()
        values = entries_of(raw, "", ENTRIES)
        assert stopwatch.elapsed_s() < 0.3 * slowdown()
    assert list(values) == ENTRIES
    assert values[f"{DELTACHAT}/maxsmtprecipients"] == b"1000"
    turn = values[f"{DELTACHAT}/turn"]
    if turn is not None:
        host, port, expiry, password = turn.decode().split(":")
        assert host
        assert int(port)
        assert int(expiry) > time.time() + 12 * 3600
        assert re.fullmatch(r"[A-Za-z0-9+/]{27}=", password)
    iroh = values[f"{DELTACHAT}/irohrelay"]
    assert iroh is None or re.match(rb"https?://[^/]+", iroh)
    versions = values[f"{DELTACHAT}/appversions"]
    if versions is not None:
        assert b"\n" not in versions
        json.loads(versions)


def test_getmetadata_forms_and_unknown_entries(relay: Relay) -> None:
    """17, 4.4: options before and after the mailbox, one entry without parentheses."""
    name = f"{DELTACHAT}/maxsmtprecipients"
    with client(relay, relay.credentials()) as raw:
        for command in (
            f'GETMETADATA "" {name}',
            f'GETMETADATA "" ({name})',
            f'GETMETADATA (MAXSIZE 1024) "" ({name})',
            f'GETMETADATA "" (DEPTH 0) ({name})',
            f'GETMETADATA "" "{name.upper()}"',
            f'GETMETADATA (DEPTH infinity) "" ("{name}")',
        ):
            assert raw.ok(command).literals == [b"1000"], command
        small = raw.ok(f'GETMETADATA (MAXSIZE 3) "" {name}')
        assert small.literals == []
        assert b"[METADATA LONGENTRIES 4]" in small.tagged
        assert entries_of(raw, "", ["/shared/unknown"]) in ({}, {"/shared/unknown": None})
        assert raw.refused(f'GETMETADATA "Missing" {name}').startswith(b"NO ")


# --- 18: device tokens --------------------------------------------------------------------------


def test_setmetadata_in_every_form(relay: Relay) -> None:
    """18, trap T36."""
    account = newcomer(relay)
    with client(relay, account) as raw:
        done = b"OK Setmetadata completed\r\n"
        quoted = raw.ok('SETMETADATA "INBOX" (/private/devicetoken "openpgp:one")')
        assert quoted.tagged.split(b" ", 1)[1] == done
        raw.send(b"L1 SETMETADATA INBOX (/private/devicetoken {3}\r\n")
        assert raw.response().octets.startswith(b"+ ")
        raw.send(b"two)\r\n")
        assert raw.answer(b"L1").is_ok
        raw.ok('SETMETADATA "INBOX" (/private/devicetoken {5+}\r\nthree)')
        raw.send(b'a01 SETMETADATA INBOX (/private/devicetoken "1111" )\n')
        assert raw.answer(b"a01").tagged == b"a01 " + done
        assert tokens(raw) == ["openpgp:one", "two", "three", "1111"]
        raw.ok('SETMETADATA "INBOX" (/private/devicetoken "two")')
        assert tokens(raw) == ["openpgp:one", "two", "three", "1111"], "the same again is a no-op"
        # The relay's own test reads the value as the line behind `{n}`.
        raw.send(b"a02 GETMETADATA INBOX /private/devicetoken\n")
        assert raw.line() == b'* METADATA "INBOX" (/private/devicetoken {26}\r\n'
        assert raw.line() == b"openpgp:one two three 1111)\r\n"
        assert raw.answer(b"a02").is_ok


def test_tokens_are_the_accounts_and_survive_restart(relay: Relay) -> None:
    """18: NIL removes what this session has set; the other devices keep theirs."""
    account = newcomer(relay)
    with client(relay, account) as one, client(relay, account) as two:
        one.ok('SETMETADATA "INBOX" (/private/devicetoken "one")')
        two.ok('SETMETADATA "INBOX" (/private/devicetoken "two")')
        assert tokens(one) == tokens(two) == ["one", "two"]
        one.ok('SETMETADATA "INBOX" (/private/devicetoken NIL)')
        assert tokens(one) == tokens(two) == ["two"]
        one.ok('SETMETADATA "INBOX" (/private/devicetoken NIL)')
        assert tokens(one) == ["two"]
    relay.restart()
    with client(relay, account) as raw, client(relay, newcomer(relay)) as stranger:
        assert tokens(raw) == ["two"]
        assert tokens(stranger) == []


def test_long_tokens_many_tokens_and_foreign_entries(relay: Relay) -> None:
    """18: 4096 octets, the 31st token, what may not be set."""
    with client(relay, newcomer(relay)) as raw:
        long = "openpgp:" + "x" * 4088
        raw.ok(f'SETMETADATA "INBOX" (/private/devicetoken "{long}")')
        assert tokens(raw) == [long]
        for number in range(30):
            raw.ok(f'SETMETADATA "INBOX" (/private/devicetoken "token{number}")')
        assert tokens(raw) == [f"token{number}" for number in range(30)], "the oldest is dropped"
        value = "y" * 8193
        too_long = raw.refused(f'SETMETADATA "INBOX" (/private/devicetoken {{8193+}}\r\n{value})')
        assert too_long.startswith(b"NO [METADATA MAXSIZE 8192]")
        for mailbox, entry in (
            ("INBOX", "/private/comment"),
            ("INBOX", "/shared/comment"),
            ("", "/shared/comment"),
            ("", "/private/devicetoken"),
        ):
            refusal = raw.refused(f'SETMETADATA "{mailbox}" ({entry} "x")')
            assert refusal.startswith((b"NO [NOPERM]", b"NO [METADATA NOPRIVATE]"))
        assert len(tokens(raw)) == 30


# --- 19: quota ----------------------------------------------------------------------------------


def used_kib(raw: RawImap) -> int:
    """What GETQUOTAROOT says; root and numbers come together (trap T18)."""
    answer = raw.ok('GETQUOTAROOT "INBOX"')
    assert answer.lines[0] == b'* QUOTAROOT "INBOX" "User quota"'
    assert len(answer.lines) == 2
    [[used, limit]] = answer.find(rb'\* QUOTA "User quota" \(STORAGE (\d+) (\d+)\)')
    assert int(limit) == QUOTA // 1024
    return int(used)


def sizes(raw: RawImap) -> int:
    """The sum of RFC822.SIZE in the selected mailbox."""
    return sum(int(n) for (n,) in raw.ok("UID FETCH 1:* RFC822.SIZE").find(rb"SIZE (\d+)"))


def test_quota_is_the_sum_of_sizes_over_all_mailboxes(relay: Relay) -> None:
    """19, trap T42."""
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        assert used_kib(raw) == 0
        for size in (100, 5000, 30_000):
            sender.send(account[0], size=size)
        raw.ok("NOOP")
        assert used_kib(raw) == -(-sizes(raw) // 1024)
        raw.ok("CREATE Other")
        raw.ok("UID COPY 1:* Other")
        assert used_kib(raw) == -(-2 * sizes(raw) // 1024)
        raw.ok("UID STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        raw.ok("EXPUNGE")
        left = sizes(raw)
        raw.ok("DELETE Other")
        assert used_kib(raw) == -(-left // 1024)
        assert raw.ok('GETQUOTA "User quota"').lines == [
            b'* QUOTA "User quota" (STORAGE %d %d)' % (used_kib(raw), QUOTA // 1024)
        ]
        assert raw.refused('GETQUOTA "other"').startswith(b"NO [NONEXISTENT]")
        assert raw.refused('SETQUOTA "User quota" (STORAGE 1)').startswith(b"NO [NOPERM]")


def test_above_three_quarters_the_oldest_go_and_idle_hears_it(relay: Relay) -> None:
    """19, 5.9: above 75 % down to 70 %, expunges are told to the session that idles."""
    account = newcomer(relay)
    message = wire.encrypted(account[0], 200_000)[1]
    fits = QUOTA * 75 // 100 // len(message)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        for _ in range(fits):
            assert raw.append(message, f"INBOX {OLD}").is_ok
        assert used_kib(raw) * 1024 <= QUOTA * 0.75 + 1024
        tag = raw.idle()
        sender.send(account[0], size=200_000)
        kinds: list[bytes] = []
        while {*kinds} != {b"EXISTS", b"EXPUNGE"}:
            kinds.append(raw.idle_line().split()[2])
        raw.done(tag)
        assert used_kib(raw) * 1024 <= QUOTA * 0.70 + 1024
        assert used_kib(raw) == -(-sizes(raw) // 1024)
        uids = [int(uid) for (uid,) in raw.ok("UID FETCH 1:* UID").find(rb"UID (\d+)")]
        assert uids[-1] == fits + 1, "the new one stays"
        assert uids[0] > 1, "the oldest went"
        assert uids == list(range(uids[0], fits + 2))


def test_young_mail_is_never_trimmed(relay: Relay) -> None:
    """5.9: nothing younger than 24 h goes, even when a delivery does not fit."""
    account = newcomer(relay)
    message = wire.encrypted(account[0], 400_000)[1]
    with client(relay, account, "INBOX") as raw:
        fits = QUOTA // len(message)
        for _ in range(fits):
            assert raw.append(message).is_ok
        with Sender(relay) as sender, pytest.raises(smtplib.SMTPDataError) as refused:
            sender.send(account[0], size=400_000)
        assert refused.value.smtp_code == 552
        assert str(refused.value).count("5.2.2 ") == 1
        assert raw.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)") == fits
