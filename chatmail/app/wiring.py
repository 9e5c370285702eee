"""BootConfig → the object graph. Concrete adapters are chosen here and in `wiring_*.py` alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs

from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.net.listeners import FaceListener
from chatmail.adapters.net.tls import TlsKeeper
from chatmail.adapters.net.turns import Turns
from chatmail.adapters.storage.store import Ears, Store, open_store
from chatmail.adapters.system.clock import SystemClock, SystemEntropy
from chatmail.adapters.system.hints import HintBoard
from chatmail.adapters.system.sessions import SessionTable
from chatmail.app import wiring_faces
from chatmail.app.drain import Drain
from chatmail.app.live_settings import LiveSettings
from chatmail.app.operator_desks import OperatorDesks
from chatmail.app.settings_follower import SettingsFollower
from chatmail.app.site import Site
from chatmail.app.wiring_federation import Federation
from chatmail.app.wiring_parts import Parts
from chatmail.app.wiring_tls import open_keeper
from chatmail.domain.formats.account_links import dclogin_link
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.usecases.deliver_reports import DeliverReports
from chatmail.domain.usecases.poll_exchanger import PollExchanger
from chatmail.domain.usecases.tasks import RunTask

if TYPE_CHECKING:
    from chatmail.adapters.http.facts import Check
    from chatmail.adapters.system.logs import Log
    from chatmail.app.config import LoadedConfig
    from chatmail.app.config_keys import BootConfig


@attrs.frozen(kw_only=True)
class Relay:
    """What the nursery tree runs."""

    boot: BootConfig
    log: Log
    settings: LiveSettings
    store: Store
    turns: Turns
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
    desks: OperatorDesks
    federation: Federation
    ask: PollExchanger
    entropy: SystemEntropy


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
        parts = Parts.of(boot, log, clock, settings, hints, store)
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
        receive = parts.receive()
        ask = parts.poll_exchanger(receive)
        http = parts.http(site, receive)
        authenticate = parts.authenticate()
        smtp, imap = parts.smtp(authenticate, receive), parts.imap(authenticate)
        yield Relay(
            boot=boot,
            log=log,
            settings=settings,
            store=store,
            turns=parts.turns,
            keeper=keeper,
            drain=parts.drain,
            sessions=parts.sessions,
            http=http,
            site=site,
            listeners=wiring_faces.listeners(boot, settings, smtp, imap, http),
            reports=parts.reports(),
            change_settings=ChangeSettings(store=store.settings, in_force=settings),
            settings_follower=follower,
            checks=partial(site.checks, store, parts.host),
            tasks=parts.tasks(),
            desks=parts.desks(lambda *pair: dclogin_link(site.relay(), *pair), ask),
            ask=ask,
            federation=parts.federation,
            entropy=parts.entropy,
        )


def parts_of(loaded: LoadedConfig, log: Log, settings: LiveSettings, store: Store) -> Parts:
    """Return what a command that works without a server needs."""
    return Parts.of(loaded.boot, log, SystemClock(), settings, HintBoard(), store)


def _follow(site: Site, settings: LiveSettings) -> None:
    site.boot = settings.boot
