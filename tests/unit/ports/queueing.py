"""Entries of the queue as these tests claim, settle and name them."""

from __future__ import annotations

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.outbound import (
    LastAttempt,
    OutboundEntry,
    QueueFilter,
    Settled,
    Settlement,
    SettlementKind,
)
from tests.unit.ports.world import NOW_S, Stores

EVERYTHING = QueueFilter()
BOB = EmailAddress.parse("bob@peer.test")
LAST = LastAttempt(
    at_s=NOW_S + 5, reply="450 4.2.0 later", transport=TransportKind.SMTP, host="mx.peer.test"
)
DELIVERED, RETRY, FAILED = SettlementKind.DELIVERED, SettlementKind.RETRY, SettlementKind.FAILED


async def claim(
    stores: Stores, domain: str = "peer.test", now_s: float = NOW_S, limit: int = 10
) -> list[OutboundEntry]:
    return await stores.outbound.claim(domain, now_s, 60, limit)


def named(entries: list[OutboundEntry]) -> list[tuple[int, str]]:
    return [(int(entry.message.id), str(entry.recipient)) for entry in entries]


def settled(
    *entries: OutboundEntry,
    kind: SettlementKind = DELIVERED,
    due_s: float = 0.0,
    last: LastAttempt | None = LAST,
) -> Settled:
    return Settled(
        entries=tuple(
            Settlement(
                message=entry.message.id,
                recipient=entry.recipient,
                kind=kind,
                due_s=due_s,
                last=last,
            )
            for entry in entries
        )
    )


async def names_of(stores: Stores, wanted: QueueFilter = EVERYTHING) -> list[tuple[int, str]]:
    return named(await stores.outbound.page(wanted, None, 100))
