"""Commands without a server: the same methods on the store itself, under its lock file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from chatmail.adapters.control.methods import call
from chatmail.adapters.control.services import ControlServices
from chatmail.adapters.storage import restored
from chatmail.adapters.storage.database import FILE_NAME
from chatmail.adapters.storage.errors import StateDirectoryInUse, StorageFault, StoreFailed
from chatmail.adapters.storage.store import open_store
from chatmail.adapters.storage.unknown_segments import UnknownSegment, find_unknown_segments
from chatmail.adapters.system.clock import SystemClock, SystemEntropy
from chatmail.adapters.system.hints import HintBoard
from chatmail.adapters.system.logs import open_log
from chatmail.app.config import LoadedConfig
from chatmail.app.live_settings import LiveSettings
from chatmail.app.tasks import named
from chatmail.app.wiring import parts_of
from chatmail.domain.model.errors import PermanentFailure
from chatmail.domain.usecases.change_settings import ChangeSettings
from chatmail.domain.wire.jsonrpc import ErrorCode, RpcError

T = TypeVar("T")


@attrs.frozen
class Refused:
    """The call was refused; `code` as on the socket, `reasons` for the operator."""

    code: int
    reasons: tuple[str, ...]


def call_store(loaded: LoadedConfig, method: str, params: Mapping[str, object]) -> Any:
    """Open the store, run one method, close it; returns its result, or `Refused`."""
    state_dir = loaded.boot.state_dir
    try:
        _become_owner(state_dir)
        is_there = loaded.boot.database.url != "sqlite" or (state_dir / FILE_NAME).is_file()
    except PermissionError:
        return Refused(ErrorCode.UNAUTHORIZED, ("this needs the server's user, or root",))
    if not is_there:
        message = f"{state_dir}: nothing is stored here yet; start the server once"
        return Refused(ErrorCode.UNAVAILABLE, (message,))
    outcome: Any = Refused(ErrorCode.UNAVAILABLE, ("the store failed; look at the disk",))
    try:
        outcome = trio.run(_call, loaded, method, params, strict_exception_groups=True)
    except* StoreFailed:
        pass  # what was done is durable or undone; this process ends here
    return outcome


def unknown_segments(loaded: LoadedConfig, *, remove: bool) -> Sequence[UnknownSegment] | Refused:
    """Return the files of mail the database has never known, and remove them if told to."""
    state_dir = loaded.boot.state_dir
    if loaded.boot.database.url != "sqlite":
        return ()  # content lies in the database itself
    # Without its database all mail would be unknown, and all of it may be dear to somebody.
    return _at_rest(loaded, lambda: find_unknown_segments(state_dir, remove=remove))


def renew_uid_validity(loaded: LoadedConfig) -> int | Refused:
    """Give every mailbox a new UIDVALIDITY; returns how many there are."""
    state_dir, url = loaded.boot.state_dir, loaded.boot.database.url
    now_s = int(SystemClock().now_s())
    return _at_rest(loaded, lambda: restored.renew_uid_validity(state_dir, url, now_s))


def _at_rest(loaded: LoadedConfig, work: Callable[[], T]) -> T | Refused:
    """Work on the store of a stopped server, in files that stay the server's."""
    state_dir = loaded.boot.state_dir
    try:
        _become_owner(state_dir)
        if loaded.boot.database.url == "sqlite" and not (state_dir / FILE_NAME).is_file():
            return Refused(ErrorCode.UNAVAILABLE, (f"{state_dir}: there is no database here",))
        return work()
    except PermissionError:
        return Refused(ErrorCode.UNAUTHORIZED, ("this needs the server's user, or root",))
    except (PermanentFailure, StorageFault) as failure:
        return Refused(ErrorCode.UNAVAILABLE, (str(failure),))


def _become_owner(state_dir: Path) -> None:
    """As root, work as the owner of the files: what is made here has to be the server's."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(FileNotFoundError):
        owner = state_dir.stat()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


async def _call(loaded: LoadedConfig, method: str, params: Mapping[str, object]) -> Any:
    clock = SystemClock()
    log = open_log(clock, SystemEntropy(), ("off",))
    boot = loaded.boot
    try:
        async with (
            open_store(boot.state_dir, boot.database.url, HintBoard(), clock, log) as store,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(store.run)
            settings = LiveSettings(loaded, log, is_serving=False)
            settings.start_with(await store.settings.all())
            parts = parts_of(loaded, log, settings, store)
            services = ControlServices(
                settings=ChangeSettings(store=store.settings, in_force=settings),
                tasks=named(parts.tasks()),
            )
            services = parts.desks().equip(services)
            outcome = await _answer(services, method, params)
            nursery.cancel_scope.cancel()
    except StateDirectoryInUse:
        message = f"{boot.state_dir}: a server uses it, but its control socket does not answer"
        return Refused(ErrorCode.UNAVAILABLE, (message,))
    except PermanentFailure as failure:
        return Refused(ErrorCode.UNAVAILABLE, (str(failure),))
    return outcome


async def _answer(services: ControlServices, method: str, params: Mapping[str, object]) -> Any:
    try:
        return await call(services, method, params)
    except RpcError as refused:
        return Refused(refused.code, refused.reasons or (refused.message,))
