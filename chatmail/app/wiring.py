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
from chatmail.adapters.storage.store import Store, open_store
from chatmail.adapters.system.budgets import BucketTable
from chatmail.adapters.system.clock import SystemClock, SystemEntropy
from chatmail.adapters.system.hints import HintBoard
from chatmail.adapters.system.host import SystemHost
from chatmail.adapters.system.locks import LockTable
from chatmail.adapters.system.passwords import CachingHasher, hashing_pool
from chatmail.adapters.system.sessions import SessionTable
from chatmail.app.config_identity import tls_mode, to_settings
from chatmail.app.drain import Drain
from chatmail.app.site import Site
from chatmail.domain.model.queue import FailedRecipient
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.usecases.append import AppendMessage
from chatmail.domain.usecases.authenticate import Authenticate
from chatmail.domain.usecases.change_mailbox import ChangeMailbox
from chatmail.domain.usecases.collect import Collect
from chatmail.domain.usecases.deliver_reports import DeliverReports
from chatmail.domain.usecases.intake import TakeIn
from chatmail.domain.usecases.receive import Receive
from chatmail.domain.usecases.register import Register
from chatmail.domain.usecases.service_metadata import ServiceMetadata
from chatmail.domain.usecases.submit import Submit
from chatmail.domain.wire.smtp.sequence import Role

if TYPE_CHECKING:
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.config_values import IpNetwork

HTTP_CONNECTIONS: Final = 2000
RELAY_CONNECTIONS: Final = ConnectionLimits(total=500, per_source=50)  # federation-web.md B1.7


class LiveSettings:
    """The current snapshot; a reload swaps the reference."""

    def __init__(self, snapshot: SettingsSnapshot) -> None:
        self.current = snapshot

    def __call__(self) -> SettingsSnapshot:
        """Return the snapshot of this instant."""
        return self.current


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


@asynccontextmanager
async def build(boot: BootConfig, log: Log) -> AsyncIterator[Relay]:
    """Open what has to be open and connect everything.

    Raises:  StartError kinds of the adapters: lock taken, certificate unusable, store unreadable.
    """
    clock, entropy = SystemClock(), SystemEntropy()
    settings = LiveSettings(to_settings(boot))
    hints, sessions, drain = HintBoard(), SessionTable(), Drain()
    async with open_store(boot.state_dir, boot.database.url, hints, clock, log) as store:
        keeper = open_keeper(boot, clock)
        budgets = BucketTable(clock, entropy)
        hasher = CachingHasher(hashing_pool(), clock, entropy)
        host = SystemHost(boot.state_dir, boot.nocreate_file, settings, clock)
        authenticate = Authenticate(
            accounts=store.accounts,
            hasher=hasher,
            budgets=budgets,
            locks=LockTable(),
            host=host,
            clock=clock,
            settings=settings,
            log=log,
        )
        register = Register(
            accounts=store.accounts,
            hasher=hasher,
            budgets=budgets,
            host=host,
            clock=clock,
            entropy=entropy,
            settings=settings,
            log=log,
        )
        take_in = TakeIn(
            accounts=store.accounts,
            intake=store.intake,
            mail=store.mail,
            clock=clock,
            settings=settings,
        )
        collect = Collect(store.blobs)
        smtp = SmtpServices(
            authenticate=authenticate,
            submit=Submit(
                take_in=take_in, budgets=budgets, clock=clock, entropy=entropy, settings=settings
            ),
            receive=Receive(settings=settings),
            collect=collect,
            sessions=sessions,
            settings=settings,
            drain=drain,
            log=log,
        )
        imap = ImapServices(
            authenticate=authenticate,
            store=store.mail,
            append=AppendMessage(take_in),
            collect=collect,
            change_mailbox=ChangeMailbox(store.mail, settings, clock),
            metadata=ServiceMetadata(tokens=store.tokens, settings=settings, clock=clock),
            hints=hints,
            sessions=sessions,
            settings=settings,
            clock=clock,
            drain=drain,
            log=log,
        )
        site = Site(boot, settings, keeper, clock)
        http = HttpFace(
            HttpServices(
                site=site.facts,
                register=register,
                checks=partial(site.checks, store, host),
                log=log,
            )
        )
        yield Relay(
            boot=boot,
            log=log,
            settings=settings,
            store=store,
            keeper=keeper,
            drain=drain,
            sessions=sessions,
            http=http,
            site=site,
            listeners=_listeners(boot, settings, smtp, imap, http),
            reports=DeliverReports(
                queue=store.queue,
                take_in=take_in,
                clock=clock,
                entropy=entropy,
                settings=settings,
                diagnose=_diagnose,
            ),
        )


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
