"""The stores under contract: every port of one store, whatever it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
import trio

from chatmail.adapters.storage import loaded, mailbox_rows, shared_mailbox
from chatmail.adapters.storage.schema import metadata
from chatmail.adapters.storage.settings_statements import GENERATION_NAME
from chatmail.adapters.storage.store import Store, StoreOptions, open_store
from chatmail.domain.model.account import Account, NewAccount
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import NO_FLAGS, AppendReceipt, Flags, MailboxId
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    LastAttempt,
    NewOutbound,
    OutboundEntry,
    OutboundMessageId,
    Settled,
    Settlement,
    SettlementKind,
)
from chatmail.domain.model.queue import FailedRecipient, NewReport
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.accounts import AccountStore
from chatmail.domain.ports.exchangers import ExchangerStore
from chatmail.domain.ports.federation import PeerDirectory, PeerLedger, PeerMemory
from chatmail.domain.ports.intake import BlobStore, Delivery, Intake, IntakeBatch
from chatmail.domain.ports.mailstore import DeviceTokens, MailStore
from chatmail.domain.ports.outbound import OutboundQueue
from chatmail.domain.ports.reports import ReportQueue
from chatmail.domain.ports.retention import Retention
from tests import postgres
from tests.unit.fakes.accounts import MemoryAccountStore, MemoryReportQueue
from tests.unit.fakes.exchangers import MemoryExchangerStore
from tests.unit.fakes.federation import (
    MemoryPeerDirectory,
    MemoryPeerLedger,
    MemoryPeerMemory,
)
from tests.unit.fakes.intake import MemoryBlobStore, MemoryIntake
from tests.unit.fakes.mailstate import MemoryHints, MemoryState
from tests.unit.fakes.mailstore import MemoryMailStore
from tests.unit.fakes.outbound import MemoryOutboundQueue
from tests.unit.fakes.retention import MemoryRetention
from tests.unit.fakes.tokens import MemoryDeviceTokens

NOW_S = 1_767_225_600  # 2026-01-01T00:00:00Z
DAY_S = 86_400
HEADER = b"From: <ann@relay.test>\r\nMessage-ID: <m1@relay.test>\r\n\r\n"


class StillClock:
    """Time moves only by hand."""

    def __init__(self) -> None:
        self.time_s = float(NOW_S)

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s


class ListLog:
    """Keeps event names."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)

    def warning(self, event: str, **fields: object) -> None:
        self.events.append(event)


@attrs.define(kw_only=True)
class Stores:
    """The ports of one store."""

    accounts: AccountStore
    intake: Intake
    blobs: BlobStore
    mail: MailStore
    queue: ReportQueue
    outbound: OutboundQueue
    peers: PeerDirectory
    peer_memory: PeerMemory
    peer_ledger: PeerLedger
    exchangers: ExchangerStore
    tokens: DeviceTokens
    retention: Retention
    hints: MemoryHints
    clock: StillClock
    log: ListLog
    store: Any = None

    async def account(self, name: str = "ann", *, is_imported: bool = False) -> Account:
        """Create an account."""
        new = NewAccount(
            address=EmailAddress.parse(f"{name}@relay.test"),
            secret=f"hash of {name}",
            created_s=NOW_S,
            first_login_day=None,
            is_imported=is_imported,
        )
        return (await self.accounts.create(new))[0]

    async def deliver(
        self,
        *mailboxes: MailboxId,
        content: bytes = b"hello\r\n",
        flags: Flags = NO_FLAGS,
        date_s: int = NOW_S,
        reports: tuple[NewReport, ...] = (),
        outbound: NewOutbound | None = None,
    ) -> tuple[AppendReceipt | None, ...]:
        """Commit one message."""
        return await self.intake.commit(
            IntakeBatch(
                body=Body(HEADER, (content,), len(content)),
                internal_date_s=date_s,
                deliveries=tuple(Delivery(mailbox, flags) for mailbox in mailboxes),
                reports=reports,
                outbound=outbound,
            )
        )


def make_outbound(
    number: int = 1,
    *recipients: str,
    sender: str | None = "ann@relay.test",
    created_s: int = NOW_S,
    due_s: float = NOW_S,
    prefix: bytes = b"",
    is_report: bool = False,
    leased_until_s: float = 0.0,
) -> NewOutbound:
    return NewOutbound(
        id=OutboundMessageId(number),
        reverse_path=None if sender is None else EmailAddress.parse(sender),
        recipients=tuple(map(EmailAddress.parse, recipients or ("bob@peer.test",))),
        created_s=created_s,
        due_s=due_s,
        prefix=prefix,
        is_report=is_report,
        leased_until_s=leased_until_s,
    )


def settled_as(*ends: tuple[OutboundEntry, SettlementKind | None], due_s: float = 0.0) -> Settled:
    """Settle entries; None: the lease is handed back."""
    last = LastAttempt(at_s=NOW_S, reply="450 4.2.0 later")
    return Settled(
        entries=tuple(
            Settlement(
                message=entry.message.id,
                recipient=entry.recipient,
                kind=kind or SettlementKind.RETRY,
                due_s=due_s,
                last=None if kind is None else last,
            )
            for entry, kind in ends
        )
    )


def make_report(sender: str = "ann@relay.test", due_s: int = NOW_S + 2) -> NewReport:
    return NewReport(
        sender=EmailAddress.parse(sender),
        failed=(
            FailedRecipient(
                EmailAddress.parse("nobody@relay.test"), RefusalReason.UNKNOWN_RECIPIENT
            ),
        ),
        header=HEADER,
        arrived_s=NOW_S,
        due_s=due_s,
    )


@asynccontextmanager
async def memory_stores(_: Path) -> AsyncIterator[Stores]:
    hints, clock = MemoryHints(), StillClock()
    state = MemoryState(hints, clock.now_s)
    tokens = MemoryDeviceTokens()
    accounts = MemoryAccountStore(state, tokens)
    yield Stores(
        accounts=accounts,
        intake=MemoryIntake(state),
        blobs=MemoryBlobStore(state),
        mail=MemoryMailStore(state),
        queue=MemoryReportQueue(state),
        outbound=MemoryOutboundQueue(state, clock.now_s),
        peers=MemoryPeerDirectory(),
        peer_memory=MemoryPeerMemory(),
        peer_ledger=MemoryPeerLedger(),
        exchangers=MemoryExchangerStore(),
        tokens=tokens,
        retention=MemoryRetention(state, accounts, tokens),
        hints=hints,
        clock=clock,
        log=ListLog(),
    )


@asynccontextmanager
async def sqlite_stores(
    state_dir: Path, options: StoreOptions | None = None, log: ListLog | None = None
) -> AsyncIterator[Stores]:
    hints, clock, log = MemoryHints(), StillClock(), log or ListLog()
    async with (
        open_store(state_dir, "sqlite", hints, clock, log, options) as store,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(store.run)
        yield stores_of(store, hints, clock, log)
        nursery.cancel_scope.cancel()


def stores_of(store: Store, hints: MemoryHints, clock: StillClock, log: ListLog) -> Stores:
    return Stores(
        accounts=store.accounts,
        intake=store.intake,
        blobs=store.blobs,
        mail=store.mail,
        queue=store.queue,
        outbound=store.outbound,
        peers=store.peers,
        peer_memory=store.peer_memory,
        peer_ledger=store.peer_ledger,
        exchangers=store.exchangers,
        tokens=store.tokens,
        retention=store.retention,
        hints=hints,
        clock=clock,
        log=log,
        store=store,
    )


@asynccontextmanager
async def postgresql_stores(
    state_dir: Path,
    options: StoreOptions | None = None,
    log: ListLog | None = None,
    url: str | None = None,
) -> AsyncIterator[Stores]:
    """Open a store on a database of the tests' own server; a fresh one without `url`."""
    if reason := postgres.missing():
        pytest.skip(reason)
    hints, clock, log = MemoryHints(), StillClock(), log or ListLog()
    with contextlib.ExitStack() as closing:
        url = url or closing.enter_context(empty_database())
        async with (
            open_store(state_dir, url, hints, clock, log, options) as store,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(store.run)
            yield stores_of(store, hints, clock, log)
            nursery.cancel_scope.cancel()


_used_databases: list[str] = []


@contextlib.contextmanager
def empty_database() -> Iterator[str]:
    """Give the URL of a database without rows; made once and emptied, because that is faster."""
    url = _used_databases.pop() if _used_databases else postgres.shared().fresh_database()
    yield url
    tables = [
        table.name
        for table in metadata.sorted_tables
        if table.name not in ("schema_version", "store_facts")
    ]
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(b"SELECT to_regclass('store_facts')").fetchone()
        if row is not None and row[0] is not None:  # else the test has made no tables
            for table in (*tables, "contents", "pieces", "writers", "server_keys"):
                connection.execute(f"DELETE FROM {table}".encode())
            generation = [GENERATION_NAME]
            connection.execute(b"DELETE FROM store_facts WHERE name != %s", generation)
            connection.execute(b"UPDATE store_facts SET value = 0 WHERE name = %s", generation)
    _used_databases.append(url)


IMPLEMENTATIONS = {
    "memory": memory_stores,
    "sqlite": sqlite_stores,
    "postgresql": postgresql_stores,
}


def small_pages(patch: pytest.MonkeyPatch) -> None:
    """Make mailboxes of more than three messages large ones, and of many pages."""
    patch.setattr(mailbox_rows, "WHOLE_MESSAGES", 3)
    patch.setattr(mailbox_rows, "UIDS_PER_READ", 4)
    patch.setattr(loaded, "PAGE_MESSAGES", 2)
    patch.setattr(shared_mailbox, "PAGES_PER_READ", 2)
