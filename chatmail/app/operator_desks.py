"""What operators' commands act on, joined from the parts of a relay; with and without a server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from chatmail.adapters.control.services import AccountDesk, ControlServices, DnsDesk
from chatmail.adapters.dns.authority import DNS_PORT, AuthoritativeReader
from chatmail.adapters.dns.own_addresses import public_addresses
from chatmail.adapters.dns.probes import NetworkProbes
from chatmail.app.config_identity import tls_mode
from chatmail.domain.formats.zone import STANDARD_SERVICES
from chatmail.domain.ports.mail_auth import KeyRing
from chatmail.domain.usecases.check_dns import CheckDns
from chatmail.domain.usecases.describe_zone import DescribeZone
from chatmail.domain.usecases.manage_accounts import ManageAccounts
from chatmail.domain.usecases.manage_exchangers import ManageExchangers
from chatmail.domain.usecases.manage_federation import ManageFederation
from chatmail.domain.usecases.manage_queue import ManageQueue
from chatmail.domain.usecases.rotate_keys import RotateKeys

if TYPE_CHECKING:
    from pathlib import Path

    from chatmail.adapters.storage.store import Store
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.live_settings import LiveSettings
    from chatmail.domain.ports.system import Clock, Entropy, Log, PasswordHasher
    from chatmail.domain.usecases.delete_account import BlockAccount, DeleteAccount
    from chatmail.domain.usecases.poll_exchanger import PollExchanger

_VERIFIABLE = ("files", "external-proxy")
"""Modes of TLS in which a CA vouches for the certificate that others see."""


@attrs.frozen(kw_only=True)
class OperatorDesks:
    """The parts, and what is made of them.

    `keys` None: nothing is signed. `link` makes a login link of address and password. `ask` takes
    mail from an exchanger, where a server runs.
    """

    settings: LiveSettings
    store: Store
    clock: Clock
    entropy: Entropy
    log: Log
    hasher: PasswordHasher
    delete_account: DeleteAccount
    block_account: BlockAccount
    keys: KeyRing | None = None
    link: Callable[[str, str], str] | None = None
    ask: PollExchanger | None = None
    zone: AuthoritativeReader = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: AuthoritativeReader(_servers(self.settings.boot)), takes_self=True
        ),
    )

    def follow(self) -> None:
        """Take over what a file that was read anew says."""
        self.zone.ask_at(_servers(self.settings.boot))

    def equip(self, services: ControlServices) -> ControlServices:
        """Add everything to what the control face offers."""
        return attrs.evolve(
            services,
            queue=self.queue(),
            federation=self.federation(),
            exchangers=self.exchangers(),
            dns=self.dns(),
            accounts=self.accounts(),
        )

    def queue(self) -> ManageQueue:
        """Return the outbound queue in the operator's hands."""
        return ManageQueue(
            queue=self.store.outbound,
            memory=self.store.peer_memory,
            directory=self.store.peers,
            ledger=self.store.peer_ledger,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def federation(self) -> ManageFederation:
        """Return the operator's word on other relays."""
        return ManageFederation(
            directory=self.store.peers,
            memory=self.store.peer_memory,
            ledger=self.store.peer_ledger,
            queue=self.store.outbound,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def exchangers(self) -> ManageExchangers:
        """Return exchangers in the operator's hands."""
        return ManageExchangers(store=self.store.exchangers, log=self.log, ask=self.ask)

    def dns(self) -> DnsDesk:
        """Return the zone, its check and the keys."""
        boot, zone = self.settings.boot, self.zone
        describe = DescribeZone(
            settings=self.settings,
            addresses=self._addresses,
            keys=self.keys.records if self.keys is not None else tuple,
            has_ca_certificate=lambda: tls_mode(self.settings.boot) in _VERIFIABLE,
            notebook=self.store.retention,
            zone=zone,
            clock=self.clock,
            services=partial(_services, boot),
        )
        probes = NetworkProbes(
            zone=zone,
            tls=lambda: _verifying(self.settings.boot.federation.ca_file),
            https_port=boot.federation.https_port,
            smtp_port=boot.federation.smtp_port,
        )
        check = CheckDns(describe=describe, zone=zone, probes=probes)
        return DnsDesk(
            describe=describe,
            check=check,
            keys=self.keys,
            reader=lambda address: AuthoritativeReader([(address, DNS_PORT)]),
            clock=self.clock.now_s,
        )

    def rotate_keys(self) -> RotateKeys | None:
        """Return what renews the signing keys; None: nothing is signed."""
        if self.keys is None:
            return None
        return RotateKeys(
            keys=self.keys,
            check=self.dns().check,
            every_s=lambda: self.settings.boot.dkim.rotate_every,
            clock=self.clock,
            log=self.log,
        )

    def accounts(self) -> AccountDesk:
        """Return accounts in the operator's hands."""
        boot = self.settings.boot
        manage = ManageAccounts(
            accounts=self.store.accounts,
            roster=self.store.roster,
            delete_account=self.delete_account,
            block_account=self.block_account,
            hasher=self.hasher,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
            log=self.log,
        )
        return AccountDesk(
            manage=manage,
            state_dir=str(boot.state_dir),
            database=_database(boot),
            link=self.link,
        )

    async def _addresses(self) -> Sequence[str]:
        server = self.settings.boot.server
        return public_addresses(list(map(str, server.public_ips)), with_ipv6=server.ipv6)


def _services(boot: BootConfig) -> Sequence[tuple[str, int]]:
    """Name what clients may find, at the ports they find it at."""
    found = []
    for face, port in STANDARD_SERVICES:
        places = getattr(boot.listen, face)
        if places:
            found.append((face, places[0].port or port))
    return found


def _servers(boot: BootConfig) -> list[tuple[str, int]]:
    return [(str(server.host), server.port) for server in boot.dns.servers]


def _database(boot: BootConfig) -> str:
    return "postgres" if boot.database.url.startswith("postgres") else "sqlite3"


def _verifying(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
