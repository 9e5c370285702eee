"""`POST /mxdeliv`: another relay hands in a message over HTTP.

An ASGI layer of its own, for the framework gathers a body in memory as fast as it comes: here the
peer waits for the store, and a message above 256 KiB goes to disk while it arrives. Answers are
those of port 25, one line of text, so that a peer can tell what is for ever.
Source:  spec federation-web B2, B3; policy 1.11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Protocol

import attrs
import trio

from chatmail.adapters.http.client_address import client_address
from chatmail.adapters.http.in_flight import App, Scope
from chatmail.adapters.http.in_flight import Receive as ReceiveEvent
from chatmail.adapters.http.in_flight import Send as SendEvent
from chatmail.adapters.http.replies import MXDELIV_STATUS
from chatmail.domain.formats.line_ends import LineEnds
from chatmail.domain.model.address import EmailAddress, is_literal
from chatmail.domain.model.errors import Overloaded, TransientFailure
from chatmail.domain.model.federation import Source, TransportKind
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.inbound import MAX_RECIPIENTS
from chatmail.domain.policy.throttle import client_prefix
from chatmail.domain.ports.system import Log
from chatmail.domain.wire.mxdeliv import MxdelivFieldError, parse_recipients, parse_sender

PATHS: Final = ("/mxdeliv", "/mxdeliv/")
MAX_PER_SOURCE: Final = 8
MAX_AT_ONCE: Final = 64
RETRY_AFTER_S: Final = 30
STALLED_S: Final = 60.0
LIMIT_S: Final = 900.0
COMMIT_S: Final = 45.0
"""Peers wait 60 s for an answer (A4.8)."""
LINGER_S: Final = 5.0
LINGER_OCTETS: Final = 4 * 1024 * 1024
"""How much of what a refused peer still sends is read: a closed socket would hide the answer."""

_FEED_OCTETS: Final = 64 * 1024
_TLS_REQUIRED: Final = "TLS required"


class MessageSink(Protocol):
    """Takes the content of one message while it arrives."""

    async def feed(self, chunk: bytes) -> None:
        """Take up to 64 KiB. Raises:  TransientFailure: it cannot be kept."""


class Collect(Protocol):
    """Opens a sink; leaving the block discards what was not handed on."""

    def __call__(
        self, door: Door, max_bytes: int, /
    ) -> AbstractAsyncContextManager[MessageSink]: ...


class ReceiveMail(Protocol):
    """The door of other relays. `message` is what `Collect` of the same services opened."""

    def admit(self, reverse_path: EmailAddress | None, /) -> Refuse | None:
        """Judge the envelope's sender."""

    async def __call__(self, envelope: Envelope, message: Any, source: Source, /) -> object:
        """Judge and store; a Refuse, or anything else: accepted.

        Raises:  TransientFailure, Overloaded: nothing was stored.
        """


def _always() -> bool:
    return True


@attrs.frozen(kw_only=True)
class MxdelivServices:
    """What this door needs of the rest of the program.

    `reply` gives the SMTP reply of a refusal in one line; the face that owns the texts supplies
    it. `has_room`: whether the disk can take another message.
    """

    receive: ReceiveMail
    collect: Collect
    settings: Callable[[], SettingsSnapshot]
    reply: Callable[[Refuse], str]
    log: Log
    has_room: Callable[[], bool] = _always


@attrs.frozen
class _Answer:
    status: int
    text: str
    retry_after_s: int | None = None


class _PeerLeft(Exception):
    """Nobody is there to be answered."""


_ACCEPTED: Final = _Answer(200, "250 2.0.0 OK")
_WRONG_METHOD: Final = _Answer(405, "500 5.5.1 Use POST")
_TOO_MANY: Final = _Answer(400, "452 4.5.3 Too many recipients")
_TWO_LENGTHS: Final = _Answer(400, "501 5.5.4 A length and chunks")
_STALLED: Final = _Answer(408, "421 4.4.2 Too slow")


class Mxdeliv:
    """Answers `/mxdeliv` and passes every other path on."""

    def __init__(self, services: MxdelivServices, others: App) -> None:
        self._services = services
        self._others = others
        self._at_once: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: ReceiveEvent, send: SendEvent) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._others(scope, receive, send)
            return
        request = _Request(scope, receive, self._services.settings())
        try:
            answer = await self._answer(request)
        except _PeerLeft:
            return
        await _send(answer, request, send)

    async def _answer(self, request: _Request) -> _Answer:
        if request.method != "POST":
            return _WRONG_METHOD
        if request.is_framed_twice:
            return _TWO_LENGTHS
        if not _is_private(request):
            return _Answer(MXDELIV_STATUS[RefusalReason.TLS_REQUIRED], _TLS_REQUIRED)
        with self._slot(request.source) as is_free:
            if is_free is not None:
                return is_free
            return await self._receive(request)

    @contextmanager
    def _slot(self, source: str) -> Iterator[_Answer | None]:
        """Hold one of the places; yields the answer when there is none."""
        prefix = client_prefix(source)  # whoever has one IPv6 address has its whole /64
        if self._at_once.total() >= MAX_AT_ONCE:
            yield self._refused(Refuse(RefusalReason.QUEUE_FULL), RETRY_AFTER_S)
        elif self._at_once[prefix.key] >= MAX_PER_SOURCE and not prefix.is_exempt:
            yield self._refused(Refuse(RefusalReason.TOO_MANY_SESSIONS), RETRY_AFTER_S)
        else:
            self._at_once[prefix.key] += 1
            try:
                yield None
            finally:
                self._at_once[prefix.key] -= 1
                if not self._at_once[prefix.key]:
                    del self._at_once[prefix.key]

    async def _receive(self, request: _Request) -> _Answer:
        envelope = self._envelope(request)
        if isinstance(envelope, _Answer):
            return envelope
        if not self._services.has_room():
            return self._refused(Refuse(RefusalReason.QUEUE_FULL))
        max_bytes = request.max_bytes
        if (request.content_length or 0) > max_bytes:
            return self._refused(Refuse(RefusalReason.TOO_BIG))
        try:
            with trio.fail_after(LIMIT_S):
                async with self._services.collect(Door.HTTPS_INBOUND, max_bytes) as message:
                    return await self._take(request, envelope, message)
        except trio.TooSlowError:
            return _STALLED

    def _envelope(self, request: _Request) -> Envelope | _Answer:
        try:
            sender = parse_sender(request.values(b"x-mail-from"))
            recipients = parse_recipients(request.values(b"x-mail-to"))
        except MxdelivFieldError as error:
            text = str(error)
            return _TOO_MANY if "too many" in text else _Answer(400, f"501 5.5.4 {text}")
        domains = request.settings.identity.local_domains
        local = dict.fromkeys(one.without_detail() for one in recipients if one.domain in domains)
        if not local:
            return self._refused(Refuse(RefusalReason.RELAY_DENIED))
        if len(local) > MAX_RECIPIENTS:
            return _TOO_MANY
        refused = self._services.receive.admit(sender)
        return self._refused(refused) if refused else Envelope(sender, tuple(local))

    async def _take(self, request: _Request, envelope: Envelope, message: MessageSink) -> _Answer:
        try:
            if await _feed(request, message) > request.max_bytes:
                return self._refused(Refuse(RefusalReason.TOO_BIG))
            source = Source(request.source, request.transport)
            with trio.move_on_after(COMMIT_S):
                outcome = await self._services.receive(envelope, message, source)
                if isinstance(outcome, Refuse):
                    self._services.log.info(
                        "mxdeliv_message_refused",
                        reason=outcome.reason.value,
                        rule=outcome.rule or None,
                    )
                    return self._refused(outcome)
                return _ACCEPTED
        except Overloaded:
            return self._refused(Refuse(RefusalReason.QUEUE_FULL))
        except TransientFailure:
            pass
        return self._refused(Refuse(RefusalReason.TEMPORARY))

    def _refused(self, refuse: Refuse, retry_after_s: int | None = None) -> _Answer:
        status = MXDELIV_STATUS[refuse.reason]
        if status == 429 and retry_after_s is None:
            retry_after_s = RETRY_AFTER_S
        return _Answer(status, self._services.reply(refuse), retry_after_s)


class _Request:
    """One request: its head, and its body as it comes."""

    def __init__(self, scope: Scope, receive: ReceiveEvent, settings: SettingsSnapshot) -> None:
        self._scope = scope
        self._receive = receive
        self.settings = settings
        self.method: str = scope["method"]
        self.is_at_end = False
        client = scope.get("client")
        forwarded = ",".join(self.values(b"x-forwarded-for")) or None
        self.source = client_address(
            client[0] if client else "", forwarded, settings.trusted_proxies
        )

    @property
    def transport(self) -> TransportKind:
        return TransportKind.HTTPS if self._scope["scheme"] == "https" else TransportKind.HTTP

    @property
    def is_http_1(self) -> bool:
        return bool(self._scope["http_version"] < "2")

    @property
    def content_length(self) -> int | None:
        """The length that was announced; None: none was, or none that is a number."""
        values = self.values(b"content-length")
        return int(values[0]) if values and values[0].isdecimal() and len(values[0]) < 20 else None

    @property
    def is_framed_twice(self) -> bool:
        """Say whether the end of the body depends on who reads it (RFC 9112 §6.1: smuggling)."""
        return bool(self.values(b"content-length") and self.values(b"transfer-encoding"))

    @property
    def max_bytes(self) -> int:
        limits = self.settings.limits
        return min(limits.max_message_bytes, limits.max_federation_bytes)

    def values(self, name: bytes) -> list[str]:
        """Return the values of all fields of this name (lower case)."""
        return [value.decode("latin-1") for key, value in self._scope["headers"] if key == name]

    async def chunk(self) -> bytes | None:
        """Return the next octets of the body, None at its end.

        Raises:  _PeerLeft: the end will never come. trio.TooSlowError: nothing came for 60 s.
        """
        if self.is_at_end:
            return None
        with trio.fail_after(STALLED_S):
            event: MutableMapping[str, Any] = await self._receive()
        if event["type"] != "http.request":
            raise _PeerLeft
        self.is_at_end = not event.get("more_body", False)
        return bytes(event.get("body", b""))


def _is_private(request: _Request) -> bool:
    """Say whether this request may come as it came (B2.1)."""
    if request.transport is TransportKind.HTTPS:
        return True
    if request.settings.federation.mxdeliv_http == "always":
        return True
    # Such a relay has no certificate that could be verified, so TLS would prove nothing.
    domain = request.settings.identity.mail_domain
    return is_literal(domain) or domain.startswith("_")


async def _feed(request: _Request, message: MessageSink) -> int:
    """Hand the body over; return its octets, at most a chunk more than is allowed.

    After trouble with the disk the rest is read to its end, so that the answer can be.
    Raises:  TransientFailure, as the sink does.
    """
    lines = LineEnds()
    size = 0
    failure: TransientFailure | None = None
    while (chunk := await request.chunk()) is not None and size <= request.max_bytes:
        octets = lines.feed(chunk)
        size += len(octets)
        for start in range(0, len(octets) if failure is None else 0, _FEED_OCTETS):
            try:
                await message.feed(octets[start : start + _FEED_OCTETS])
            except TransientFailure as error:
                failure = error
                break
    if failure is not None and size <= request.max_bytes:
        raise failure
    return size


async def _send(answer: _Answer, request: _Request, send: SendEvent) -> None:
    body = answer.text.encode("ascii", "replace") + b"\r\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if answer is _WRONG_METHOD:
        headers.append((b"allow", b"POST"))
    if answer.retry_after_s is not None:
        headers.append((b"retry-after", str(answer.retry_after_s).encode()))
    is_unread = not request.is_at_end and request.method == "POST"
    if is_unread and request.is_http_1:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": is_unread})
    if is_unread:
        await _read_on(request)
        await send({"type": "http.response.body", "body": b""})


async def _read_on(request: _Request) -> None:
    """Read what a peer still sends that has not looked at its answer yet."""
    octets = 0
    with trio.move_on_after(LINGER_S):
        try:
            while octets < LINGER_OCTETS and (chunk := await request.chunk()) is not None:
                octets += len(chunk)
        except _PeerLeft:
            return
