"""A profile on two devices, one of which was away while two thousand messages came.

By default most of them are fillers in the shape of encrypted mail that nobody can decrypt, between
real ones at both ends; `CHATMAIL_TEST_BACKLOG=real` has a core write every one of them, which takes
minutes.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from pathlib import Path

import pytest
from deltachat_rpc_client import Account

from tests.e2e import wire
from tests.e2e.cores import (
    Cores,
    await_delivered,
    await_text,
    await_texts,
    introduce,
    second_device,
)
from tests.e2e.mailbox import count
from tests.e2e.relay import Relay, wait_until

BACKLOG = 2000
ENDS = 10
IS_REAL = os.environ.get("CHATMAIL_TEST_BACKLOG") == "real"
BOUND_S = 600 if IS_REAL else 240


def send_fillers(relay: Relay, address: str, amount: int) -> None:
    """Send messages that look encrypted, over one connection."""
    sender = relay.credentials()
    with wire.smtp(relay, *sender) as smtp:
        for _ in range(amount):
            assert smtp.sendmail(sender[0], [address], wire.encrypted(sender[0], 1_500)[1]) == {}


def uid_next(relay: Relay, account: tuple[str, str]) -> int:
    """UIDNEXT of INBOX."""
    with wire.imap(relay, *account) as client:
        found = re.search(rb"UIDNEXT (\d+)", client.status("INBOX", "(UIDNEXT)")[1][0])
        assert found is not None
        return int(found[1])


def next_of(account: Account) -> int:
    """The UID up to which a core has looked at INBOX, as its own database says."""
    path = account.get_info()["database_dir"]
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT MAX(uid_next) FROM imap_sync").fetchone()[0])


@pytest.mark.timeout(900 if IS_REAL else 600)
def test_two_thousand_messages_wait_for_the_second_device(
    relay: Relay, cores: Cores, tmp_path: Path
) -> None:
    alice, credentials = cores.online(relay), relay.credentials()
    bob = cores.online(relay, credentials=credentials)
    alice_chat, bob_chat = introduce(alice, bob)
    second = second_device(cores, bob, relay, credentials[1], tmp_path / "backup")
    alice_chat.send_text("both are there")
    await_text(bob, "both are there")
    await_text(second, "both are there")
    second.stop_io()

    began = time.monotonic()
    ends = BACKLOG // 2 if IS_REAL else ENDS
    first = [f"early {index}" for index in range(ends)]
    last = [f"late {index}" for index in range(ends)]
    before = uid_next(relay, credentials)
    sent = [alice_chat.send_text(text) for text in first]
    await_delivered(sent, BOUND_S)
    if not IS_REAL:
        send_fillers(relay, credentials[0], BACKLOG - 2 * ends)
    sent = [alice_chat.send_text(text) for text in last]
    await_delivered(sent, BOUND_S)
    sent_s = time.monotonic() - began
    assert uid_next(relay, credentials) >= before + BACKLOG

    began = time.monotonic()
    second.start_io()
    await_texts(second.create_chat(alice), [*first, *last], BOUND_S)
    away_s = time.monotonic() - began
    began = time.monotonic()
    await_texts(bob_chat, [*first, *last], BOUND_S)
    print(f"{BACKLOG} sent in {sent_s:.1f} s, fetched by the one that was away in {away_s:.1f} s,")
    print(f"by the other one {time.monotonic() - began:.1f} s later")

    end = uid_next(relay, credentials)
    for device in (bob, second):
        wait_until("a device has seen all", lambda device=device: next_of(device) >= end, BOUND_S)

    # A device that stays behind would ask for old messages again; both are told of new ones.
    alice_chat.send_text("afterwards")
    await_text(second, "afterwards")
    await_text(bob, "afterwards")
    texts = [m.get_snapshot().text for m in second.create_chat(alice).get_messages()]
    assert [text for text in texts if text in {*first, *last}] == first + last
    # With two devices nothing is deleted on the relay.
    assert count(relay, credentials) >= BACKLOG
