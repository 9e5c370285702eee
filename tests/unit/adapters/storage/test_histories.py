"""Random histories: the store does what dictionaries do, and memory equals the database."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatmail.adapters.storage import compaction
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.store import StoreOptions
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.outbound import (
    LastAttempt,
    OutboundMessageId,
    QueueFilter,
    Settled,
    Settlement,
    SettlementKind,
)
from chatmail.domain.model.retention import MessageRule
from chatmail.domain.ports.mailstore import FlagOperation, OpenMailbox
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.writing import Poison
from tests.unit.ports.world import (
    NOW_S,
    Stores,
    make_outbound,
    memory_stores,
    small_pages,
    sqlite_stores,
)

NAMES = ("INBOX", "a", "a/b", "c")
FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$Work")

name = st.sampled_from(NAMES)
uids = st.lists(st.integers(1, 8), min_size=1, max_size=4)
flags = st.frozensets(st.sampled_from(FLAGS), max_size=3)

steps = st.one_of(
    st.tuples(st.just("deliver"), name, name, flags, st.integers(0, 50)),
    st.tuples(st.just("deliver"), st.just("INBOX"), name, flags, st.integers(0, 50)),
    st.tuples(st.just("flags"), name, uids, st.sampled_from(FlagOperation), flags),
    st.tuples(st.just("expunge"), name, st.none() | uids),
    st.tuples(st.just("copy"), name, uids, name),
    st.tuples(st.just("move"), name, uids, name),
    st.tuples(st.just("create"), name),
    st.tuples(st.just("delete"), name),
    st.tuples(st.just("rename"), name, name),
    st.tuples(st.just("send"), name, st.integers(1, 2**63 - 1), st.integers(1, 3)),
    st.tuples(st.just("settle"), st.integers(1, 3), st.sampled_from(SettlementKind)),
    st.tuples(st.just("unsend"), st.integers(0, 3)),
    st.tuples(st.just("trim"), st.integers(0, 2000), st.integers(0, 50)),
    st.tuples(st.just("prune"), st.integers(0, 50), st.none() | st.booleans(), st.booleans()),
    st.tuples(st.just("look"), name),
    st.tuples(st.just("vacuum")),
    st.tuples(st.just("close")),
    st.tuples(st.just("restart")),
)


async def apply(stores: Stores, step: tuple, opened: dict) -> object:
    """Run one step on one implementation; returns what the caller would compare."""
    mail = stores.mail
    account = await stores.account()
    ids = {info.name: info.id for info in await mail.list(account.id)}
    what, *rest = step
    if what == "close":
        for mailbox in opened.values():
            mailbox.close()
        opened.clear()
        return None
    if what == "deliver":
        targets = [ids[one] for one in rest[:2] if one in ids]
        receipts = await stores.deliver(*targets, flags=rest[2], date_s=rest[3])
        return [(one.uid, one.uid_validity) for one in receipts if one is not None]
    if what == "send":
        return await send(stores, ids.get(rest[0]), rest[1], rest[2])
    if what == "settle":
        return await settle(stores, rest[0], rest[1])
    if what == "unsend":
        wanted = QueueFilter(recipient=f"user{rest[0]}@peer.test")
        return await stores.outbound.remove(wanted)
    if what == "prune":
        rule = MessageRule(before_s=rest[0], is_seen=rest[1], was_shown=rest[2])
        await stores.retention.save_shown()
        return (await stores.retention.prune(rule)).removed
    if what == "vacuum":
        if stores.store is not None:
            await stores.store.upkeep.vacuum()
        return None
    if what == "trim":
        return await mail.trim(account.id, rest[0], rest[1])
    if what == "create":
        return str(type(await mail.create(account.id, rest[0], None, NOW_S)))
    if what == "delete":
        opened.pop(rest[0], None)
        return await mail.delete(account.id, rest[0])
    if what == "rename":
        return await mail.rename(account.id, rest[0], rest[1], NOW_S)
    if rest[0] not in ids:
        return None
    if what == "look":
        await look(stores, rest[0])
        return None
    source = ids[rest[0]]
    if what == "flags":
        outcome = await mail.set_flags(source, *rest[1:])
        return [(entry.uid, entry.modseq, entry.flags) for entry in outcome.entries]
    if what == "expunge":
        return list((await mail.expunge(source, rest[1])).expunged)
    if what == "copy":
        return await mail.copy(source, rest[1], account.id, rest[2], limit_bytes=3000)
    return await mail.move(source, rest[1], account.id, rest[2])


async def send(stores: Stores, mailbox: MailboxId | None, number: int, count: int) -> object:
    """Deliver a message to a mailbox of one's own and to others elsewhere."""
    if await stores.outbound.message(OutboundMessageId(number)) is not None:
        return None
    recipients = [f"user{place}@peer.test" for place in range(count)]
    receipts = await stores.deliver(
        *(() if mailbox is None else (mailbox,)),
        content=b"to others\r\n",
        outbound=make_outbound(number, *recipients),
    )
    return [one and one.uid for one in receipts]


async def settle(stores: Stores, limit: int, kind: SettlementKind) -> object:
    """Attempt some of what is due."""
    entries = await stores.outbound.claim("peer.test", NOW_S + 9, 60, limit)
    await stores.outbound.settle(
        Settled(
            entries=tuple(
                Settlement(
                    message=one.message.id,
                    recipient=one.recipient,
                    kind=kind,
                    due_s=NOW_S,
                    last=LastAttempt(at_s=NOW_S, reply="450 later"),
                )
                for one in entries
            )
        )
    )
    return [(one.message, one.recipient, one.attempts) for one in entries]


async def look(stores: Stores, name: str) -> None:
    """Show a mailbox to a session."""
    mailbox = await stores.mail.open((await stores.account()).id, name)
    if mailbox is not None:
        mailbox.uids()
        mailbox.close()


async def seen_by(stores: Stores, opened: dict) -> list:
    """Return all that sessions can see."""
    account = await stores.account()
    found = [await stores.mail.usage(account.id)]
    for info in await stores.mail.list(account.id):
        mailbox = opened.get(info.name)
        if mailbox is None or mailbox.name != info.name:
            mailbox = opened[info.name] = await stores.mail.open(account.id, info.name)
        uids, count = mailbox.uids()
        await mailbox.load(uids[: count // 2])
        [mailbox.entry(uid) for uid in uids[: count // 2]]
        again = await stores.mail.open(account.id, info.name)  # as SELECT does
        unseen = again.first_unseen()
        again.close()
        await mailbox.load(uids[:count])
        entries = [mailbox.entry(uid) for uid in uids[:count]]
        used = {flag for entry in entries for flag in entry.flags if flag[0] != "\\"}
        assert used <= set(mailbox.keywords())
        changes = await mailbox.changes_since(2, 3)
        found.append(
            (
                (info.name, info.uid_validity, info.uid_next, info.highest_modseq),
                (info.messages, info.unseen, info.deleted, info.octets),
                [(one.uid, one.modseq, one.flags, one.internal_date_s) for one in entries],
                unseen,
                [entry.uid for entry in changes.arrived],
                [entry.uid for entry in changes.changed],
                list(changes.expunged),
            )
        )
    for entry in await stores.outbound.page(QueueFilter(), None, 1000):
        octets = await stores.outbound.read(entry.message.id, 0, 1000)
        found.append((entry.message, entry.recipient, entry.attempts, entry.due_s, octets))
    return found


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(steps, max_size=25))
def test_the_store_does_what_dictionaries_do(history: list[tuple]) -> None:
    trio.run(compare, history)


async def compare(history: list[tuple]) -> None:
    options = StoreOptions(
        segment_limit_bytes=400, new_index=lambda: StoreIndex(max_entries=6, max_mailboxes=3)
    )
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "PAUSE_S", 0.0)
        small_pages(patch)
        async with memory_stores(Path()) as model:
            model.retention.step = 10**6  # one change set for all that goes
            pending = [*history, ("restart",)]
            model_opened: dict = {}
            while pending:
                async with sqlite_stores(Path(directory), options) as stores:
                    opened: dict = {}
                    while pending:
                        step = pending.pop(0)
                        if step == ("restart",):
                            break
                        expected = await apply(model, step, model_opened)
                        assert await apply(stores, step, opened) == expected, step
                        assert await seen_by(stores, opened) == await seen_by(
                            model, model_opened
                        ), step
                    await check_index_equals_database(stores)
                    await stores.store.upkeep.vacuum()
                    await check_index_equals_database(stores)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(steps | st.just(("poison",)), min_size=2, max_size=7), max_size=6))
def test_steps_of_one_batch_leave_memory_and_database_equal(crowds: list[list[tuple]]) -> None:
    trio.run(crowd, crowds)


async def crowd(crowds: list[list[tuple]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with sqlite_stores(Path(directory)) as stores:
            opened: dict = {}
            await seen_by(stores, opened)
            for members in crowds:
                async with trio.open_nursery() as nursery:
                    for step in members:
                        nursery.start_soon(attempt, stores, step)
                for name in [name for name, mailbox in opened.items() if is_gone(mailbox)]:
                    del opened[name]
                await seen_by(stores, opened)
                await check_index_equals_database(stores)
            assert await stores.store.recount() == 0


async def attempt(stores: Stores, step: tuple) -> None:
    if step == ("poison",):
        with pytest.raises(TransientFailure):
            await stores.store._writer.do(Poison())
    elif step not in (("close",), ("restart",)):
        # A mailbox that another step deleted first is none of our business here, nor is a message
        # that another step queued under the same number.
        with suppress(MailboxGone, *[TransientFailure] * (step[0] in ("send", "settle"))):
            await apply(stores, step, {})


def is_gone(mailbox: OpenMailbox) -> bool:
    try:
        mailbox.info()
    except MailboxGone:
        return True
    return False
