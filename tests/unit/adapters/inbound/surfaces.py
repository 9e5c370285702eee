"""Both doors of other relays over one inbound relay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio
import trio.testing

from chatmail.adapters.http.in_flight import InFlight
from chatmail.adapters.http.mxdeliv import Mxdeliv, MxdelivServices
from chatmail.adapters.smtp.replies import reply_to
from chatmail.adapters.smtp.server import serve_connection
from chatmail.adapters.smtp.services import SmtpServices
from chatmail.domain.model.verdict import Refuse
from chatmail.domain.wire.smtp.sequence import Role
from tests.unit.adapters.smtp.fakes import Drain, MemoryStream, Sessions
from tests.unit.domain.usecases.inbound import ANN, BOB, InboundRelay

PEER_HOST = "192.0.2.7"


@attrs.define
class Log:
    """Keeps what is told."""

    records: list[tuple[str, dict[str, object]]] = attrs.field(factory=list)

    def info(self, event: str, **fields: object) -> None:
        self.records.append((event, fields))

    warning = debug = info


def refusal_line(refuse: Refuse) -> str:
    return reply_to(refuse).octets.decode().rstrip()


async def not_here(scope: Any, receive: Any, send: Any) -> None:
    """What answers every other path."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Surfaces:
    """One relay, two doors."""

    def __init__(self, relay: InboundRelay | None = None) -> None:
        self.relay = relay or InboundRelay()
        self.log = Log()
        self.has_room = True
        self.mxdeliv = Mxdeliv(
            MxdelivServices(
                receive=self.relay.receive,
                collect=self.relay.collect,
                settings=lambda: self.relay.settings,
                reply=refusal_line,
                log=self.log,
                has_room=lambda: self.has_room,
            ),
            not_here,
        )

    async def post(
        self,
        body: bytes | Sequence[bytes] = b"",
        *,
        sender: str | None = ANN,
        to: Sequence[str] = (BOB,),
        fields: Sequence[tuple[str, str]] | None = None,
        more: Sequence[tuple[str, str]] = (),
        method: str = "POST",
        scheme: str = "https",
        path: str = "/mxdeliv",
        peer: str = PEER_HOST,
        receive: Any = None,
    ) -> Answer:
        """Ask as Hypercorn would; `receive` replaces the body."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        if fields is None:
            fields = [("X-Mail-From", sender or ""), *(("X-Mail-To", one) for one in to)]
        length = [] if len(chunks) != 1 else [("Content-Length", str(len(chunks[0])))]
        headers = [("Host", "relay.test"), *length, *fields, *more]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": path,
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers],
            "client": (peer, 4711),
        }
        events = [
            {"type": "http.request", "body": chunk, "more_body": at < len(chunks) - 1}
            for at, chunk in enumerate(chunks)
        ]
        sent: list[Any] = []

        async def from_list() -> Any:
            await trio.lowlevel.checkpoint()
            if events:
                return events.pop(0)
            return await trio.sleep_forever()

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await InFlight(self.mxdeliv)(scope, receive or from_list, send)
        if not sent:
            return Answer(0, {}, b"")
        return Answer(
            sent[0]["status"],
            {name.decode(): value.decode() for name, value in sent[0]["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )

    async def talk(
        self, message: bytes, *, sender: str | None = ANN, to: Sequence[str] = (BOB,)
    ) -> tuple[bytes, list[bytes]]:
        """Send a message by SMTP; returns the last reply and those to RCPT."""
        commands = [b"EHLO peer.example", b"MAIL FROM:<%b>" % (sender or "").encode()]
        commands += [b"RCPT TO:<%b>" % one.encode() for one in to]
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        end = b".\r\n" if message.endswith(b"\r\n") else b"\r\n.\r\n"
        async with trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            stream = MemoryStream(theirs.receive_stream, theirs.send_stream, is_tls=True)  # type: ignore[arg-type]
            nursery.start_soon(self._serve, stream, theirs)
            reader = _Replies(ours)
            await reader.one()
            await ours.send_all(b"\r\n".join([*commands, b"DATA", b""]))
            for _ in range(2):
                await reader.one()
            rcpts = [await reader.one() for _ in to]
            last = await reader.one()
            if last.startswith(b"354"):
                await ours.send_all(stuffed + end)
                last = await reader.one()
            await ours.send_eof()
        return last, rcpts

    async def _serve(self, stream: MemoryStream, theirs: trio.abc.Stream) -> None:
        services = SmtpServices(
            authenticate=None,  # type: ignore[arg-type]
            submit=None,  # type: ignore[arg-type]
            receive=self.relay.receive,
            collect=self.relay.collect,
            sessions=Sessions(),
            settings=lambda: self.relay.settings,
            drain=Drain(),
            log=self.log,
            has_room=lambda: self.has_room,
        )
        await serve_connection(stream, services, Role.INBOUND)
        await theirs.aclose()


class _Replies:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = b""

    async def one(self) -> bytes:
        """Read one reply; the last line of it is returned."""
        while True:
            while b"\r\n" not in self._buffer:
                octets = bytes(await self._stream.receive_some(65536))
                assert octets, "closed"
                self._buffer += octets
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            if line[3:4] == b" ":
                return line
