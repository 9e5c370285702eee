"""What stands behind the operator's commands, in the server and without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from chatmail.adapters.control.services import AccountDesk, DnsDesk
from chatmail.adapters.dns.authority import AuthoritativeReader
from chatmail.adapters.dns.probes import NetworkProbes
from chatmail.app.config_identity import tls_mode
from chatmail.domain.formats.account_links import dclogin_link
from chatmail.domain.usecases.check_dns import CheckDns
from chatmail.domain.usecases.describe_zone import DescribeZone
from chatmail.domain.usecases.manage_accounts import ManageAccounts
from chatmail.domain.usecases.manage_federation import ManageFederation
from chatmail.domain.usecases.manage_queue import ManageQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatmail.adapters.dkim.keys import KeyFolder
    from chatmail.adapters.dkim.signer import KeySigner
    from chatmail.app.wiring_parts import Parts
    from chatmail.domain.formats.account_links import RelayFacts
    from chatmail.domain.ports.mail_auth import DkimRecord


@attrs.frozen(kw_only=True)
class Desks:
    """The operator's use cases. `link` needs to know what is bound, so `accounts` is made late."""

    queue: ManageQueue
    federation: ManageFederation
    dns: DnsDesk
    manage_accounts: ManageAccounts
    state_dir: str
    database: str

    def accounts(self, relay: Callable[[], RelayFacts] | None = None) -> AccountDesk:
        """Return what stands behind `accounts`; without `relay` no links are made."""
        return AccountDesk(
            manage=self.manage_accounts,
            state_dir=self.state_dir,
            database=self.database,
            link=None
            if relay is None
            else lambda address, password: dclogin_link(relay(), address, password),
        )


@attrs.frozen(kw_only=True)
class _SigningKeys:
    """`SigningKeys` of the control face: what is made is used at once."""

    folder: KeyFolder
    signer: KeySigner

    def records(self) -> Sequence[DkimRecord]:
        return self.signer.records()

    def to_come(self) -> Sequence[DkimRecord]:
        names = {key.selector for key in self.folder.to_come()}
        return [one for one in self.signer.records() if one.selector in names]

    def rotate(self) -> Sequence[DkimRecord]:
        self.folder.rotate()
        self.signer.reload()
        return self.to_come()

    def activate(self) -> Sequence[DkimRecord]:
        names = {key.selector for key in self.folder.activate()}
        self.signer.reload()
        return [one for one in self.signer.records() if one.selector in names]


def desks(parts: Parts) -> Desks:
    """Make them."""
    store = parts.store
    return Desks(
        queue=ManageQueue(
            queue=store.outbound,
            memory=store.peer_memory,
            directory=store.peers,
            ledger=store.peer_ledger,
            clock=parts.clock,
            settings=parts.settings,
            log=parts.log,
        ),
        federation=ManageFederation(
            directory=store.peers,
            memory=store.peer_memory,
            ledger=store.peer_ledger,
            queue=store.outbound,
            clock=parts.clock,
            settings=parts.settings,
            log=parts.log,
        ),
        dns=_dns(parts),
        manage_accounts=ManageAccounts(
            accounts=store.accounts,
            roster=store.roster,
            delete_account=parts.delete_account(),
            block_account=parts.block_account(),
            hasher=parts.hasher,
            clock=parts.clock,
            entropy=parts.entropy,
            settings=parts.settings,
            log=parts.log,
        ),
        state_dir=str(parts.boot.state_dir),
        database=parts.boot.database.url.partition(":")[0],
    )


def _dns(parts: Parts) -> DnsDesk:
    boot, others = parts.boot, parts.federation
    zone = AuthoritativeReader([(one.host, one.port) for one in boot.dns.servers])

    async def addresses() -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return others.reach.public_addresses()

    describe = DescribeZone(
        settings=parts.settings,
        addresses=addresses,
        keys=others.signer.records,
        has_ca_certificate=lambda: tls_mode(boot) in ("files", "external-proxy"),
        notebook=parts.store.retention,
        zone=zone,
        clock=parts.clock,
    )
    probes = NetworkProbes(
        zone=zone,
        https_port=boot.federation.https_port,
        smtp_port=boot.federation.smtp_port,
    )
    return DnsDesk(
        describe=describe,
        check=CheckDns(describe=describe, zone=zone, probes=probes),
        keys=_SigningKeys(folder=others.keys, signer=others.signer),
    )
