"""Other relays, both ways: names, keys, policy, transports, the runner of the queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import attrs

import chatmail
from chatmail.adapters.dkim.key_lookup import KeyLookup
from chatmail.adapters.dkim.keys import KeyFolder, parse_algorithms
from chatmail.adapters.dkim.signer import KeySigner, parse_forms
from chatmail.adapters.dkim.verifier import KeyVerifier
from chatmail.adapters.jobs.outbound import OutboundRunner
from chatmail.adapters.outbound.resolver import TrioResolver
from chatmail.adapters.outbound.transports import Outward
from chatmail.app.reach import Reach
from chatmail.domain.model.errors import PermanentFailure
from chatmail.domain.ports.mail_auth import RetiredKey
from chatmail.domain.usecases.attempt_remote import AttemptRemote
from chatmail.domain.usecases.count_peers import CountPeers
from chatmail.domain.usecases.lookup_route import LookupRoute
from chatmail.domain.usecases.lookup_sts import LookupSts
from chatmail.domain.usecases.peer_policy import PeerPolicy
from chatmail.domain.usecases.send_abroad import SendAbroad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chatmail.adapters.storage.store import Store
    from chatmail.adapters.system.clock import SystemClock, SystemEntropy
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config_keys import BootConfig
    from chatmail.domain.model.settings import SettingsSnapshot
    from chatmail.domain.ports.mail_auth import DkimRecord
    from chatmail.domain.ports.system import Clock


OVERLAP_S: Final = 7 * 86400
"""Mail that was signed with the old key is on its way for days, and looked at again later."""


@attrs.frozen(kw_only=True)
class KeyDesk:
    """`KeyRing`: what is made is used at once."""

    folder: KeyFolder
    signer: KeySigner
    clock: Clock

    def records(self) -> Sequence[DkimRecord]:
        return self.signer.records()

    def to_come(self) -> Sequence[DkimRecord]:
        names = {key.selector for key in self.folder.to_come()}
        return [one for one in self.signer.records() if one.selector in names]

    def rotate(self) -> Sequence[DkimRecord]:
        return self.signer.rotate(time.strftime("%Y%m%d", time.gmtime(self.clock.now_s())))

    def activate(self) -> Sequence[DkimRecord]:
        names = {key.selector for key in self.folder.activate()}
        self.signer.reload()
        return [one for one in self.signer.records() if one.selector in names]

    def in_use_since_s(self) -> float | None:
        return self.folder.in_use_since_s() if self.signer.records() else None

    def retired(self) -> Sequence[RetiredKey]:
        since_s = self.folder.in_use_since_s()
        if since_s is None:
            return ()
        domains = {one.name.partition("._domainkey.")[2] for one in self.signer.records()}
        return [
            RetiredKey(f"{selector}._domainkey.{domain}", int(since_s) + OVERLAP_S)
            for selector in self.folder.retired()
            for domain in sorted(domains)
        ]


@attrs.frozen(kw_only=True)
class Federation:
    """What mail to and from other relays needs."""

    reach: Reach
    resolver: TrioResolver
    outward: Outward
    keys: KeyFolder
    signer: KeySigner
    verifier: KeyVerifier
    policy: PeerPolicy
    count: CountPeers
    runner: OutboundRunner
    abroad: SendAbroad
    clock: Clock

    def follow(self, boot: BootConfig) -> tuple[str, ...]:
        """Take over what a file that was read anew says; returns what could not be followed."""
        self.resolver.ask_at(_servers(boot))
        try:
            self.outward.trust(boot.federation.ca_file)
        except OSError as error:
            return (_cannot_trust(error),)
        return ()

    def key_desk(self) -> KeyDesk:
        """Return the keys in the operator's hands."""
        return KeyDesk(folder=self.keys, signer=self.signer, clock=self.clock)


def federation(
    boot: BootConfig,
    log: Log,
    clock: SystemClock,
    entropy: SystemEntropy,
    settings: Callable[[], SettingsSnapshot],
    store: Store,
) -> Federation:
    """Connect it all.

    Raises:  PermanentFailure: a key or the file of trust anchors cannot be used; the text is for
        the operator.
    """
    reach = Reach(boot, settings)
    resolver = TrioResolver(
        _servers(boot),
        clock,
        ipv6=boot.server.ipv6,
        prefers_ipv6=lambda: settings().federation.prefers_ipv6,
    )
    outward = _outward(boot, settings, resolver, reach)
    keys = key_folder(boot)
    signer = KeySigner(keys, lambda: settings().identity, parse_forms(boot.dkim.canonicalization))
    policy = PeerPolicy(directory=store.peers, settings=settings)
    count = CountPeers(ledger=store.peer_ledger, clock=clock, settings=settings)
    runner = OutboundRunner(
        attempt=AttemptRemote(
            route=LookupRoute(
                resolver=resolver,
                directory=store.peers,
                memory=store.peer_memory,
                sts=LookupSts(
                    resolver=resolver,
                    fetcher=outward.fetcher,
                    memory=store.peer_memory,
                    clock=clock,
                ),
                clock=clock,
                settings=settings,
                log=log,
                is_own=reach.is_own,
                may_connect=reach.may_connect,
            ),
            transport=outward,
            memory=store.peer_memory,
            count=count,
            policy=policy,
            clock=clock,
            entropy=entropy,
            settings=settings,
        ),
        queue=store.outbound,
        memory=store.peer_memory,
        ledger=store.peer_ledger,
        clock=clock,
        entropy=entropy,
        settings=settings,
        log=log,
    )
    return Federation(
        reach=reach,
        resolver=resolver,
        outward=outward,
        keys=keys,
        signer=signer,
        verifier=KeyVerifier(KeyLookup(resolver, outward.fetcher, clock), clock),
        policy=policy,
        count=count,
        runner=runner,
        clock=clock,
        abroad=SendAbroad(
            policy=policy,
            signer=signer,
            queue=store.outbound,
            first=runner,
            count=count,
            clock=clock,
            entropy=entropy,
            settings=settings,
        ),
    )


def key_folder(boot: BootConfig) -> KeyFolder:
    """Return where the keys of DKIM lie."""
    return KeyFolder(boot.dkim_dir, boot.dkim.selector, parse_algorithms(boot.dkim.algorithms))


def _outward(
    boot: BootConfig,
    settings: Callable[[], SettingsSnapshot],
    resolver: TrioResolver,
    reach: Reach,
) -> Outward:
    major = chatmail.__version__.partition(".")[0]
    try:
        return Outward(
            resolver,
            ca_file=boot.federation.ca_file,
            bind=boot.federation.outbound_bind,
            may_connect=reach.may_connect,
            hello_name=reach.hello_name,
            user_agent=f"chatmail/{major}",
            https_port=lambda: settings().federation.https_port,
        )
    except OSError as error:
        raise PermanentFailure(_cannot_trust(error)) from None


def _servers(boot: BootConfig) -> list[tuple[str, int]]:
    return [(str(one.host), one.port) for one in boot.dns.servers]


def _cannot_trust(error: OSError) -> str:
    return f"federation.ca_file: cannot be used: {error.strerror}"
