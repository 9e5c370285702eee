"""What the tests look at in mailboxes and in the state directory."""

from __future__ import annotations

import contextlib
import imaplib
import re
from pathlib import Path
from typing import Any

from tests.e2e import wire
from tests.e2e.relay import Relay, wait_until

_PAIR = re.compile(rb"(\S+) (\d+)")


def newcomer(relay: Relay) -> tuple[str, str]:
    """Return an account that exists."""
    account = relay.credentials()
    wire.imap(relay, *account).logout()
    return account


def messages(relay: Relay, account: tuple[str, str], mailbox: str = "INBOX") -> list[bytes]:
    """Return every message of a mailbox, in order."""
    with wire.imap(relay, *account) as client:
        client.select(mailbox, readonly=True)
        rows: list[Any] = client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
        return [row[1] for row in rows if isinstance(row, tuple)]


def stored(relay: Relay, account: tuple[str, str], mailbox: str = "INBOX") -> list[tuple[int, str]]:
    """Return (UID, Message-ID) of everything in a mailbox, in the order the server lists it."""
    with wire.imap(relay, *account) as client:
        client.select(mailbox, readonly=True)
        rows: list[Any] = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[
            1
        ]
    found = []
    for row in rows:
        if isinstance(row, tuple):
            uid = re.search(rb"UID (\d+)", row[0])
            message_id = re.search(rb"(?i)message-id:\s*(<[^>]+>)", row[1])
            assert uid is not None
            assert message_id is not None
            found.append((int(uid[1]), message_id[1].decode()))
    return found


def count(relay: Relay, account: tuple[str, str], mailbox: str = "INBOX") -> int:
    """Return how many messages a mailbox has."""
    with wire.imap(relay, *account) as client:
        found = re.search(rb"MESSAGES (\d+)", client.status(mailbox, "(MESSAGES)")[1][0])
        assert found is not None
        return int(found[1])


def await_messages(relay: Relay, account: tuple[str, str], wanted: int) -> list[bytes]:
    """Wait until INBOX has that many messages; returns them."""
    wait_until(f"{wanted} messages arrived", lambda: count(relay, account) == wanted)
    return messages(relay, account)


def append(
    client: imaplib.IMAP4, octets: bytes, mailbox: str = "INBOX", options: str = ""
) -> bytes:
    """APPEND octets exactly as they are (imaplib would mend line ends); returns the reply."""
    client.send(f"X1 APPEND {mailbox} {options}{{{len(octets)}}}\r\n".encode())
    line = client.readline()
    if line.startswith(b"+"):
        client.send(octets + b"\r\n")
        line = client.readline()
    while not line.startswith(b"X1 "):
        assert line.startswith(b"* "), line
        line = client.readline()
    return bytes(line[3:-2])


def usage_kib(client: imaplib.IMAP4) -> tuple[int, int]:
    """Return what GETQUOTAROOT says of storage: used and limit, in KiB."""
    _, (_, quota) = client.getquotaroot("INBOX")
    found = re.search(rb"STORAGE (\d+) (\d+)", quota[0])
    assert found is not None
    return int(found[1]), int(found[2])


def state_bytes(relay: Relay) -> int:
    """Return the octets of stored mail: segments, spool, contents in the database, as allocated."""
    state = relay.folder / "state"
    octets = 0
    for path in (*state.glob("mail/*"), *state.glob("spool/*")):
        with contextlib.suppress(FileNotFoundError):  # it may be removed at any time
            octets += path.stat().st_blocks * 512
    if relay.database:
        with relay.rows() as db:
            octets += db.content_bytes()
    return octets


def spooled(relay: Relay) -> list[Path]:
    """Return the files of messages that are on their way in."""
    return list((relay.folder / "state" / "spool").iterdir())
