"""Everything an operator's commands act on, in memory, joined as in a relay."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from chatmail.adapters.control.services import AccountDesk, ControlServices, DnsDesk
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.outbound import LastAttempt, NewOutbound, OutboundMessageId
from chatmail.domain.model.settings import (
    FederationSettings,
    IdentitySettings,
    RegistrationSettings,
    SettingsSnapshot,
)
from chatmail.domain.ports.mail_auth import DkimRecord, RetiredKey
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.usecases.check_dns import CheckDns
from chatmail.domain.usecases.delete_account import BlockAccount, DeleteAccount
from chatmail.domain.usecases.describe_zone import DescribeZone
from chatmail.domain.usecases.manage_accounts import ManageAccounts
from chatmail.domain.usecases.manage_exchangers import ManageExchangers
from chatmail.domain.usecases.manage_federation import ManageFederation
from chatmail.domain.usecases.manage_queue import ManageQueue
from tests.unit.fakes.accounts import MemoryAccountStore
from tests.unit.fakes.exchangers import MemoryExchangerStore
from tests.unit.fakes.federation import MemoryPeerDirectory, MemoryPeerLedger, MemoryPeerMemory
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.outbound import MemoryOutboundQueue
from tests.unit.fakes.queued import MemoryBlob, MemoryOutbound
from tests.unit.fakes.roster import MemoryRoster
from tests.unit.fakes.settings import FixedConfiguration, MemorySettingsStore
from tests.unit.fakes.system import (
    FakeClock,
    FakeEntropy,
    FakeHasher,
    FakeLiveSessions,
    FakeLog,
)
from tests.unit.fakes.zone import MemoryNotebook, MemoryZone, StillProbes

FILE: dict[str, object] = {
    "federation.policy": "accept",
    "federation.enabled": True,
    "limits.max_federation_size": 70 << 20,
}


class StillKeys:
    """`KeyRing` that remember what was asked."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self.active = self.key("opendkim", "AAAA")
        self.coming: tuple[DkimRecord, ...] = ()
        self.since_s: float | None = 0.0
        self.old: list[RetiredKey] = []

    def key(self, selector: str, p: str) -> DkimRecord:
        name = f"{selector}._domainkey.{self._domain}"
        text = f"v=DKIM1;k=rsa;p={p};s=email;t=s"
        return DkimRecord(selector=selector, name=name, algorithm="rsa", text=text)

    def records(self) -> Sequence[DkimRecord]:
        return (self.active, *self.coming)

    def to_come(self) -> Sequence[DkimRecord]:
        return self.coming

    def rotate(self) -> Sequence[DkimRecord]:
        self.coming = (self.key("next", "BBBB"),)
        return self.coming

    def in_use_since_s(self) -> float | None:
        return self.since_s

    def retired(self) -> Sequence[RetiredKey]:
        return self.old

    def activate(self) -> Sequence[DkimRecord]:
        self.old.append(RetiredKey(self.active.name, 7 * 86400))
        (self.active,), self.coming = self.coming, ()
        return (self.active,)


class Operator:
    """Fakes by name, and the services over them."""

    def __init__(self, domain: str = "chat.example", *extra: str) -> None:
        self.clock, self.log, self.hasher = FakeClock(), FakeLog(), FakeHasher()
        self.snapshot = SettingsSnapshot(
            identity=IdentitySettings(
                mail_domain=domain,
                local_domains=frozenset((domain, *extra)),
                hostname="chat.example",
            ),
            registration=RegistrationSettings(),
            federation=FederationSettings(),
        )
        self.state = MemoryState()
        self.store = MemoryAccountStore(self.state)
        self.outbound = MemoryOutboundQueue(self.state, self.clock.now_s)
        self.directory, self.memory = MemoryPeerDirectory(), MemoryPeerMemory()
        self.ledger = MemoryPeerLedger()
        self.zone, self.probes, self.notebook = MemoryZone(), StillProbes(), MemoryNotebook()
        self.keys = StillKeys(domain)
        self.exchangers = MemoryExchangerStore()
        self.addresses: tuple[str, ...] = ("192.0.2.1",)
        self.has_ca_certificate = True
        self._ids = 0

    def settings(self) -> SettingsSnapshot:
        return self.snapshot

    async def _addresses(self) -> Sequence[str]:
        return self.addresses

    def queue_mail(
        self,
        sender: str,
        *recipients: str,
        reply: str = "",
        age_s: int = 60,
        due_in_s: float = 300.0,
        is_report: bool = False,
    ) -> OutboundMessageId:
        """Put a message into the queue. `reply`: what was said at the last attempt."""
        self._ids += 1
        now_s = self.clock.now_s()
        new = NewOutbound(
            id=OutboundMessageId(self._ids),
            reverse_path=EmailAddress.parse(sender) if sender else None,
            recipients=tuple(map(EmailAddress.parse, recipients)),
            created_s=int(now_s) - age_s,
            due_s=now_s + due_in_s,
            is_report=is_report,
        )
        queued = MemoryOutbound.of(new, MemoryBlob(b"Subject: secret\r\n\r\nbody"), 19)
        self.state.outbound[new.id] = queued
        if reply:
            for entry in queued.entries.values():
                entry.attempts = 3
                entry.last = LastAttempt(
                    at_s=int(now_s) - 30,
                    reply=reply,
                    transport=TransportKind.SMTP,
                    host="mx.peer.example",
                )
        return new.id

    def manage_queue(self) -> ManageQueue:
        return ManageQueue(
            queue=self.outbound,
            memory=self.memory,
            directory=self.directory,
            ledger=self.ledger,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def manage_exchangers(self) -> ManageExchangers:
        return ManageExchangers(store=self.exchangers, log=self.log)

    def manage_federation(self) -> ManageFederation:
        return ManageFederation(
            directory=self.directory,
            memory=self.memory,
            ledger=self.ledger,
            queue=self.outbound,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def describe_zone(self) -> DescribeZone:
        return DescribeZone(
            settings=self.settings,
            addresses=self._addresses,
            keys=self.keys.records,
            has_ca_certificate=lambda: self.has_ca_certificate,
            notebook=self.notebook,
            zone=self.zone,
            clock=self.clock,
        )

    def check_dns(self) -> CheckDns:
        return CheckDns(describe=self.describe_zone(), zone=self.zone, probes=self.probes)

    def manage_accounts(self) -> ManageAccounts:
        sessions = FakeLiveSessions()
        block = BlockAccount(
            accounts=self.store,
            hasher=self.hasher,
            sessions=sessions,
            clock=self.clock,
            log=self.log,
        )
        delete = DeleteAccount(
            accounts=self.store,
            hasher=self.hasher,
            sessions=sessions,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )
        return ManageAccounts(
            accounts=self.store,
            roster=MemoryRoster(self.store),
            delete_account=delete,
            block_account=block,
            hasher=self.hasher,
            clock=self.clock,
            entropy=FakeEntropy(),
            settings=self.settings,
            log=self.log,
        )

    def services(self) -> ControlServices:
        in_force = FixedConfiguration(FILE)  # type: ignore[arg-type]
        return ControlServices(
            settings=ChangeSettings(store=MemorySettingsStore(), in_force=in_force),
            queue=self.manage_queue(),
            federation=self.manage_federation(),
            exchangers=self.manage_exchangers(),
            dns=DnsDesk(
                describe=self.describe_zone(),
                check=self.check_dns(),
                keys=self.keys,
                clock=self.clock.now_s,
            ),
            accounts=AccountDesk(
                manage=self.manage_accounts(),
                state_dir="/state",
                database="sqlite",
                link=lambda address, password: f"dclogin:{address}?p={password}&v=1",
            ),
        )

    def change(self, **changes: object) -> None:
        """Change the settings in force."""
        self.snapshot = attrs.evolve(self.snapshot, **changes)
