"""OBJECTID: ids that clients may keep."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient

from tests.e2e import wire
from tests.e2e.raw import Sender, TunedRelay, newcomer, running
from tests.e2e.relay import Relay, wait_until


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with running(TunedRelay(tmp_path_factory.mktemp("objectid"))) as relay:
        yield relay


def mailbox_id(client: imaplib.IMAP4, name: str) -> bytes:
    """The MAILBOXID by STATUS, which has to be that of SELECT."""
    found = re.search(rb"MAILBOXID \(([A-Za-z0-9_-]+)\)", client.status(name, "(MAILBOXID)")[1][0])
    assert found is not None
    client.select(name)
    # The standard library leaves the text of an untagged OK out of what it keeps.
    assert client.untagged_responses["MAILBOXID"] == [b"(" + found[1] + b")"]
    return found[1]


def email_ids(client: imaplib.IMAP4, mailbox: str) -> list[bytes]:
    client.select(mailbox, readonly=True)
    rows = client.uid("FETCH", "1:*", "(EMAILID THREADID)")[1]
    found = [re.search(rb"EMAILID \(([A-Za-z0-9_-]+)\) THREADID NIL", row) for row in rows]
    return [match[1] for match in found if match is not None]


def test_ids_survive_renames_copies_moves_and_restarts(relay: Relay) -> None:
    account = newcomer(relay)
    with Sender(relay) as sender:
        for _ in range(3):
            sender.send(account[0])
    with wire.imap(relay, *account) as client:
        assert "OBJECTID" in client.capabilities
        wait_until("mail arrived", lambda: client.select("INBOX")[1] == [b"3"])
        kind, (text,) = client.create("a")
        assert kind == "OK"
        created = re.match(rb"\[MAILBOXID \(([A-Za-z0-9_-]+)\)\] ", text)
        assert created is not None
        assert mailbox_id(client, "a") == created[1]
        inbox = mailbox_id(client, "INBOX")
        assert inbox != created[1]
        before = email_ids(client, "INBOX")
        assert len(set(before)) == 3
        client.select("INBOX")
        client.uid("COPY", "1:2", "a")
        client.uid("MOVE", "3", "a")
        assert email_ids(client, "a") == before
        assert email_ids(client, "INBOX") == before[:2]
        client.rename("a", "b")
        assert mailbox_id(client, "b") == created[1]
    relay.restart()
    with wire.imap(relay, *account) as client:
        assert mailbox_id(client, "b") == created[1]
        assert mailbox_id(client, "INBOX") == inbox
        assert email_ids(client, "b") == before
        client.delete("b")
        client.create("b")
        assert mailbox_id(client, "b") not in (created[1], inbox)


def test_ids_of_one_message_differ_between_accounts(relay: Relay) -> None:
    ann, bob = newcomer(relay), newcomer(relay)
    with Sender(relay) as sender:
        sender.send(ann[0], bob[0])
    found = set()
    for account in (ann, bob):
        with wire.imap(relay, *account) as client:
            wait_until("mail arrived", lambda: client.select("INBOX")[1] == [b"1"])
            found.update(email_ids(client, "INBOX"))
            found.add(mailbox_id(client, "INBOX"))
    assert len(found) == 4


def test_imapclient_fetches_and_searches_ids(relay: Relay) -> None:
    account = newcomer(relay)
    with Sender(relay) as sender:
        sender.send(account[0])
        sender.send(account[0])
    with IMAPClient("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()) as client:
        client.login(*account)
        wait_until("mail arrived", lambda: client.select_folder("INBOX")[b"EXISTS"] == 2)
        rows = client.fetch([1, 2], ["EMAILID", "THREADID"])
        (second,) = rows[2][b"EMAILID"]
        assert rows[2][b"THREADID"] is None
        assert client.search(["EMAILID", second.decode()]) == [2]
        assert client.search(["THREADID", "x"]) == []
