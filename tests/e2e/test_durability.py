"""SIGKILL at random instants under a load of submissions: nothing acknowledged is lost.

30 kills here; `python -m tests.e2e.test_durability 1000` runs the same by hand.
"""

from __future__ import annotations

import random
import smtplib
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.mailbox import stored
from tests.e2e.relay import Relay

SENDERS = 4
KILLS = 30


@dataclass
class Ledger:
    """What was sent and what was acknowledged, per recipient."""

    acknowledged: set[str] = field(default_factory=set)
    attempted: set[str] = field(default_factory=set)


def _send_until_down(
    relay: Relay, sender: tuple[str, str], recipients: list[str], ledger: Ledger
) -> None:
    try:
        client = wire.smtp(relay, *sender)
    except (OSError, smtplib.SMTPException):
        return  # killed before it answered
    try:
        while True:
            # Every ninth message is large enough to take the way over a spool file.
            size = 400_000 if len(ledger.attempted) % 9 == 8 else 2_000
            message_id, octets = wire.encrypted(sender[0], size)
            ledger.attempted.add(message_id)
            client.sendmail(sender[0], recipients, octets)
            ledger.acknowledged.add(message_id)
    except (OSError, smtplib.SMTPException):
        client.close()  # the relay was killed under us


def storm(relay: Relay, kills: int, seed: int) -> tuple[int, int]:
    """Kill and restart `kills` times under load; returns (acknowledged, stored) counts."""
    chance = random.Random(seed)
    senders = [relay.credentials() for _ in range(SENDERS)]
    recipients = [relay.credentials() for _ in range(2)]
    for account in recipients:
        wire.imap(relay, *account).logout()
    addresses = [address for address, _ in recipients]
    ledgers = [Ledger() for _ in senders]
    highest = [0, 0]
    for _ in range(kills):
        threads = [
            threading.Thread(target=_send_until_down, args=(relay, sender, addresses, ledger))
            for sender, ledger in zip(senders, ledgers, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.05, 0.6))
        relay.kill()
        for thread in threads:
            thread.join(60)
        relay.start()
    acknowledged = set().union(*(ledger.acknowledged for ledger in ledgers))
    attempted = set().union(*(ledger.attempted for ledger in ledgers))
    stored_total = 0
    for index, account in enumerate(recipients):
        rows = stored(relay, account)
        uids = [uid for uid, _ in rows]
        names = [name for _, name in rows]
        assert uids == sorted(set(uids)), "UIDs are unique and ascending"
        assert uids[-1] > highest[index]
        missing = acknowledged - set(names)
        assert not missing, f"{len(missing)} acknowledged messages are gone"
        assert len(names) == len(set(names)), "a message is there twice"
        assert set(names) <= attempted
        stored_total += len(rows)
    return len(acknowledged), stored_total


@pytest.mark.timeout(400)
def test_thirty_kills_lose_and_double_nothing(relay: Relay) -> None:
    acknowledged, stored = storm(relay, KILLS, seed=2)
    print(f"{KILLS} kills, {acknowledged} acknowledged, {stored} copies stored")
    assert acknowledged > KILLS


def _by_hand() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        relay = Relay(Path(folder)).start()
        started = time.monotonic()
        acknowledged, stored = storm(relay, kills, seed=random.randrange(1 << 30))
        relay.stop()
    took = time.monotonic() - started
    print(f"{kills} kills in {took:.0f} s: {acknowledged} acknowledged, {stored} copies, none lost")


if __name__ == "__main__":
    _by_hand()
