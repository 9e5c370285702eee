"""What a client was promised, kept beside the relay: to be compared after a disaster.

Everything here belongs to one client thread until that has ended.
"""

from __future__ import annotations

import contextlib
import random
import re
import smtplib
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.e2e import raw, wire
from tests.e2e.relay import Relay

State: TypeAlias = tuple[str, bool] | None
"""(mailbox, flagged) of a message; None: it is nowhere."""

MAILBOXES = ("INBOX", "Other")
DOWN = (OSError, raw.Closed)  # what a client sees of a kill

_UID = re.compile(rb"UID (\d+)")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_MESSAGE_ID = re.compile(rb"(?i)\r\nmessage-id:\s*(<[^>]+>)")


@dataclass
class SentMail:
    """Message-IDs of what was sent to some recipients, and of what was accepted."""

    acknowledged: set[str] = field(default_factory=set)
    attempted: set[str] = field(default_factory=set)

    def send_until_down(
        self, relay: Relay, sender: tuple[str, str], recipients: list[str]
    ) -> str | None:
        """Send until something breaks; returns the reply if that is what broke it."""
        try:
            client = wire.smtp(relay, *sender)
        except (OSError, smtplib.SMTPException):
            return None  # killed before it answered
        try:
            while True:
                # Every ninth message is large enough to take the way over a spool file.
                size = 400_000 if len(self.attempted) % 9 == 8 else 2_000
                message_id, octets = wire.encrypted(sender[0], size)
                self.attempted.add(message_id)
                client.sendmail(sender[0], recipients, octets)
                self.acknowledged.add(message_id)
        except smtplib.SMTPServerDisconnected:
            return None
        except smtplib.SMTPResponseException as refused:
            return f"{refused.smtp_code} {refused.smtp_error.decode()}"
        except (OSError, smtplib.SMTPException):
            return None
        finally:
            client.close()


class Cabinet:
    """An account whose owner appends, flags, moves and removes messages over IMAP.

    `sure`: the state of each message as acknowledged. `doubtful`: what else it may be in, because
    a command was on its way when the connection broke.
    """

    def __init__(self, relay: Relay, seed: int) -> None:
        self.account = raw.newcomer(relay)
        self.acknowledged = 0
        self._chance = random.Random(seed)
        self._sure: dict[str, State] = {}
        self._doubtful: dict[str, State] = {}
        self._uids: dict[str, int] = {}
        self._octets: dict[str, bytes] = {}
        self._uid_next = dict.fromkeys(MAILBOXES, 1)
        with raw.client(relay, self.account) as client:
            client.ok("CREATE Other")

    def work_until_down(self, relay: Relay) -> None:
        """Change things until the connection breaks."""
        with contextlib.suppress(*DOWN), raw.client(relay, self.account, "INBOX") as client:
            while True:
                mine = [one for one, state in self._sure.items() if state and state[0] == "INBOX"]
                if len(mine) < 4 or self._chance.random() < 0.3:
                    self._append(client)
                else:
                    act = self._chance.choice((self._flag, self._move, self._remove))
                    act(client, self._chance.choice(mine))

    def check(self, relay: Relay) -> None:
        """Compare with what is there now, and take that for sure."""
        found: dict[str, State] = {}
        with raw.client(relay, self.account) as client:
            for mailbox in MAILBOXES:
                self._check_mailbox(client, mailbox, found)
        for message_id, state in self._sure.items():
            allowed = {state, self._doubtful.get(message_id, state)}
            assert found.get(message_id) in allowed, (found.get(message_id), allowed)
        assert found.keys() <= self._sure.keys()
        self._sure = dict.fromkeys(self._sure) | found
        self._doubtful = {}

    def _check_mailbox(self, client: raw.RawImap, mailbox: str, found: dict[str, State]) -> None:
        uid_next = client.select(mailbox).number(rb"UIDNEXT (\d+)")
        assert uid_next >= self._uid_next[mailbox], "UIDNEXT went back"
        self._uid_next[mailbox] = uid_next
        last = 0
        for response in client.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").untagged:
            if not response.literals:
                continue
            [octets] = response.literals
            named, numbered = _MESSAGE_ID.search(octets), _UID.search(response.skeleton)
            flagged = _FLAGS.search(response.skeleton)
            assert named is not None
            assert numbered is not None
            assert flagged is not None
            message_id, uid = named[1].decode(), int(numbered[1])
            assert message_id not in found, "a message is there twice"
            assert octets == self._octets[message_id], "not what was appended"
            assert last < uid < uid_next
            last = uid
            state = (mailbox, b"\\Flagged" in flagged[1])
            if state == self._sure[message_id] and message_id in self._uids:
                assert uid == self._uids[message_id], "a UID has changed"
            self._uids[message_id] = uid
            found[message_id] = state

    def _append(self, client: raw.RawImap) -> None:
        message_id, octets = wire.encrypted(self.account[0], 1500)
        self._octets[message_id] = octets
        self._sure[message_id] = None
        self._doubtful[message_id] = ("INBOX", False)
        answer = client.append(octets)
        uid = answer.number(rb"\[APPENDUID \d+ (\d+)\]")
        self._done(message_id, ("INBOX", False), uid)

    def _flag(self, client: raw.RawImap, message_id: str) -> None:
        uid = self._uids[message_id]
        self._doubtful[message_id] = ("INBOX", True)
        client.ok(f"UID STORE {uid} +FLAGS (\\Flagged)")
        self._done(message_id, ("INBOX", True), uid)

    def _move(self, client: raw.RawImap, message_id: str) -> None:
        old = self._sure[message_id]
        assert old is not None
        self._doubtful[message_id] = ("Other", old[1])
        answer = client.ok(f"UID MOVE {self._uids[message_id]} Other")
        uid = answer.number(rb"\[COPYUID \d+ \d+ (\d+)\]")
        self._done(message_id, ("Other", old[1]), uid)

    def _remove(self, client: raw.RawImap, message_id: str) -> None:
        uid = self._uids[message_id]
        self._doubtful[message_id] = None
        client.ok(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        client.ok(f"UID EXPUNGE {uid}")
        self._done(message_id, None, uid)

    def _done(self, message_id: str, state: State, uid: int) -> None:
        del self._doubtful[message_id]
        self._sure[message_id] = state
        self._uids[message_id] = uid
        self.acknowledged += 1


def stored(relay: Relay, account: tuple[str, str]) -> list[tuple[int, str]]:
    """(UID, Message-ID) of everything in INBOX, in the order the server lists it."""
    found = []
    with raw.client(relay, account, "INBOX") as client:
        answer = client.ok("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        for response in answer.untagged:
            if response.literals:
                named = _MESSAGE_ID.search(b"\r\n" + response.literals[0])
                uid = _UID.search(response.skeleton)
                assert named is not None
                assert uid is not None
                found.append((int(uid[1]), named[1].decode()))
    return found


def check_stored(
    relay: Relay, recipients: list[tuple[str, str]], sent: list[SentMail]
) -> tuple[int, int]:
    """Every accepted message is there once, in every mailbox; returns (accepted, stored)."""
    acknowledged = set().union(*(one.acknowledged for one in sent))
    attempted = set().union(*(one.attempted for one in sent))
    total = 0
    for account in recipients:
        rows = stored(relay, account)
        uids, names = [uid for uid, _ in rows], [name for _, name in rows]
        assert uids == sorted(set(uids)), "UIDs are unique and ascending"
        missing = acknowledged - set(names)
        assert not missing, f"{len(missing)} acknowledged messages are gone"
        assert len(names) == len(set(names)), "a message is there twice"
        assert set(names) <= attempted
        total += len(rows)
    return len(acknowledged), total
