"""Mail owed to other relays in dictionaries, over what the memory intake has taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.outbound import (
    Backlog,
    OutboundEntry,
    OutboundMessageId,
    QueuedMessage,
    QueueFilter,
    Settled,
    Settlement,
    SettlementKind,
    Waiting,
)
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.queued import MemoryOutbound, MemoryQueued

SMALL_BYTES = 64 * 1024


class MemoryOutboundQueue:
    """`OutboundQueue` over the entries that the memory intake has taken in.

    `now_s`: the clock that says which leases have run out; without one, the latest time that a
    call has named.
    """

    def __init__(self, state: MemoryState, now_s: Callable[[], float] | None = None) -> None:
        self._state = state
        self._now_s = now_s
        self._latest_s = 0.0
        self.settled: list[Settled] = []
        self.beats = 0

    async def backlogs(self) -> list[Backlog]:
        await self._begin()
        now_s = self._latest_s if self._now_s is None else self._now_s()
        by_domain: dict[str, list[tuple[MemoryOutbound, MemoryQueued]]] = {}
        for message, queued in self._all():
            by_domain.setdefault(queued.recipient.domain, []).append((message, queued))
        return [
            Backlog(
                domain=domain,
                entries=len(found),
                held=sum(queued.is_held for _, queued in found),
                oldest_s=min(message.new.created_s for message, _ in found),
                next_due_s=min(
                    (
                        queued.due_s
                        for _, queued in found
                        if not queued.is_held and queued.leased_until_s <= now_s
                    ),
                    default=None,
                ),
            )
            for domain, found in sorted(by_domain.items())
        ]

    async def claim(
        self, domain: str, now_s: float, lease_s: float, limit: int
    ) -> list[OutboundEntry]:
        await self._begin(now_s)
        found = sorted(
            (
                message.size >= SMALL_BYTES,
                message.new.created_s,
                message.new.id,
                str(queued.recipient),
                queued,
            )
            for message, queued in self._all()
            if queued.recipient.domain == domain
            and queued.due_s <= now_s
            and queued.leased_until_s <= now_s
            and not queued.is_held
        )
        return self._lease([one[-1] for one in found[:limit]], now_s + lease_s)

    async def claim_expired(
        self,
        now_s: float,
        created_before_s: float,
        reports_before_s: float,
        lease_s: float,
        limit: int,
    ) -> list[OutboundEntry]:
        await self._begin(now_s)
        found = sorted(
            (message.new.created_s, message.new.id, str(queued.recipient), queued)
            for message, queued in self._all()
            if message.new.created_s
            < (reports_before_s if message.new.is_report else created_before_s)
            and queued.leased_until_s <= now_s
            and not queued.is_held
        )
        return self._lease([one[-1] for one in found[:limit]], now_s + lease_s)

    async def settle(self, settled: Settled) -> None:
        await self._begin()
        self.settled.append(settled)
        for one in settled.entries:
            self._settle(one)
        self._state.reports.extend(settled.reports)

    def _settle(self, settlement: Settlement) -> None:
        message = self._state.outbound.get(settlement.message)
        queued = None if message is None else message.entries.get(settlement.recipient)
        if message is None or queued is None:
            return
        if settlement.kind is not SettlementKind.RETRY:
            self._drop(message, queued)
            return
        queued.due_s = settlement.due_s
        queued.leased_until_s = 0.0
        if settlement.last is not None:
            queued.attempts += 1
            queued.last = settlement.last
        if settlement.due_s <= self._latest_s:
            self._state.outbound_added.set()

    async def wake(self, domain: str, now_s: float) -> int:
        await self._begin(now_s)
        found = [
            queued
            for _, queued in self._all()
            if queued.recipient.domain == domain
            and not queued.is_held
            and queued.leased_until_s <= now_s
            and queued.due_s > now_s
        ]
        for queued in found:
            queued.due_s = now_s
        if found:
            self._state.outbound_added.set()
        return len(found)

    async def keep_alive(self) -> int:
        await self._begin()
        self.beats += 1
        return 0

    async def next_due_s(self) -> float | None:
        await self._begin()
        return min(
            (
                max(queued.due_s, queued.leased_until_s)
                for _, queued in self._all()
                if not queued.is_held
            ),
            default=None,
        )

    async def wait_for_more(self) -> None:
        await self._state.outbound_added.wait()
        self._state.outbound_added = trio.Event()

    async def read(self, message: OutboundMessageId, offset: int, length: int) -> bytes:
        await self._begin()
        found = self._state.outbound.get(message)
        if found is None or found.blob.is_damaged:
            raise TransientFailure("the message is gone or damaged")
        return found.blob.octets[offset : offset + length]

    async def page(
        self, wanted: QueueFilter, after: tuple[OutboundMessageId, EmailAddress] | None, limit: int
    ) -> list[OutboundEntry]:
        await self._begin()
        found = sorted(
            (message.new.id, str(queued.recipient), queued)
            for message, queued in self._matching(wanted)
        )
        if after is not None:
            found = [one for one in found if one[:2] > (after[0], str(after[1]))]
        return [self._entry(one[-1]) for one in found[:limit]]

    async def message(self, message: OutboundMessageId) -> tuple[QueuedMessage, bytes] | None:
        await self._begin()
        found = self._state.outbound.get(message)
        if found is None:
            return None
        return found.facts(), found.blob.octets[: found.header_size]

    async def retry(self, wanted: QueueFilter, now_s: float) -> int:
        await self._begin(now_s)
        found = list(self._matching(wanted))
        for _, queued in found:
            queued.due_s = now_s
        if found:
            self._state.outbound_added.set()
        return len(found)

    async def hold(self, wanted: QueueFilter, is_held: bool) -> int:
        await self._begin()
        found = [one for _, one in self._matching(wanted) if one.is_held != is_held]
        for queued in found:
            queued.is_held = is_held
        if found and not is_held:
            self._state.outbound_added.set()
        return len(found)

    async def remove(self, wanted: QueueFilter) -> int:
        await self._begin()
        found = list(self._matching(wanted))
        for message, queued in found:
            self._drop(message, queued)
        return len(found)

    async def _begin(self, now_s: float = 0.0) -> None:
        await trio.lowlevel.checkpoint()
        self._state.check()
        self._latest_s = max(self._latest_s, now_s)

    async def waiting(self, sender: EmailAddress) -> Waiting:
        await self._begin()
        found = [
            message
            for message in self._state.outbound.values()
            if message.new.reverse_path == sender and message.entries
        ]
        return Waiting(
            sum(len(message.entries) for message in found),
            sum(len(message.blob.octets) for message in found),
        )

    def _all(self) -> Iterator[tuple[MemoryOutbound, MemoryQueued]]:
        for message in list(self._state.outbound.values()):
            for queued in list(message.entries.values()):
                yield message, queued

    def _matching(self, wanted: QueueFilter) -> Iterator[tuple[MemoryOutbound, MemoryQueued]]:
        for message, queued in self._all():
            if (
                wanted.message in (None, message.new.id)
                and wanted.domain in ("", queued.recipient.domain)
                and wanted.sender in ("", str(message.new.reverse_path))
                and wanted.recipient in ("", str(queued.recipient))
            ):
                yield message, queued

    def _lease(self, found: list[MemoryQueued], until_s: float) -> list[OutboundEntry]:
        for queued in found:
            queued.leased_until_s = until_s
        return [self._entry(queued) for queued in found]

    def _entry(self, queued: MemoryQueued) -> OutboundEntry:
        return OutboundEntry(
            message=self._state.outbound[queued.message].facts(),
            recipient=queued.recipient,
            attempts=queued.attempts,
            due_s=queued.due_s,
            is_held=queued.is_held,
            last=queued.last,
        )

    def _drop(self, message: MemoryOutbound, queued: MemoryQueued) -> None:
        del message.entries[queued.recipient]
        if not message.entries:
            del self._state.outbound[message.new.id]
