"""Senders that keep books while relays and databases are killed under them.

A message that was answered `250` has to be there. One whose answer was lost may be there, once for
each lost answer. One that was refused may not.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e import wire
from tests.e2e.mailbox import stored
from tests.e2e.rawsmtp import Lost, RawSmtp, plain
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S

Account = tuple[str, str]
SETTLE_S = 2 * PATIENCE_S
"""A client in the middle of a message waits for half of it for one reply alone."""
PAUSE_S = 0.05
"""Between a failure and the next attempt; Delta Chat core waits longer."""


@dataclass
class Ledger:
    """What was sent, and what was said to it, by Message-ID; `refusals` count all other replies."""

    acknowledged: set[str] = field(default_factory=set)
    lost: Counter[str] = field(default_factory=Counter)
    attempted: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note_reply(self, message_id: str, reply: str) -> str | None:
        """Returns the reply if it is a refusal."""
        with self._lock:
            if reply.startswith("250 "):
                self.acknowledged.add(message_id)
                return None
            self.refusals[reply] += 1
            return reply

    def note_lost(self, message_id: str) -> None:
        with self._lock:
            self.lost[message_id] += 1

    def check(self, found: Sequence[tuple[int, str]]) -> None:
        """Hold (UID, Message-ID) of a recipient's mailbox, as listed, against the books."""
        uids = [uid for uid, _ in found]
        assert uids == sorted(set(uids)), "UIDs are unique and ascending"
        copies = Counter(message_id for _, message_id in found)
        missing = self.acknowledged - set(copies)
        assert not missing, f"{len(missing)} acknowledged messages are gone"
        assert set(copies) <= self.attempted
        for message_id, number in copies.items():
            allowed = (message_id in self.acknowledged) + self.lost[message_id]
            assert number <= allowed, f"{number} copies of what may be there {allowed} times"

    def check_all(self, relay: Relay, recipients: Sequence[Account]) -> int:
        """Check every recipient's INBOX; returns the number of copies."""
        total = 0
        for recipient in recipients:
            found = stored(relay, recipient)
            self.check(found)
            total += len(found)
        return total


class Persistent:
    """A client that sends message after message, each until it is acknowledged."""

    def __init__(
        self, relay: Relay, sender: Account, recipients: Sequence[Account], ledger: Ledger
    ) -> None:
        self._relay = relay
        self._sender = sender
        self._recipients = [address for address, _ in recipients]
        self._ledger = ledger
        self._client: RawSmtp | None = None

    def run(self, over: threading.Event, messages: int = 1 << 30) -> None:
        """Send so many messages; end early when it is `over`."""
        try:
            for number in range(1, messages + 1):
                # Every ninth message is large enough to take the way over a spool file.
                size = 400_000 if number % 9 == 0 else 2_000
                message_id, octets = wire.encrypted(self._sender[0], size)
                self._ledger.attempted.add(message_id)
                while message_id not in self._ledger.acknowledged:
                    if over.is_set():
                        return
                    self._attempt(message_id, octets)
        finally:
            self._hang_up()

    def _attempt(self, message_id: str, octets: bytes) -> None:
        has_sent = False
        try:
            client = self._client or self._connect()
            refusal = self._begin(client)
            if refusal is None:
                has_sent = True
                refusal = self._ledger.note_reply(message_id, client.content(octets).whole)
        except (OSError, Lost):
            if has_sent:
                self._ledger.note_lost(message_id)
            self._hang_up()
            refusal = "none"
        if refusal is not None:
            time.sleep(PAUSE_S)

    def _connect(self) -> RawSmtp:
        client = self._client = RawSmtp(self._relay)
        reply = client.secure().command(b"AUTH PLAIN " + plain(*self._sender))
        if reply.code != 235:
            self._ledger.note_reply("", f"{reply.whole} to AUTH")
            raise Lost
        return client

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _begin(self, client: RawSmtp) -> str | None:
        """Bring a transaction up to the content; returns the reply that refused it."""
        commands = [f"MAIL FROM:<{self._sender[0]}>", *(f"RCPT TO:<{r}>" for r in self._recipients)]
        for line in (*commands, "DATA"):
            reply = client.command(line)
            if reply.code not in (250, 354):
                client.command("RSET")
                return self._ledger.note_reply("", f"{reply.whole} to {line.split()[0]}")
        return None


@contextmanager
def sending(clients: Sequence[Persistent], messages: int = 1 << 30) -> Iterator[None]:
    """Let clients send while the block runs; without an error, all they have begun is settled.

    With a number of messages the block's end waits until each has sent them.
    """
    over = threading.Event()
    with ThreadPoolExecutor(len(clients)) as pool:
        runs = [pool.submit(client.run, over, messages) for client in clients]
        try:
            yield
            if messages < 1 << 30:
                for run in runs:
                    run.result(SETTLE_S)
        finally:
            over.set()
        for run in runs:
            run.result(SETTLE_S)
