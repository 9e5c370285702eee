"""A lost connection, a lost answer, a server that is away: nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import trio

from chatmail.adapters.storage.errors import CannotOpen, Conflict, Unavailable, UnsupportedDatabase
from chatmail.adapters.storage.notices import News
from chatmail.adapters.storage.postgresql import committer as committer_module
from chatmail.adapters.storage.postgresql import link as link_module
from chatmail.adapters.storage.postgresql import listener as listener_module
from chatmail.adapters.storage.store import open_store
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation
from tests import postgres
from tests.unit.adapters.storage.invariants import check_index_equals_database
from tests.unit.adapters.storage.postgresql.conftest import Database, hinted, until
from tests.unit.adapters.storage.writing import Poison, Surrogate
from tests.unit.fakes.mailstate import MemoryHints
from tests.unit.ports.world import HEADER, NOW_S, ListLog, StillClock, Stores


def database_of(stores: Stores):
    return stores.store._writer._committer._database


async def messages(stores: Stores) -> int:
    account = await stores.account()
    return (await stores.mail.info(account.id, "INBOX")).messages


async def count(stores: Stores, table: str) -> int:
    return await stores.store.upkeep._reader.query(
        lambda connection: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
    )


async def test_a_connection_lost_while_idle_is_made_again_unseen(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        await stores.deliver(account.inbox)
        postgres.shared().terminate_backends(database.url)
        (receipt,) = await stores.deliver(account.inbox)
        assert receipt.uid == 2
        opened = await stores.mail.open(account.id, "INBOX")
        stores.store.mail._recent._known.clear()
        postgres.shared().terminate_backends(database.url)
        entry = opened.entry(1)
        assert (await stores.mail.read(entry, 0, entry.size)).endswith(b"hello\r\n")
        await until(lambda: not stores.store.availability.is_down)
        await check_index_equals_database(stores)


class Interrupted:
    """Cuts the connection at COMMIT: before the server heard of it, or before it answered."""

    def __init__(self, stores: Stores, url: str, *, after: bool, times: int = 1) -> None:
        self._database = database_of(stores)
        self._real = self._database.commit
        self._url = url
        self._after = after
        self._times = times
        self._database.commit = self

    def __call__(self) -> None:
        if (
            not self._times
            or not self._database.writing.all("SELECT pg_current_xact_id_if_assigned()")[0][0]
        ):
            self._real()
            return
        self._times -= 1
        if self._after:
            self._real()
            self._database.writing.close()
            raise Unavailable("the answer is lost")
        postgres.shared().terminate_backends(self._url)
        self._real()


async def test_a_commit_whose_answer_was_lost_is_acknowledged(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        Interrupted(stores, database.url, after=True)
        (receipt,) = await stores.deliver(account.inbox)
        assert receipt.uid == 1
        assert await messages(stores) == 1
        assert (await stores.deliver(account.inbox))[0].uid == 2
        await check_index_equals_database(stores)


async def test_a_commit_that_did_not_happen_is_not_acknowledged(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        Interrupted(stores, database.url, after=False)
        with pytest.raises(TransientFailure):
            await stores.deliver(account.inbox)
        assert await messages(stores) == 0
        assert await count(stores, "contents") == 0
        assert (await stores.deliver(account.inbox))[0].uid == 1
        await check_index_equals_database(stores)


async def test_what_is_not_known_to_be_committed_is_not_acknowledged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "ANSWER_WITHIN_S", 0.0)
    async with database.store() as stores:
        account = await stores.account()
        opened = await stores.mail.open(account.id, "INBOX")
        Interrupted(stores, database.url, after=True)
        link = database_of(stores).writing
        real = link.open

        def cannot_open() -> None:
            link.open = real
            raise Unavailable("nobody there")

        link.open = cannot_open
        with pytest.raises(TransientFailure):
            await stores.deliver(account.inbox)
        # It was committed, as it turns out, and is shown as soon as anybody looks.
        assert await messages(stores) == 1
        assert opened.info().messages == 1
        await check_index_equals_database(stores)


async def test_a_batch_that_lost_a_deadlock_is_done_again(database: Database) -> None:
    async with database.store() as stores:
        account = await stores.account()
        base = database_of(stores)
        real = base.commit
        conflicts = []

        def commit() -> None:
            if len(conflicts) < 2:
                conflicts.append(1)
                raise Conflict("told to")
            real()

        base.commit = commit
        async with stores.blobs.spool() as spool:
            await spool.write(b"x" * 300_000)
            batch = IntakeBatch(
                body=await spool.seal(HEADER),
                internal_date_s=NOW_S,
                deliveries=(Delivery(account.inbox),),
            )
            (receipt,) = await stores.intake.commit(batch)
        assert receipt.uid == 1
        assert await count(stores, "contents") == 1
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(1)
        assert await stores.mail.read(entry, entry.size - 2, 10) == b"xx"


async def test_two_stores_meeting_head_on_both_get_through(database: Database) -> None:
    async with database.store() as one, database.store() as other:
        names = ("ann", "bob")
        ann, bob = [await one.account(name) for name in names]
        for _ in range(8):
            await one.deliver(ann.inbox, bob.inbox)

        async def copy(stores: Stores, account) -> None:
            for _ in range(5):
                await stores.mail.create(account.id, "Other", None, NOW_S)
                await stores.mail.copy(
                    account.inbox, range(1, 9), account.id, "Other", limit_bytes=None
                )
                await stores.mail.delete(account.id, "Other")

        async with trio.open_nursery() as nursery:
            for stores in (one, other):
                for account in (ann, bob):
                    nursery.start_soon(copy, stores, account)
        for stores in (one, other):
            await check_index_equals_database(stores)


@pytest.mark.parametrize("poison", [Poison, Surrogate])
async def test_a_poisoned_job_fails_alone(database: Database, poison) -> None:
    async with database.store() as stores:
        account = await stores.account()
        refused = []

        async def bad() -> None:
            with pytest.raises(TransientFailure):
                await stores.store._writer.do(poison())
            refused.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bad)
            for _ in range(5):
                nursery.start_soon(stores.deliver, account.inbox)
        assert refused == [1]
        assert await messages(stores) == await count(stores, "contents") == 5
        assert "job_refused" in stores.log.events
        await check_index_equals_database(stores)


async def test_rows_that_somebody_else_holds_are_a_passing_trouble(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = link_module._SESSION.replace("lock_timeout = '5s'", "lock_timeout = '100ms'")
    monkeypatch.setattr(link_module, "_SESSION", session)
    async with database.store() as stores:
        account = await stores.account()
        with psycopg.connect(database.url) as shell:
            shell.execute("SELECT * FROM mailboxes FOR UPDATE")
            with pytest.raises(TransientFailure):
                await stores.deliver(account.inbox)
        await stores.deliver(account.inbox)
        assert await messages(stores) == 1


async def refused(action: Callable[..., object], *args: object) -> None:
    with trio.fail_after(12), pytest.raises(TransientFailure):
        await action(*args)


async def test_a_server_that_goes_away_and_comes_back(
    server: postgres.PostgresServer, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(server.fresh_database(), tmp_path)
    async with database.store() as stores, database.store() as other:
        account = await stores.account()
        await stores.deliver(account.inbox)
        opened = await other.mail.open(account.id, "INBOX")
        stores.store.mail._recent._known.clear()
        told = ["database_lost", "database_back"]
        for stop in (lambda: server.stop("fast"), server.kill):
            for log in (stores.log, other.log):
                log.events.clear()
            before = opened.info().messages
            stop()
            await until(lambda: stores.store.failed is not None)
            await until(lambda: other.store.failed is not None)
            for _ in range(3):
                await refused(stores.deliver, account.inbox)
                await refused(stores.mail.open, account.id, "INBOX")
                await refused(stores.accounts.get, account.address)
                await refused(stores.mail.read, opened.entry(1), 0, 10)
                await refused(
                    stores.mail.set_flags, account.inbox, [1], FlagOperation.ADD, frozenset("a")
                )
            server.start()
            # Healed by itself; what came meanwhile is shown by the other one as well.
            await until(lambda: stores.store.failed is None and other.store.failed is None)
            async with hinted(other, account.inbox):
                await stores.deliver(account.inbox)
            assert opened.info().messages == before + 1
            for log in (stores.log, other.log):
                await until(lambda log=log: log.events[-1] == "database_back")
                assert log.events == told
            for each in (stores, other):
                await check_index_equals_database(each)


async def test_what_came_while_nobody_listened_is_shown(database: Database) -> None:
    async with database.store() as one, database.store() as other:
        account = await one.account()
        opened = await other.mail.open(account.id, "INBOX")
        await until(lambda: other.store.listener.is_listening)
        real, other.store.listener._connect = other.store.listener._connect, refuse
        postgres.shared().terminate_backends(database.url)
        await until(lambda: other.store.failed is not None)
        await one.deliver(account.inbox)
        assert opened.info().messages == 0
        async with hinted(other, account.inbox):
            other.store.listener._connect = real
        assert opened.info().messages == 1


async def test_a_listener_that_retries_notices_the_end_of_its_own_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the writer has a new one: that would be told of as a second outage."""
    monkeypatch.setattr(listener_module, "RETRY_S", 1000)
    async with database.store() as one, database.store() as other:
        account = await one.account()
        opened = await other.mail.open(account.id, "INBOX")
        listener = other.store.listener
        await until(lambda: listener.is_listening)
        tries = []

        async def cut_short(news: News) -> None:
            tries.append(news)
            raise TransientFailure("the database is away")

        listener.heed = cut_short
        await one.deliver(account.inbox)
        await until(lambda: bool(tries))
        del listener.heed
        postgres.shared().terminate_backends(database.url)
        await until(lambda: opened.info().messages == 1)
        await until(lambda: not other.store.availability.is_down)
        assert other.log.events == ["database_lost", "database_back"]


async def test_what_comes_between_two_tries_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "RETRY_S", 0.2)
    async with database.store() as one, database.store() as other:
        account = await one.account()
        archive = await one.mail.create(account.id, "Archive", None, NOW_S)
        inbox = await other.mail.open(account.id, "INBOX")
        second = await other.mail.open(account.id, "Archive")
        listener = other.store.listener
        await until(lambda: listener.is_listening)
        tries = []

        async def cut_short(news: News) -> None:
            tries.append(news)
            if len(tries) == 1:
                await one.deliver(archive.id)
            if len(tries) < 3:
                raise TransientFailure("the database is away")
            del listener.heed
            await listener.heed(news)

        listener.heed = cut_short
        await one.deliver(account.inbox)
        await until(lambda: inbox.info().messages == second.info().messages == 1)
        assert tries[0] is tries[1] is tries[2]


def refuse(url: str):
    raise psycopg.OperationalError("told to fail")


async def opening(tmp_path, url: str) -> None:
    async with open_store(tmp_path, url, MemoryHints(), StillClock(), ListLog()):
        pass


async def test_a_server_that_is_down_at_the_start_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(CannotOpen) as caught:
        await opening(tmp_path, "postgresql://me:geheim@127.0.0.1:9/relay")
    text = str(caught.value)
    assert text.startswith("database.url: cannot be used: ")
    assert "127.0.0.1" in text
    assert "geheim" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    ["mysql://me:geheim@host/db", "postgresql://me:geheim@[::1/db", "postgresql://a?geheim=1"],
)
async def test_an_address_that_is_none_is_not_repeated(tmp_path, url: str) -> None:
    with pytest.raises(UnsupportedDatabase) as caught:
        await opening(tmp_path, url)
    assert "database.url" in str(caught.value)
    assert "geheim" not in str(caught.value)


async def test_a_database_without_utf8_is_refused(
    postgres_server: postgres.PostgresServer, tmp_path
) -> None:
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 OWNER relay")
    url = postgres_server.fresh_database().rsplit("/", 1)[0] + "/latin"
    with pytest.raises(UnsupportedDatabase, match="UTF8"):
        await opening(tmp_path, url)
    postgres_server.drop_database(url)


async def test_the_driver_is_an_extra(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "chatmail.adapters.storage.postgresql.store")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [
        name for name in sys.modules if name.startswith("chatmail.adapters.storage.postgresql.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UnsupportedDatabase, match=r"PostgreSQL.*pip install"):
        await opening(tmp_path, "postgresql://host/db")


async def test_commits_are_durable_whatever_the_operators_default(
    postgres_server: postgres.PostgresServer, tmp_path
) -> None:
    url = postgres_server.fresh_database()
    with psycopg.connect(url, autocommit=True) as shell:
        shell.execute("ALTER ROLE relay SET synchronous_commit = off")
    try:
        async with Database(url, tmp_path).store() as stores:
            for link in (database_of(stores).writing, database_of(stores).reading):
                assert list(link.all("SHOW synchronous_commit")) == [("on",)]
    finally:
        with psycopg.connect(url, autocommit=True) as shell:
            shell.execute("ALTER ROLE relay RESET synchronous_commit")
