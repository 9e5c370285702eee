"""What several faces and use cases share, and the use cases made of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from chatmail.adapters.http.facts import HttpServices
from chatmail.adapters.http.mxdeliv import MxdelivServices
from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.imap.services import ImapServices
from chatmail.adapters.net.turns import Turns
from chatmail.adapters.smtp.replies import reply_to
from chatmail.adapters.smtp.services import SmtpServices
from chatmail.adapters.storage.store import Store
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
from chatmail.app.drain import Drain
from chatmail.app.live_settings import LiveSettings
from chatmail.app.operator_desks import OperatorDesks
from chatmail.app.site import Site
from chatmail.app.wiring_federation import Federation, federation
from chatmail.domain.model.queue import FailedRecipient
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.usecases.append import AppendMessages
from chatmail.domain.usecases.authenticate import Authenticate
from chatmail.domain.usecases.change_mailbox import ChangeMailbox
from chatmail.domain.usecases.collect import Collect
from chatmail.domain.usecases.delete_account import BlockAccount, DeleteAccount
from chatmail.domain.usecases.deliver_reports import DeliverReports
from chatmail.domain.usecases.intake import TakeIn
from chatmail.domain.usecases.poll_exchanger import PollExchanger
from chatmail.domain.usecases.receive import Receive, inbound_digests
from chatmail.domain.usecases.register import Register
from chatmail.domain.usecases.service_metadata import ServiceMetadata
from chatmail.domain.usecases.submit import Submit
from chatmail.domain.usecases.tasks import RunTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatmail.adapters.system.logs import Log
    from chatmail.app.config_keys import BootConfig

MIN_FREE_BYTES: Final = 64 * 1024 * 1024  # below it SMTP answers MAIL with 452 4.3.1


@attrs.frozen(kw_only=True)
class Parts:
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
    turns: Turns
    budgets: BucketTable
    hasher: CachingHasher
    host: SystemHost
    federation: Federation
    take_in: TakeIn

    @staticmethod
    def of(
        boot: BootConfig,
        log: Log,
        clock: SystemClock,
        settings: LiveSettings,
        hints: HintBoard,
        store: Store,
    ) -> Parts:
        """Make what is not given.

        Raises:  PermanentFailure: a key or a file it needs cannot be used.
        """
        entropy = SystemEntropy()
        others = federation(boot, log, clock, entropy, settings, store)
        return Parts(
            boot=boot,
            log=log,
            clock=clock,
            entropy=entropy,
            settings=settings,
            hints=hints,
            sessions=SessionTable(),
            drain=Drain(),
            store=store,
            turns=Turns(store.is_at_work),
            budgets=BucketTable(clock, entropy),
            hasher=CachingHasher(
                hashing_pool(), clock, entropy, kept=_kept_verifications(boot, clock, entropy)
            ),
            host=SystemHost(boot.state_dir, boot.nocreate_file, settings, clock),
            federation=others,
            take_in=TakeIn(
                accounts=store.accounts,
                intake=store.intake,
                mail=store.mail,
                clock=clock,
                settings=settings,
                abroad=others.abroad,
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

    def smtp(self, authenticate: Authenticate, receive: Receive) -> SmtpServices:
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
            receive=receive,
            collect=Collect(self.store.blobs, inbound_digests),
            sessions=self.sessions,
            settings=self.settings,
            drain=self.drain,
            log=self.log,
            has_room=lambda: self.host.free_disk_bytes() >= MIN_FREE_BYTES,
        )

    def receive(self) -> Receive:
        others = self.federation
        return Receive(
            take_in=self.take_in,
            accounts=self.store.accounts,
            verifier=others.verifier,
            budgets=self.budgets,
            ledger=self.store.peer_ledger,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
            is_allowed=others.policy.allows,
            contact=others.runner.note_contact,
            secret=self.store.arrivals_key,
            log=self.log,
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
            turns=self.turns,
        )

    def http(self, site: Site, receive: Receive) -> HttpFace:
        return HttpFace(
            HttpServices(
                mxdeliv=MxdelivServices(
                    receive=receive,
                    collect=Collect(self.store.blobs, inbound_digests),
                    settings=self.settings,
                    reply=_reply_line,
                    log=self.log,
                    has_room=lambda: self.host.free_disk_bytes() >= MIN_FREE_BYTES,
                ),
                site=site.facts,
                register=self.register(),
                checks=partial(site.checks, self.store, self.host),
                log=self.log,
                dkim_key=self.federation.signer.record_of,
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

    def poll_exchanger(self, receive: Receive) -> PollExchanger:
        return PollExchanger(
            store=self.store.exchangers,
            fetcher=self.federation.outward.fetcher,
            receive=receive,
            collect=Collect(self.store.blobs, inbound_digests),
            clock=self.clock,
            settings=self.settings,
            log=self.log,
            secret=self.store.arrivals_key,
        )

    def desks(
        self,
        link: Callable[[str, str], str] | None = None,
        ask: PollExchanger | None = None,
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
            keys=self.federation.key_desk(),
            link=link,
            ask=ask,
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


def _diagnose(failed: FailedRecipient) -> str:
    """The SMTP reply of a failure, for reports."""
    return _reply_line(Refuse(failed.reason, subject=str(failed.address)))


def _reply_line(refuse: Refuse) -> str:
    return reply_to(refuse).octets.decode().rstrip()


def _kept_verifications(
    boot: BootConfig, clock: SystemClock, entropy: SystemEntropy
) -> KeptVerifications | None:
    path = shared_memory_path(boot.state_dir)
    if path is None:
        return None
    remove_stale(path.parent, clock.now_s(), REMEMBER_S)
    return KeptVerifications(path, entropy.octets(KEY_OCTETS), clock.now_s(), REMEMBER_S)
