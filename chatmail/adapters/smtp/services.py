"""What the SMTP face is given: its stream, its use cases, its settings.

All of it is structural: the face names no other adapter and no use case module.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.account import Account, Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Source
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.ports.system import LiveSessions


class ByteStream(Protocol):
    """One connection, in clear or encrypted. Trouble with the peer is the listener's to catch."""

    @property
    def is_tls(self) -> bool: ...

    @property
    def peer_host(self) -> str: ...

    async def receive_some(self) -> bytes:
        """Return at most 64 KiB, `b""` at the end of the stream. A checkpoint."""

    async def send_all(self, data: bytes) -> None:
        """Send everything, with a deadline of its own on progress."""

    async def start_tls(self) -> None:
        """Shake hands as server."""


class DrainSignal(Protocol):
    """Says that the server is going down."""

    def is_set(self) -> bool: ...

    def subscribe(self, callback: Callable[[], None]) -> AbstractContextManager[object]:
        """Call `callback` once, from the event loop, when draining starts inside the block."""


class Log(Protocol):
    """Events for the operator. Never an address, a network address or content."""

    def info(self, event: str, **fields: object) -> None: ...


class MessageSink(Protocol):
    """Takes the content of one message while it arrives."""

    async def feed(self, chunk: bytes) -> None:
        """Take up to 64 KiB. Raises:  TransientFailure: it cannot be kept."""


class Collect(Protocol):
    """Opens a sink; leaving the block discards what was not handed on.

    The keyword `digests` names hashes to be made of the content while it comes.
    """

    def __call__(
        self, door: Door, max_bytes: int, *, digests: BodyDigests | None = None
    ) -> AbstractAsyncContextManager[MessageSink]: ...


class LoginRefused(Protocol):
    """A login that failed, and how long the peer waits for that answer."""

    @property
    def reason(self) -> RefusalReason: ...

    @property
    def delay_s(self) -> float: ...


class Authenticate(Protocol):
    """Logs in, or creates the account on first use."""

    async def __call__(
        self, credentials: Credentials, source: str, /
    ) -> Account | LoginRefused: ...

    async def touch_daily(self, account: Account, /) -> Account:
        """Record that a session of this account is still alive today; pass on what it returns."""


class Accepted(Protocol):
    """A message that is durable here."""

    @property
    def queue_id(self) -> str: ...


class Submit(Protocol):
    """The door of our own users. `message` is what `Collect` of the same services opened."""

    def admit(self, account: Account, reverse_path: EmailAddress | None, /) -> Refuse | None:
        """Judge the sender, once per transaction: owner, then rate."""

    def digests(self, envelope: Envelope, /) -> BodyDigests | None:
        """Return the hashes that the content of this message needs; None: none."""

    async def __call__(
        self, account: Account, envelope: Envelope, message: Any, digests: BodyDigests | None, /
    ) -> Accepted | Refuse:
        """Judge and store. Raises:  TransientFailure, Overloaded: nothing was stored."""


class Receive(Protocol):
    """The door of other relays. `message` is what `Collect` of the same services opened."""

    def admit(self, reverse_path: EmailAddress | None, /) -> Refuse | None:
        """Judge the envelope's sender, once per transaction."""

    async def __call__(
        self, envelope: Envelope, message: Any, source: Source, /
    ) -> Accepted | Refuse:
        """Judge and store. Raises:  TransientFailure, Overloaded: nothing was stored."""


def _always() -> bool:
    return True


@attrs.frozen(kw_only=True)
class SmtpServices:
    """Everything a session uses. `settings` returns the snapshot of this instant.

    `has_room`: whether the disk can take another message; asked at each MAIL, so it must be cheap.
    """

    authenticate: Authenticate
    submit: Submit
    receive: Receive
    collect: Collect
    sessions: LiveSessions
    settings: Callable[[], SettingsSnapshot]
    drain: DrainSignal
    log: Log
    has_room: Callable[[], bool] = _always
