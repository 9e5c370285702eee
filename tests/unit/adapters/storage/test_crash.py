"""SIGKILL at every step of a commit: what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatmail.adapters.storage.journal import MAX_BATCH_OCTETS
from chatmail.domain.model.account import Account
from chatmail.domain.model.outbound import QueueFilter
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.ports.world import HEADER, Stores, sqlite_stores

STEPS = [
    ("before write", 3),
    ("torn write", 1),
    ("torn write", 9),
    ("after write", 12),
    ("after sync", 8),
    ("before rename", 2),
    ("after rename", 3),
    ("after begin", 14),
    ("before commit", 15),
    ("before commit", 24),
    ("after commit", 17),
    ("after commit", 25),
]


def run_child(state_dir: Path, step: str, count: int, journal_octets: int) -> list[list[str]]:
    command = [sys.executable, "-m", "tests.unit.adapters.storage.crash_child"]
    done = subprocess.run(
        [*command, str(state_dir), step, str(count), str(journal_octets)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        cwd=Path(__file__).parents[4],
    )
    assert done.returncode == -9, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("journal_octets", [0, MAX_BATCH_OCTETS])
@pytest.mark.parametrize(("step", "count"), STEPS)
async def test_a_kill_loses_nothing_acknowledged(
    tmp_path: Path, step: str, count: int, journal_octets: int
) -> None:
    said = run_child(tmp_path, step, count, journal_octets)
    async with sqlite_stores(tmp_path) as stores:
        assert "content_missing" not in stores.log.events
        assert await stores.store.recount() == 0
        if ["ready"] not in said:
            return
        accounts = [await stores.account(name) for name in ("ann", "bob")]
        held = {account.inbox: await contents(stores, account) for account in accounts}
        other = await contents(stores, accounts[0], "Other")
        check_acknowledged(said, held, other)
        await check_queue(stores, said, {*held[accounts[0].inbox].values(), *other.values()})
        await check_index_equals_database(stores)
        for account in accounts:
            before = (await stores.mail.info(account.id, "INBOX")).uid_next
            (receipt,) = await stores.deliver(account.inbox)
            assert receipt is not None
            assert receipt.uid == before


async def contents(stores: Stores, account: Account, name: str = "INBOX") -> dict[int, bytes]:
    """Return what can be read in a mailbox, by UID; everything listed must be readable."""
    mailbox = await stores.mail.open(account.id, name)
    if mailbox is None:
        return {}
    uids, count = mailbox.uids()
    found = {}
    await mailbox.load(uids[:count])
    for uid in uids[:count]:
        entry = mailbox.entry(uid)
        assert entry is not None
        found[int(uid)] = await stores.mail.read(entry, 0, entry.size)
    uid_next = mailbox.info().uid_next
    assert all(uid < uid_next for uid in found)
    mailbox.close()
    return found


async def check_queue(stores: Stores, said: list[list[str]], copies: set[bytes]) -> None:
    """Entries and the sender's copy came together; all entries of a message go together."""
    rounds = {
        word: {int(rest[0]) for kind, _, _, *rest in said[1:] if kind == word}
        for word in ("queued", "settling", "settled")
    }
    waiting: dict[int, int] = {}
    for entry in await stores.outbound.page(QueueFilter(), None, 1000):
        round = int(entry.message.id) - 1
        waiting[round] = waiting.get(round, 0) + 1
        octets = await stores.outbound.read(entry.message.id, 0, entry.message.size)
        assert octets == HEADER + f"message {round}\r\n".encode() * (round % 7 + 1)
        assert octets in copies
    assert set(waiting.values()) <= {2}
    assert rounds["queued"] - rounds["settling"] <= waiting.keys()
    assert not waiting.keys() & rounds["settled"]
    assert len(waiting.keys() - rounds["queued"]) <= 1


def check_acknowledged(
    said: list[list[str]], held: dict[int, dict[int, bytes]], other: dict[int, bytes]
) -> None:
    numbers = [(word, int(box), int(uid), rest) for word, box, uid, *rest in said[1:]]
    may_be_gone = {(box, uid) for word, box, uid, _ in numbers if word in ("moving", "removing")}
    is_gone = {(box, uid) for word, box, uid, _ in numbers if word in ("moved", "removed")}
    moved = 0
    for word, box, uid, rest in numbers:
        if word in ("delivered", "spooled", "queued"):
            round = int(rest[0])
            text = f"message {round}\r\n".encode() * (round % 7 + 1)
            expected = HEADER + (b"spooled %d\r\n" % round if word == "spooled" else text)
            if (box, uid) in is_gone:
                assert uid not in held[box]
            elif (box, uid) not in may_be_gone:
                assert held[box][uid] == expected
            if ("moving", box, uid, []) in numbers:
                moved += 1
                # A move is one transaction: the message is in exactly one of the two mailboxes.
                assert (uid in held[box]) + (expected in other.values()) == 1
    assert len(other) <= moved
