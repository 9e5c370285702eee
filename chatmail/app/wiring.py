"""BootConfig → the object graph. The only place where concrete adapters are chosen."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.http.facts import HttpServices
from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.imap.server import serve_connection as serve_imap
from chatmail.adapters.imap.services import ImapServices
from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.adapters.net.listeners import Face, FaceListener, TlsMode
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPolicy, TlsPurpose
from chatmail.adapters.smtp.replies import reply_to
from chatmail.adapters.smtp.server import serve_connection as serve_smtp
from chatmail.adapters.smtp.services import SmtpServices
from chatmail.adapters.storage.store import Ears, Store, open_store
from chatmail.adapters.system.budgets import BucketTable
from chatmail.adapters.system.clock import SystemClock, SystemEntropy
from chatmail.adapters.system.hints import HintBoard
from chatmail.adapters.system.host import SystemHost
from chatmail.adapters.system.locks import LockTable
from chatmail.adapters.system.passwords import REMEMBER_S, CachingHasher, hashing_pool
from chatmail.adapters.system.sessions import SessionTable
from chatmail.adapters.system.verified import (
    KEY_OCTETS,
    KeptVerifications,
    remove_stale,
    shared_memory_path,
)
from chatmail.app.config_identity import tls_mode
from chatmail.app.drain import Drain
from chatmail.app.live_settings import LiveSettings
from chatmail.app.operator_desks import OperatorDesks
from chatmail.app.settings_follower import SettingsFollower
from chatmail.app.site import Site
from chatmail.domain.formats.account_links import dclogin_link
from chatmail.domain.model.queue import FailedRecipient
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.usecases.append import AppendMessages
from chatmail.domain.usecases.authenticate import Authenticate
from chatmail.domain.usecases.change_mailbox import ChangeMailbox
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.usecases.collect import Collect
from chatmail.domain.usecases.delete_account import BlockAccount, DeleteAccount
from chatmail.domain.usecases.deliver_reports import DeliverReports
from chatmail.domain.usecases.intake import TakeIn
from chatmail.domain.usecases.receive import Receive
from chatmail.domain.usecases.register import Register
from chatmail.domain.usecases.service_metadata import ServiceMetadata
from chatmail.domain.usecases.submit import Submit
from chatmail.domain.usecases.tasks import RunTask
from chatmail.domain.wire.smtp.sequence import Role

if TYPE_CHECKING:
    from chatmail.adapters.control.services import SigningKeys
    from chatmail.adapters.http.facts import Check
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config import LoadedConfig
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.config_values import IpNetwork

MIN_FREE_BYTES: Final = 64 * 1024 * 1024  # below it SMTP answers MAIL with 452 4.3.1
HTTP_CONNECTIONS: Final = 2000
RELAY_CONNECTIONS: Final = ConnectionLimits(total=500, per_source=50)  # federation-web.md B1.7


@attrs.frozen(kw_only=True)
class Relay:
    """What the nursery tree runs."""

    boot: BootConfig
    log: Log
    settings: LiveSettings
    store: Store
    keeper: TlsKeeper
    drain: Drain
    sessions: SessionTable
    http: HttpFace
    site: Site
    listeners: dict[str, FaceListener]
    reports: DeliverReports
    change_settings: ChangeSettings
    settings_follower: SettingsFollower
    checks: Callable[[], list[Check]]
    tasks: RunTask
    delete_account: DeleteAccount
    block_account: BlockAccount
    entropy: SystemEntropy
    desks: OperatorDesks


def certificate_names(boot: BootConfig) -> tuple[str, ...]:
    """Return what a self-signed certificate has to cover (federation-web.md E1.2)."""
    server = boot.server
    if server.ip is not None:
        return tuple(dict.fromkeys((str(server.ip), server.hostname or str(server.ip))))
    domain = server.domain
    names = (domain, f"www.{domain}", f"mta-sts.{domain}", server.hostname or domain)
    return tuple(dict.fromkeys(names))


def open_keeper(boot: BootConfig, clock: SystemClock) -> TlsKeeper:
    """Load the certificate, making a self-signed one at the first start.

    Raises:  CertificateError: it cannot be used; the text is for the operator.
    """
    policy = tls_policy(boot)
    given = certificate_pair(boot)
    if given is not None:
        return TlsKeeper(given, now_s=clock.now_s, policy=policy)
    pair = ensure_self_signed(boot.state_dir / "tls", certificate_names(boot), clock.now_s())
    return TlsKeeper(pair, now_s=clock.now_s, policy=policy, allow_expired=True)


def certificate_pair(boot: BootConfig) -> CertificatePair | None:
    """Return the files the operator gave; None: the certificate is our own."""
    if boot.tls.mode == "self-signed" or boot.tls.cert is None or boot.tls.key is None:
        return None
    return CertificatePair(boot.tls.cert, boot.tls.key)


def tls_policy(boot: BootConfig) -> TlsPolicy:
    """Return the lowest TLS versions the file asks for."""
    versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    return TlsPolicy(min=versions[boot.tls.min], submission_min=versions[boot.tls.submission_min])


@attrs.frozen(kw_only=True)
class _Parts:
    """What several faces and use cases share."""

    boot: BootConfig
    log: Log
    clock: SystemClock
    entropy: SystemEntropy
    settings: LiveSettings
    hints: HintBoard
    sessions: SessionTable
    drain: Drain
    store: Store
    budgets: BucketTable
    hasher: CachingHasher
    host: SystemHost
    take_in: TakeIn

    @staticmethod
    def of(
        boot: BootConfig,
        log: Log,
        clock: SystemClock,
        settings: LiveSettings,
        hints: HintBoard,
        store: Store,
    ) -> _Parts:
        """Make what is not given."""
        entropy = SystemEntropy()
        return _Parts(
            boot=boot,
            log=log,
            clock=clock,
            entropy=entropy,
            settings=settings,
            hints=hints,
            sessions=SessionTable(),
            drain=Drain(),
            store=store,
            budgets=BucketTable(clock, entropy),
            hasher=CachingHasher(
                hashing_pool(), clock, entropy, kept=_kept_verifications(boot, clock, entropy)
            ),
            host=SystemHost(boot.state_dir, boot.nocreate_file, settings, clock),
            take_in=TakeIn(
                accounts=store.accounts,
                intake=store.intake,
                mail=store.mail,
                clock=clock,
                settings=settings,
            ),
        )

    def authenticate(self) -> Authenticate:
        return Authenticate(
            accounts=self.store.accounts,
            hasher=self.hasher,
            budgets=self.budgets,
            locks=LockTable(),
            host=self.host,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def register(self) -> Register:
        return Register(
            accounts=self.store.accounts,
            hasher=self.hasher,
            budgets=self.budgets,
            host=self.host,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
            log=self.log,
        )

    def smtp(self, authenticate: Authenticate) -> SmtpServices:
        submit = Submit(
            take_in=self.take_in,
            budgets=self.budgets,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
        )
        return SmtpServices(
            authenticate=authenticate,
            submit=submit,
            receive=Receive(settings=self.settings),
            collect=Collect(self.store.blobs),
            sessions=self.sessions,
            settings=self.settings,
            drain=self.drain,
            log=self.log,
            has_room=lambda: self.host.free_disk_bytes() >= MIN_FREE_BYTES,
        )

    def imap(self, authenticate: Authenticate) -> ImapServices:
        return ImapServices(
            authenticate=authenticate,
            store=self.store.mail,
            append=AppendMessages(self.take_in),
            collect=Collect(self.store.blobs),
            change_mailbox=ChangeMailbox(self.store.mail, self.settings, self.clock),
            metadata=ServiceMetadata(
                tokens=self.store.tokens, settings=self.settings, clock=self.clock
            ),
            object_ids=self.store.object_ids,
            hints=self.hints,
            sessions=self.sessions,
            settings=self.settings,
            clock=self.clock,
            drain=self.drain,
            log=self.log,
        )

    def http(self, site: Site) -> HttpFace:
        return HttpFace(
            HttpServices(
                site=site.facts,
                register=self.register(),
                checks=partial(site.checks, self.store, self.host),
                log=self.log,
            )
        )

    def reports(self) -> DeliverReports:
        return DeliverReports(
            queue=self.store.queue,
            take_in=self.take_in,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
            diagnose=_diagnose,
        )

    def delete_account(self) -> DeleteAccount:
        return DeleteAccount(
            accounts=self.store.accounts,
            hasher=self.hasher,
            sessions=self.sessions,
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )

    def block_account(self) -> BlockAccount:
        return BlockAccount(
            accounts=self.store.accounts,
            hasher=self.hasher,
            sessions=self.sessions,
            clock=self.clock,
            log=self.log,
        )

    def desks(
        self, link: Callable[[str, str], str] | None = None, keys: SigningKeys | None = None
    ) -> OperatorDesks:
        return OperatorDesks(
            settings=self.settings,
            store=self.store,
            clock=self.clock,
            entropy=self.entropy,
            log=self.log,
            hasher=self.hasher,
            delete_account=self.delete_account(),
            block_account=self.block_account(),
            keys=keys,
            link=link,
        )

    def tasks(self) -> RunTask:
        return RunTask(
            retention=self.store.retention,
            upkeep=self.store.upkeep,
            delete=self.delete_account(),
            clock=self.clock,
            settings=self.settings,
            log=self.log,
        )


@asynccontextmanager
async def build(loaded: LoadedConfig, log: Log) -> AsyncIterator[Relay]:
    """Open what has to be open and connect everything.

    Stored settings are not followed yet: the store answers once it runs.

    Raises:  PermanentFailure: the state directory, the database or the certificate cannot be
        used; the text is for the operator.
    """
    boot, clock, hints = loaded.boot, SystemClock(), HintBoard()
    settings = LiveSettings(loaded, log)
    async with open_store(boot.state_dir, boot.database.url, hints, clock, log) as store:
        keeper = open_keeper(boot, clock)
        parts = _Parts.of(boot, log, clock, settings, hints, store)
        follower = SettingsFollower(
            store.settings, settings, is_shared=boot.database.url.startswith("postgres")
        )
        store.listen(
            Ears(
                account_changed=parts.hasher.forget,
                account_closed=parts.sessions.close_all,
                settings_changed=follower.poke,
            )
        )
        site = Site(boot, settings, keeper, clock)
        settings.on_change = partial(_follow, site, settings)
        http = parts.http(site)
        authenticate = parts.authenticate()
        smtp, imap = parts.smtp(authenticate), parts.imap(authenticate)
        yield Relay(
            boot=boot,
            log=log,
            settings=settings,
            store=store,
            keeper=keeper,
            drain=parts.drain,
            sessions=parts.sessions,
            http=http,
            site=site,
            listeners=_listeners(boot, settings, smtp, imap, http),
            reports=parts.reports(),
            change_settings=ChangeSettings(store=store.settings, in_force=settings),
            settings_follower=follower,
            checks=partial(site.checks, store, parts.host),
            tasks=parts.tasks(),
            delete_account=parts.delete_account(),
            block_account=parts.block_account(),
            entropy=parts.entropy,
            desks=parts.desks(lambda address, password: _link(site, address, password)),
        )


def _link(site: Site, address: str, password: str) -> str:
    return dclogin_link(site.relay(), address, password)


def desks_of(loaded: LoadedConfig, log: Log, settings: LiveSettings, store: Store) -> OperatorDesks:
    """Return what operators' commands act on without a server."""
    return _Parts.of(loaded.boot, log, SystemClock(), settings, HintBoard(), store).desks()


def tasks_of(loaded: LoadedConfig, log: Log, settings: LiveSettings, store: Store) -> RunTask:
    """Return maintenance for a command that works without a server."""
    return _Parts.of(loaded.boot, log, SystemClock(), settings, HintBoard(), store).tasks()


def _follow(site: Site, settings: LiveSettings) -> None:
    site.boot = settings.boot


def _diagnose(failed: FailedRecipient) -> str:
    """The SMTP reply of a failure, for reports."""
    refusal = Refuse(failed.reason, subject=str(failed.address))
    return reply_to(refusal).octets.decode().rstrip()


def _listeners(
    boot: BootConfig,
    settings: LiveSettings,
    smtp: SmtpServices,
    imap: ImapServices,
    http: HttpFace,
) -> dict[str, FaceListener]:
    """One listener description per face name of `[listen]`."""

    def imap_limits() -> ConnectionLimits:
        limits = settings().limits
        return ConnectionLimits(limits.max_imap_connections, limits.max_per_address)

    def smtp_limits() -> ConnectionLimits:
        limits = settings().limits
        return ConnectionLimits(limits.max_smtp_connections, limits.max_per_address)

    full = b"421 4.7.0 Too many connections\r\n"
    submission = Face(handler=partial(_submission, smtp), crowd=Crowd(smtp_limits), refusal=full)
    relay = Face(
        handler=partial(_relay, smtp), crowd=Crowd(lambda: RELAY_CONNECTIONS), refusal=full
    )
    mailbox = Face(handler=_imap(imap), crowd=Crowd(imap_limits))
    web = Face(
        handler=http.serve_connection,
        crowd=Crowd(lambda: ConnectionLimits(total=HTTP_CONNECTIONS)),
    )
    mux = {"imap": mailbox, "smtp": submission} if boot.http.alpn_mux else {}
    # federation-web.md E1.4: a proxy in front ends TLS; only it may speak cleartext to these.
    is_proxied = tls_mode(boot) == "external-proxy"
    front = TlsMode.PROXIED if is_proxied else TlsMode.IMPLICIT
    admits = partial(_is_proxy, boot.http.trusted_proxies) if is_proxied else _everybody
    described = (
        FaceListener(name="smtp", tls=TlsMode.STARTTLS, purpose=TlsPurpose.RELAY, face=relay),
        FaceListener(
            name="submission", tls=TlsMode.STARTTLS, purpose=TlsPurpose.SUBMISSION, face=submission
        ),
        FaceListener(
            name="submissions",
            tls=front,
            purpose=TlsPurpose.SUBMISSION,
            face=submission,
            admits=admits,
        ),
        FaceListener(name="imap", tls=TlsMode.STARTTLS, purpose=TlsPurpose.IMAP, face=mailbox),
        FaceListener(name="imaps", tls=front, purpose=TlsPurpose.IMAP, face=mailbox, admits=admits),
        FaceListener(name="http", tls=TlsMode.NONE, face=web),
        FaceListener(
            name="https",
            tls=front,
            purpose=TlsPurpose.HTTPS,
            face=web,
            alpn=mux,
            admits=admits,
        ),
    )
    return {listener.name: listener for listener in described}


def _kept_verifications(
    boot: BootConfig, clock: SystemClock, entropy: SystemEntropy
) -> KeptVerifications | None:
    path = shared_memory_path(boot.state_dir)
    if path is None:
        return None
    remove_stale(path.parent, clock.now_s(), REMEMBER_S)
    return KeptVerifications(path, entropy.octets(KEY_OCTETS), clock.now_s(), REMEMBER_S)


def _everybody(_host: str) -> bool:
    return True


def _is_proxy(networks: tuple[IpNetwork, ...], host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_loopback or any(address in network for network in networks)


async def _submission(services: SmtpServices, stream: Stream) -> None:
    await serve_smtp(stream, services, Role.SUBMISSION)


async def _relay(services: SmtpServices, stream: Stream) -> None:
    await serve_smtp(stream, services, Role.INBOUND)


def _imap(services: ImapServices) -> Callable[[Stream], Awaitable[None]]:
    async def handle(stream: Stream) -> None:
        await serve_imap(stream, services)

    return handle
