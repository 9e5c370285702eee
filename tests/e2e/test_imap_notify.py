"""NOTIFY against the program: pushed events over TLS and COMPRESS, many sessions, no mix-ups."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.raw import RawImap, Sender, client, fill, in_parallel, newcomer, running
from tests.e2e.relay import Relay

SELECTED = "(SELECTED (MessageNew (UID FLAGS) MessageExpunge FlagChange))"
OTHERS = "(PERSONAL (MessageNew MessageExpunge MailboxName SubscriptionChange))"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("notify"))) as relay:
        yield relay


def pushed(raw: RawImap) -> bytes:
    """The next line that comes unasked."""
    return raw.response().skeleton.rstrip()


@pytest.mark.parametrize("is_compressed", [False, True])
def test_mail_and_changes_arrive_without_a_command(relay: Relay, is_compressed: bool) -> None:
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw, Sender(relay) as sender:
        if is_compressed:
            raw.compress()
        raw.ok(f"NOTIFY SET {SELECTED} {OTHERS}")
        sender.send(account[0])
        assert pushed(raw) == b"* 1 EXISTS"
        assert pushed(raw) == b"* 1 FETCH (UID 1 FLAGS ())"
        with client(relay, account, "INBOX") as other:
            other.ok("UID STORE 1 +FLAGS.SILENT (\\Seen)")
            assert pushed(raw) == b"* 1 FETCH (UID 1 FLAGS (\\Seen))"
            other.ok("CREATE work")
            assert pushed(raw) == b'* LIST (\\HasNoChildren) "/" "work"'
            other.ok("COPY 1 work")
            status = raw.response().octets
            assert status == b'* STATUS "work" (MESSAGES 1 UIDNEXT 2)\r\n'
            other.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
            assert pushed(raw) == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Seen))"
            other.ok("CLOSE")
            assert pushed(raw) == b"* 1 EXPUNGE"
        raw.ok("NOTIFY NONE")
        sender.send(account[0])
        assert raw.is_silent(0.5)
        assert raw.ok("NOOP").lines == []
        raw.ok(f"NOTIFY SET {SELECTED}")


def test_pushed_lines_never_tear_an_answer(relay: Relay) -> None:
    """Commands and deliveries at once: every response is whole and numbers stay true."""
    account = newcomer(relay)
    fill(relay, account, 20)
    count = 20

    def deliver() -> None:
        with Sender(relay) as sender:
            for _ in range(15):
                sender.send(account[0], size=600)

    with client(relay, account, "INBOX") as raw:
        raw.ok(f"NOTIFY SET {SELECTED}")
        heard: list[bytes] = []

        def ask() -> None:
            for _ in range(60):
                heard.extend(raw.ok("UID FETCH 1:20 (UID BODY.PEEK[HEADER])").lines)

        in_parallel([deliver, ask])
        heard += raw.ok("NOOP").lines
        while len({line for line in heard if b"EXISTS" in line}) == 0 or not any(
            line == b"* 35 EXISTS" for line in heard
        ):
            heard.append(pushed(raw))
    counts = [int(line.split()[1]) for line in heard if line.endswith(b" EXISTS")]
    assert counts == sorted(counts)
    assert counts[-1] == count + 15
    fetched = [line for line in heard if b"BODY[HEADER]" in line]
    assert len(fetched) == 60 * 20


def test_many_watchers_of_one_account(relay: Relay) -> None:
    account = newcomer(relay)
    watchers = [client(relay, account) for _ in range(10)]
    try:
        for raw in watchers:
            raw.ok(f"NOTIFY SET {OTHERS}")
        with Sender(relay) as sender:
            sender.send(account[0])
        for raw in watchers:
            assert raw.response().octets == b'* STATUS "INBOX" (MESSAGES 1 UIDNEXT 2)\r\n'
            assert raw.is_silent(0.01)
    finally:
        for raw in watchers:
            raw.close()


def test_a_library_that_knows_no_notify_gets_along(relay: Relay) -> None:
    account = newcomer(relay)
    fill(relay, account, 1)
    reader = wire.imap(relay, *account)
    assert "NOTIFY" in reader.capabilities
    assert reader.xatom("NOTIFY", "SET", SELECTED)[0] == "OK"
    reader.select("INBOX")
    fill(relay, account, 1)
    assert reader.noop()[0] == "OK"
    assert reader.response("EXISTS")[1][-1] == b"2"
    reader.logout()
