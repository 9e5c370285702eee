"""SIGKILL at random instants under load: nothing acknowledged is lost, undone or doubled.

12 kills here; `python -m tests.e2e.test_durability 1000` runs the same by hand.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.e2e import raw
from tests.e2e.promises import Cabinet, SentMail, check_stored
from tests.e2e.relay import Relay, wait_until

SENDERS = 8
CABINETS = 2
KILLS = 12


def promised(sent: list[SentMail], cabinets: list[Cabinet]) -> int:
    """How much was acknowledged so far."""
    return sum(len(one.acknowledged) for one in sent) + sum(one.acknowledged for one in cabinets)


def storm(relay: Relay, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill and restart under load; returns messages accepted, copies stored, changes kept."""
    chance = random.Random(seed)
    senders = [relay.credentials() for _ in range(SENDERS)]
    recipients = [raw.newcomer(relay) for _ in range(2)]
    addresses = [address for address, _ in recipients]
    sent = [SentMail() for _ in senders]
    cabinets = [Cabinet(relay, seed + number) for number in range(CABINETS)]
    for _ in range(kills):
        threads = [
            threading.Thread(target=one.send_until_down, args=(relay, sender, addresses))
            for one, sender in zip(sent, senders, strict=True)
        ]
        threads += [threading.Thread(target=one.work_until_down, args=(relay,)) for one in cabinets]
        before = promised(sent, cabinets)
        for thread in threads:
            thread.start()
        # After a restart there are slow logins first: an instant among those kills nothing.
        wait_until(
            "something is acknowledged", lambda before=before: promised(sent, cabinets) > before
        )
        time.sleep(chance.uniform(0, 0.5))
        relay.kill()
        for thread in threads:
            thread.join(60)
        relay.start()
        for cabinet in cabinets:
            cabinet.check(relay)
    accepted, copies = check_stored(relay, recipients, sent)
    return accepted, copies, sum(cabinet.acknowledged for cabinet in cabinets)


@pytest.mark.timeout(600)
def test_kills_lose_undo_and_double_nothing(relay: Relay) -> None:
    accepted, copies, changes = storm(relay, KILLS, seed=2)
    print(
        f"{KILLS} kills: {accepted} messages accepted, {copies} copies stored,"
        f" {changes} changes acknowledged over IMAP; nothing lost, undone or doubled"
    )
    assert accepted + changes > KILLS


def _by_hand() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        relay = Relay(Path(folder)).start()
        started = time.monotonic()
        accepted, copies, changes = storm(relay, kills, seed=random.randrange(1 << 30))
        relay.stop()
    took = time.monotonic() - started
    print(f"{kills} kills in {took:.0f} s: {accepted} accepted, {copies} copies, {changes} changes")


if __name__ == "__main__":
    _by_hand()
