"""A memory relay with other relays around it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import NewOutbound, OutboundEntry, OutboundMessageId
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.intake import IntakeBatch
from chatmail.domain.ports.remote import FirstAttempt
from chatmail.domain.usecases.attempt_remote import AttemptRemote
from chatmail.domain.usecases.count_peers import CountPeers
from chatmail.domain.usecases.lookup_route import LookupRoute
from chatmail.domain.usecases.lookup_sts import LookupSts
from chatmail.domain.usecases.peer_policy import PeerPolicy
from chatmail.domain.usecases.send_abroad import SendAbroad
from tests.unit.domain.usecases.relay import DOMAIN, SETTINGS, MemoryRelay
from tests.unit.fakes.federation import MemoryPeerDirectory, MemoryPeerLedger, MemoryPeerMemory
from tests.unit.fakes.outbound import MemoryOutboundQueue
from tests.unit.fakes.remote import (
    FakeFetcher,
    FakeFirstAttempt,
    FakeResolver,
    FakeSigner,
    FakeTransport,
)
from tests.unit.fakes.system import FakeEntropy, FakeLog

ALICE = f"alice@{DOMAIN}"
PEER = "peer.test"
BOB = f"bob@{PEER}"
HEADER = b"From: <alice@relay.test>\r\nMessage-ID: <m1@relay.test>\r\n\r\n"


class RelayAbroad(MemoryRelay):
    """`MemoryRelay` with all that federation needs; `now_s` of the queue is the relay's clock."""

    def __init__(self, settings: SettingsSnapshot = SETTINGS) -> None:
        super().__init__(settings)
        self.queue = MemoryOutboundQueue(self.state, lambda: self.clock.now_s())
        self.directory = MemoryPeerDirectory()
        self.memory = MemoryPeerMemory()
        self.ledger = MemoryPeerLedger()
        self.resolver = FakeResolver()
        self.fetcher = FakeFetcher()
        self.transport = FakeTransport()
        self.entropy = FakeEntropy()
        self.first = FakeFirstAttempt()
        self.log = FakeLog()
        self.own: set[tuple[str, int]] = set()
        self.signer = FakeSigner([DOMAIN])
        self._numbers = 0
        self.wire()

    def wire(self, first: FirstAttempt | None = None) -> None:
        """Make the use cases anew, with the clock as it is now."""
        self.policy = PeerPolicy(directory=self.directory, settings=self._now)
        self.count = CountPeers(ledger=self.ledger, clock=self.clock, settings=self._now)
        self.sts = LookupSts(
            resolver=self.resolver, fetcher=self.fetcher, memory=self.memory, clock=self.clock
        )
        self.route = LookupRoute(
            resolver=self.resolver,
            directory=self.directory,
            memory=self.memory,
            sts=self.sts,
            clock=self.clock,
            settings=self._now,
            log=self.log,
            is_own=lambda address, port: (address, port) in self.own,
        )
        self.attempt = AttemptRemote(
            route=self.route,
            transport=self.transport,
            memory=self.memory,
            count=self.count,
            policy=self.policy,
            clock=self.clock,
            entropy=self.entropy,
            settings=self._now,
        )
        self.abroad = SendAbroad(
            policy=self.policy,
            signer=self.signer,
            queue=self.queue,
            first=first or self.first,
            count=self.count,
            clock=self.clock,
            entropy=self.entropy,
            settings=self._now,
        )
        self.take_in = attrs.evolve(self.take_in, abroad=self.abroad, clock=self.clock)

    def _now(self) -> SettingsSnapshot:
        return self.settings

    def federate(self, **changes: object) -> None:
        """Change settings of federation."""
        changed = attrs.evolve(self.settings.federation, **changes)
        self.settings = attrs.evolve(self.settings, federation=changed)

    def schedule(self, **changes: object) -> None:
        """Change settings of the queue."""
        changed = attrs.evolve(self.settings.queue, **changes)
        self.settings = attrs.evolve(self.settings, queue=changed)

    def enqueue(
        self,
        *recipients: str,
        sender: str | None = ALICE,
        size: int = 100,
        is_report: bool = False,
        age_s: float = 0.0,
        lease_s: float = 0.0,
    ) -> OutboundMessageId:
        """Commit a message for other relays; the queue takes it unless there is a lease."""
        self._numbers += 1
        number = OutboundMessageId(self._numbers)
        now_s = self.clock.now_s() - age_s
        self.intake.commit_now(
            IntakeBatch(
                body=Body(HEADER, (b"x" * size,), size),
                internal_date_s=int(now_s),
                deliveries=(),
                outbound=NewOutbound(
                    id=number,
                    reverse_path=None if sender is None else EmailAddress.parse(sender),
                    recipients=tuple(map(EmailAddress.parse, recipients or (BOB,))),
                    created_s=int(now_s),
                    due_s=now_s,
                    prefix=b"DKIM-Signature: here\r\n",
                    is_report=is_report,
                    leased_until_s=now_s + lease_s if lease_s else 0.0,
                ),
            )
        )
        return number

    async def claimed(self, domain: str = PEER) -> list[OutboundEntry]:
        """Lease what is due for a destination."""
        return await self.queue.claim(domain, self.clock.now_s(), 1800, 1000)

    async def deliver(self, domain: str = PEER) -> None:
        """Do what the runner does with the first due message of a destination."""
        entries = await self.claimed(domain)
        mine = [entry for entry in entries if entry.message.id == entries[0].message.id]

        async def read(offset: int, length: int) -> bytes:
            return await self.queue.read(mine[0].message.id, offset, length)

        attempted = await self.attempt(mine, read)
        await self.queue.settle(await self.attempt.settlement(attempted, read, is_told=False))

    def waiting(self) -> dict[str, str]:
        """What the queue holds: recipient → last reply."""
        return {
            str(one.recipient): one.last.reply if one.last else ""
            for message in self.state.outbound.values()
            for one in message.entries.values()
        }

    def reported(self) -> list[list[tuple[str, str]]]:
        """Of each owed report its recipients with what was said of them."""
        return [
            [(str(one.address), one.reply or one.reason.value) for one in report.failed]
            for report in self.state.reports
        ]


def names(addresses: Iterable[EmailAddress]) -> list[str]:
    """Addresses as text."""
    return [str(address) for address in addresses]
