"""`POST /mxdeliv` to other relays, over TLS or in clear, on connections that are kept.

Invariant: the answer is read while the body is being sent, at most 4 KiB of it; a connection is
kept only when both were read and written to their ends.
Source:  spec federation-web.md A4.
"""

from __future__ import annotations

import contextlib
from typing import Final

import h11
import trio

from chatmail.adapters.outbound.connect import (
    STREAM_ERRORS,
    ByteStream,
    Connector,
    HopError,
    TlsClient,
)
from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.pieces import PIECE_OCTETS, Pieces
from chatmail.adapters.outbound.pool import ConnectionPool, close_now, has_input
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    RecipientOutcome,
    TlsRule,
    TransportKind,
)
from chatmail.domain.ports.remote import Letter
from chatmail.domain.wire.mxdeliv import (
    MAX_ANSWER_OCTETS,
    MAX_RECIPIENTS,
    Answer,
    Judgement,
    header_fields,
    judge_answer,
    requests,
)

LOST: Final = "451 4.4.2 Connection lost"
SLOW: Final = "451 4.4.2 Timed out"
UNANSWERED: Final = "451 4.4.2 No answer after the whole message was sent"
NONSENSE: Final = "451 4.5.0 The server does not speak HTTP properly"
MALFORMED: Final = "451 4.3.5 The URL to post to is malformed"

_READ_OCTETS: Final = 16384
MAX_INTERIM: Final = 10
"""Interim answers (1xx) to one request; a peer that has nothing else to say costs no more."""
_LAST_WORDS_S: Final = 1.0
_REFUSALS: Final = 300
_BEGINNING: Final = b"HTTP/1."
_DEFAULT_PORTS: Final = {TransportKind.HTTPS: 443, TransportKind.HTTP: 80}


class _StaleError(Exception):
    """A kept connection ended before it said anything about this request."""


class HttpConnection:
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self, stream: ByteStream, patience: Patience) -> None:
        self.stream = stream
        self.requests = 0
        self._patience = patience
        self._http = h11.Connection(h11.CLIENT)
        self._forget_request()

    @property
    def has_room(self) -> bool:
        """Another request may be sent on it: the last one ended in order, on both sides."""
        return (
            self._http.our_state is h11.DONE
            and self._http.their_state is h11.DONE
            and self.requests < self._patience.http_requests
        )

    def is_usable(self) -> bool:
        """Say whether the server has neither closed nor spoken meanwhile."""
        return not has_input(self.stream)

    def abort(self) -> None:
        """Close at once."""
        close_now(self.stream)

    async def post(self, request: h11.Request, letter: Letter, deadline: float) -> Answer:
        """Send one request and read its answer.

        Raises:  HopError: BROKEN or AMBIGUOUS. _StaleError. TransientFailure: `letter.read` did.
        """
        if self.requests:
            self._http.start_next_cycle()
        self.requests += 1
        self._forget_request()
        head = self._http.send(request) or b""
        with trio.CancelScope(deadline=deadline) as patience:
            if len(letter.prefix) + letter.size <= PIECE_OCTETS:
                await self._upload(head, letter, patience)
                if self._failure is None:
                    await self._read_answer()
            else:
                # A refusal may come, and the connection end, before the body is out.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._upload, head, letter, patience)
                    await self._read_answer()
                    if self._response is None or self._response.status_code >= _REFUSALS:
                        nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if self._response is None:
            raise self._trouble(is_slow=patience.cancelled_caught)
        if not self._is_all_sent and self._response.status_code < _REFUSALS:
            # A success for half a message is none.
            raise HopError(HopFault.BROKEN, NONSENSE)
        return _answer(self._response, self._body[:MAX_ANSWER_OCTETS])

    def _forget_request(self) -> None:
        self._is_all_sent = False
        self._has_heard = False
        self._is_nonsense = False
        self._failure: TransientFailure | None = None
        self._response: h11.Response | None = None
        self._body = b""

    async def _upload(self, head: bytes, letter: Letter, patience: trio.CancelScope) -> None:
        """Send head and body, then give the answer its time. Never raises for the connection.

        What is lost shows when the answer is read; there may be one even then.
        """
        limit = _LAST_WORDS_S
        pieces = Pieces(letter)
        try:
            while not pieces.is_over:
                octets = await pieces.take()
                data = head + (self._http.send(h11.Data(data=octets)) or b"") if octets else head
                head = b""
                with trio.fail_after(self._patience.http_stall):
                    await self.stream.send_all(data)
            self._http.send(h11.EndOfMessage())
            self._is_all_sent = True
            limit = self._patience.http_answer
        except (*STREAM_ERRORS, trio.TooSlowError):
            pass
        except TransientFailure as failure:
            self._failure = failure
            limit = 0.0
        patience.deadline = min(patience.deadline, trio.current_time() + limit)

    async def _read_answer(self) -> None:
        """Read head and beginning of the answer as far as they come."""
        with contextlib.suppress(*STREAM_ERRORS):
            interim = 0
            try:
                while len(self._body) < MAX_ANSWER_OCTETS:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        if not await self._receive():
                            return
                    elif isinstance(event, h11.Response):
                        self._response = event
                    elif isinstance(event, h11.Data):
                        self._body += bytes(event.data)
                    elif isinstance(event, h11.InformationalResponse) and interim < MAX_INTERIM:
                        interim += 1
                    else:
                        self._is_nonsense = self._response is None
                        return
            except h11.RemoteProtocolError:
                self._is_nonsense = True

    async def _receive(self) -> bool:
        octets = await self.stream.receive_some(_READ_OCTETS)
        if not octets and self._response is None:
            return False
        if not self._has_heard:
            # Another protocol would leave the parser waiting for the end of a head.
            self._is_nonsense = not octets.startswith(_BEGINNING[: len(octets)])
            self._has_heard = True
            if self._is_nonsense:
                return False
        self._http.receive_data(bytes(octets))
        return True

    def _trouble(self, *, is_slow: bool) -> Exception:
        if self._is_nonsense:
            return HopError(HopFault.BROKEN, NONSENSE)
        if self.requests > 1 and not self._has_heard and not is_slow:
            return _StaleError()
        if self._is_all_sent:
            return HopError(HopFault.AMBIGUOUS, UNANSWERED)
        return HopError(HopFault.BROKEN, SLOW if is_slow else LOST)


def _answer(response: h11.Response, body: bytes) -> Answer:
    fields = {bytes(name): bytes(value) for name, value in response.headers}

    def field(name: bytes) -> str:
        return fields.get(name, b"").decode("latin-1")

    return Answer(
        status=response.status_code,
        head=body,
        content_type=field(b"content-type"),
        retry_after=field(b"retry-after"),
        date=field(b"date"),
    )


class MxdelivTransport:
    """`RemoteTransport` for hops of kind HTTPS and HTTP."""

    def __init__(
        self, connector: Connector, tls: TlsClient, user_agent: str, patience: Patience
    ) -> None:
        self._connector = connector
        self._tls = tls
        self._user_agent = user_agent
        self._patience = patience
        self.pool: ConnectionPool[HttpConnection] = ConnectionPool(
            idle_s=patience.http_idle, per_key=patience.http_idle_connections
        )

    async def attempt(self, hop: Hop, letter: Letter) -> HopResult:
        """Post a letter to a host, in as many requests as it takes."""
        outcomes: list[RecipientOutcome] = []
        patience_s: float | None = None
        for batch in requests(letter.recipients, 1 if hop.takes_one else MAX_RECIPIENTS):
            try:
                judgement = judge_answer(await self._post(hop, letter, batch))
            except HopError as error:
                judgement = Judgement(fault=error.fault, reply=error.reply)
            if judgement.retry_after_s is not None:
                patience_s = max(patience_s or 0.0, judgement.retry_after_s)
            if judgement.fate is None:
                return HopResult(
                    hop=hop,
                    outcomes=tuple(outcomes),
                    fault=judgement.fault,
                    reply=judgement.reply,
                    retry_after_s=patience_s,
                )
            fate, reply = judgement.fate, judgement.reply
            outcomes.extend(RecipientOutcome(recipient, fate, reply) for recipient in batch)
        return HopResult(hop=hop, outcomes=tuple(outcomes), retry_after_s=patience_s)

    async def _post(self, hop: Hop, letter: Letter, batch: tuple[EmailAddress, ...]) -> Answer:
        size = len(letter.prefix) + letter.size
        request = self._request(hop, letter.reverse_path, batch, size)
        deadline = trio.current_time() + self._patience.http_total(size)
        if (kept := self.pool.take(_key(hop))) is not None:
            with contextlib.suppress(_StaleError):
                return await self._post_on(kept, hop, request, letter, deadline)
        return await self._post_on(await self._open(hop), hop, request, letter, deadline)

    def _request(
        self,
        hop: Hop,
        sender: EmailAddress | None,
        recipients: tuple[EmailAddress, ...],
        size: int,
    ) -> h11.Request:
        """Raises:  HopError: the operator's URL is none."""
        host = host_field(hop.host, hop.port, _DEFAULT_PORTS[hop.transport])
        try:
            fields = header_fields(host, sender, recipients, size, self._user_agent)
            return h11.Request(method="POST", target=hop.path, headers=fields)
        except (h11.LocalProtocolError, ValueError) as error:
            raise HopError(HopFault.BROKEN, MALFORMED) from error

    async def _post_on(
        self,
        connection: HttpConnection,
        hop: Hop,
        request: h11.Request,
        letter: Letter,
        deadline: float,
    ) -> Answer:
        is_kept = False
        try:
            answer = await connection.post(request, letter, deadline)
            if connection.requests == 1:
                self._tls.remember(connection.stream, hop.host, hop.port, hop.tls)
            if connection.has_room:
                self.pool.put(_key(hop), connection)
                is_kept = True
        finally:
            if not is_kept:
                connection.abort()
        return answer

    async def _open(self, hop: Hop) -> HttpConnection:
        """Raises:  HopError."""
        stream = await self._connector.connect(
            hop.host,
            hop.port,
            is_operators_word=hop.is_operators_word,
            timeout_s=self._patience.http_connect,
        )
        if hop.transport is TransportKind.HTTP:
            return HttpConnection(stream, self._patience)
        try:
            tls = await self._tls.start(
                stream,
                hop.host,
                hop.port,
                hop.tls,
                alpn="http/1.1",
                timeout_s=self._patience.tls,
            )
        except BaseException:
            close_now(stream)
            raise
        return HttpConnection(tls, self._patience)


def host_field(host: str, port: int, default: int) -> str:
    """Return a host and port as they stand in `Host` (RFC 9110 §7.2)."""
    name = f"[{host}]" if ":" in host else host
    return name if port == default else f"{name}:{port}"


def _key(hop: Hop) -> tuple[TransportKind, str, int, TlsRule, bool]:
    return hop.transport, hop.host, hop.port, hop.tls, hop.is_operators_word
