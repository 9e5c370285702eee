"""What is heard, what is looked at when nothing is heard, and what was forgotten meanwhile."""

from __future__ import annotations

import pytest

from chatmail.adapters.storage import upkeep as segment_upkeep
from chatmail.adapters.storage.notices import News
from chatmail.adapters.storage.postgresql import listener as listener_module
from chatmail.adapters.storage.postgresql import upkeep as upkeep_module
from chatmail.domain.ports.mailstore import FlagOperation
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.postgresql.conftest import Database, hinted, until

DELETED = frozenset({"\\Deleted"})


async def test_a_lost_notice_costs_latency_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "POLL_S", 0.1)
    monkeypatch.setattr(News, "add", lambda *_: None)
    async with database.store() as one, database.store() as other:
        account = await one.account()
        opened = await other.mail.open(account.id, "INBOX")
        async with hinted(other, account.inbox):
            await one.deliver(account.inbox)
        assert opened.info().messages == 1


async def test_own_notices_cause_no_work(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        await stores.mail.open(account.id, "INBOX")
        await until(lambda: stores.store.listener.is_listening)
        heard = []
        real = stores.store.listener.heed

        async def heed(news: News) -> None:
            heard.append(news)
            await real(news)

        stores.store.listener.heed = heed
        before = stores.store._writer.batches
        await stores.deliver(account.inbox)
        await until(lambda: bool(heard))
        assert not any(heard)
        assert stores.store._writer.batches == before + 1


async def test_expunges_that_are_forgotten_are_caught_up_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert upkeep_module.EXPUNGED_KEPT_S == segment_upkeep.EXPUNGED_KEPT_S
    async with database.store() as one, database.store() as other:
        await until(lambda: other.store.listener.is_listening)

        async def deaf(news: News) -> None:
            """Hear nothing."""

        account = await one.account()
        for _ in range(5):
            await one.deliver(account.inbox)
        opened = await other.mail.open(account.id, "INBOX")
        start = opened.info()
        monkeypatch.setattr(other.store.listener, "heed", deaf)
        await one.mail.set_flags(account.inbox, [2, 4], FlagOperation.ADD, DELETED)
        await one.mail.expunge(account.inbox, None)
        one.clock.time_s += upkeep_module.EXPUNGED_KEPT_S + 1
        await one.store.sweep()
        info = await other.mail.info(account.id, "INBOX")
        assert info.messages == 3
        assert list(opened.uids()[0]) == [1, 3, 5]
        changes = await opened.changes_since(start.highest_modseq, start.uid_next)
        assert {2, 4} <= set(changes.expunged)
        await check_index_equals_database(other)


async def test_what_depends_on_nothing_here_is_not_read(database: Database) -> None:
    async with database.store() as one, database.store() as other:
        account = await one.account()
        await until(lambda: other.store.listener.is_listening)
        before = other.store._writer.batches
        await one.deliver(account.inbox)

        async def deaf(news: News) -> None:
            """Hear nothing."""

        other.store.listener.heed = deaf
        await other.store.listener.__class__.heed(other.store.listener, News({account.inbox}))
        assert other.store._writer.batches == before
