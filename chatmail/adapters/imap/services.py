"""What the IMAP face needs of the rest of the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import attrs

from chatmail.adapters.imap.spree import Spree
from chatmail.adapters.net.turns import Turns
from chatmail.domain.model.account import Account
from chatmail.domain.model.mailbox import AppendReceipt, Flags, MailboxInfo
from chatmail.domain.model.message import Door
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.ports.hints import MailboxHints
from chatmail.domain.ports.mailstore import MailStore, ObjectIds
from chatmail.domain.ports.system import Clock, LiveSessions, Log
from chatmail.domain.usecases.authenticate import Authenticate
from chatmail.domain.usecases.change_mailbox import ChangeMailbox
from chatmail.domain.usecases.service_metadata import ServiceMetadata


class ByteStream(Protocol):
    """One connection, as `adapters.net` makes it."""

    @property
    def is_tls(self) -> bool: ...

    @property
    def peer_host(self) -> str: ...

    async def receive_some(self) -> bytes:
        """Return what came, b"" at the end. Raises PeerGone."""

    async def send_all(self, data: bytes) -> None:
        """Send all of it. Raises PeerGone."""

    def send_now(self, data: bytes) -> bool:
        """Send without waiting; False: `send_all` has to be called, be it with nothing."""

    async def start_tls(self) -> None:
        """Do the handshake of STARTTLS. Raises PeerGone."""

    def start_deflate(self) -> None:
        """Compress from here on."""


class DrainSignal(Protocol):
    """Told once, when the server is shutting down."""

    def is_set(self) -> bool:
        """Say whether the server is shutting down."""

    def subscribe(self, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Have `callback` called when that starts; at once if it has started."""


class MessageCollector(Protocol):
    """One message while it arrives."""

    @property
    def size(self) -> int:
        """Octets fed so far."""

    @property
    def is_spooled(self) -> bool:
        """Say whether it no longer waits in memory."""

    async def feed(self, chunk: bytes) -> None:
        """Take at most 64 KiB. Raises TransientFailure: it cannot be kept."""


class CollectMessage(Protocol):
    """Makes collectors."""

    def __call__(
        self, door: Door, max_bytes: int, held_bytes: int = ...
    ) -> AbstractAsyncContextManager[MessageCollector]: ...


class AppendToMailbox(Protocol):
    """The APPEND door."""

    async def __call__(
        self,
        account: Account,
        mailbox: MailboxInfo,
        # The very collectors that `collect` made: this face only hands them on.
        messages: Sequence[tuple[Flags, int, Any]],
    ) -> tuple[AppendReceipt, ...] | Refuse: ...


@attrs.frozen(kw_only=True)
class ImapServices:
    """Ports, use cases, live settings."""

    authenticate: Authenticate
    store: MailStore
    append: AppendToMailbox
    collect: CollectMessage
    change_mailbox: ChangeMailbox
    metadata: ServiceMetadata
    object_ids: ObjectIds
    hints: MailboxHints
    sessions: LiveSessions
    settings: Callable[[], SettingsSnapshot]
    clock: Clock
    drain: DrainSignal
    log: Log
    turns: Turns = attrs.field(factory=Turns)
    spree: Spree = attrs.field(factory=Spree)
