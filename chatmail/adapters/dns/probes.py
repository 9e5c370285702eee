"""Connections to our own public names, as other relays and clients make them.

A relay behind address translation may not reach itself by its public name: what cannot be
connected to is told, and judged by the operator.
Source:  spec federation-web C2.2.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import attrs
import trio

from chatmail.domain.formats.mtasts import render_policy
from chatmail.domain.formats.zone import RecordType, ZoneFacts
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.zone import ProbeResult, ZoneReader

PROBE_S: Final = 15.0
MAX_ANSWER_OCTETS: Final = 64 * 1024
MAX_LINE_OCTETS: Final = 4096
MAX_LINES: Final = 100

_FAMILIES: Final = (RecordType.A, RecordType.AAAA)
_ERRORS: Final = (OSError, ssl.SSLError, trio.BrokenResourceError, ValueError)


class ProbeFailed(Exception):
    """A probe ended badly; the text is for the operator."""


@attrs.frozen(kw_only=True)
class NetworkProbes:
    """`LiveProbes` over real sockets. Ports are those the world uses, save in tests."""

    zone: ZoneReader
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
    https_port: int = 443
    smtp_port: int = 25

    async def look(self, facts: ZoneFacts, outbound_host: str = "") -> tuple[ProbeResult, ...]:
        """Make all probes at once, each within its time."""
        wanted = self._probes(facts, outbound_host)
        found: dict[int, tuple[ProbeResult, ...]] = {}
        async with trio.open_nursery() as nursery:
            for place, (name, probe) in enumerate(wanted):
                nursery.start_soon(partial(_run, found, place, name, probe))
        return tuple(result for place in sorted(found) for result in found[place])

    def _probes(
        self, facts: ZoneFacts, outbound_host: str
    ) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        host = facts.hostname
        probes: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            (f"https://{host}", partial(self._certificate, host)),
            (f"POST https://{host}/mxdeliv", partial(self._mxdeliv, host)),
            (f"STARTTLS on {host}:{self.smtp_port}", partial(self._starttls, host)),
        ]
        if facts.serves_sts:
            name = f"mta-sts.{facts.domains[0]}"
            url = f"https://{name}/.well-known/mta-sts.txt"
            probes.append((url, partial(self._policy, name, facts)))
        if outbound_host:
            way = f"port {self.smtp_port} of {outbound_host}"
            probes.append((way, partial(self._outbound, outbound_host)))
        for address in facts.addresses:
            probes.append((f"PTR of {address}", partial(self._pointer, address)))
        return probes

    # --- what is looked at ------------------------------------------------------------------------

    async def _certificate(self, host: str) -> str:
        async with await self._open(host, self.https_port) as stream:
            tls = await _handshake(stream, self.tls(), host)
            return _expiry(tls)

    async def _mxdeliv(self, host: str) -> str:
        status, _ = await self._request(host, f"POST /mxdeliv HTTP/1.1\r\n{_END}")
        if status != 400:
            raise ProbeFailed(f"answered {status}, not 400: something else serves this path")
        return ""

    async def _policy(self, name: str, facts: ZoneFacts) -> str:
        path = "/.well-known/mta-sts.txt"
        status, body = await self._request(name, f"GET {path} HTTP/1.1\r\n{_END}")
        if status != 200:
            raise ProbeFailed(f"answered {status}, not 200")
        if body.split() != render_policy([facts.hostname]).split():
            raise ProbeFailed("is another policy than ours")
        return ""

    async def _starttls(self, host: str) -> str:
        async with await self._open(host, self.smtp_port) as stream:
            lines = _Lines(stream)
            await lines.reply("220", "")
            await lines.reply("250", "EHLO probe.invalid")
            await lines.reply("220", "STARTTLS")
            tls = await _handshake(stream, self.tls(), host)
            return _expiry(tls)

    async def _outbound(self, host: str) -> str:
        async with await self._open(host, self.smtp_port) as stream:
            await _Lines(stream).reply("220", "")
        return "mail can leave by port 25"

    async def _pointer(self, address: str) -> str:
        name = ipaddress.ip_address(address).reverse_pointer
        found = await self.zone.read(name, RecordType.PTR)
        names = "" if isinstance(found, DnsFault) else ", ".join(found)
        raise _Information(names or "none (relays do not mind)")

    # --- connections ------------------------------------------------------------------------------

    async def _open(self, host: str, port: int) -> trio.SocketStream:
        found = await self._addresses(host)
        last = "has no address" if found is not None else "no name server answered"
        for address in found or ():
            try:
                with trio.fail_after(PROBE_S / 3):
                    return await _connect(address, port)
            except (OSError, trio.TooSlowError) as error:
                reason = getattr(error, "strerror", None) or "no answer"
                last = f"no connection to {address} port {port}: {reason}"
        raise ProbeFailed(last)

    async def _addresses(self, host: str) -> list[str] | None:
        """Return the addresses of a name, aliases followed; None: nobody could be asked."""
        name = host.strip("[]")
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        for _ in range(4):  # aliases
            answers = [await self.zone.read(name, type) for type in _FAMILIES]
            heard = [answer for answer in answers if not isinstance(answer, DnsFault)]
            found = [address for answer in heard for address in answer]
            alias = () if found else await self.zone.read(name, RecordType.CNAME)
            if found or isinstance(alias, DnsFault) or not alias:
                return found if heard else None
            name = alias[0]
        return []

    async def _request(self, host: str, head: str) -> tuple[int, bytes]:
        async with await self._open(host, self.https_port) as stream:
            tls = await _handshake(stream, self.tls(), host)
            await tls.send_all(head.replace("{host}", host).encode())
            octets = b""
            while len(octets) < MAX_ANSWER_OCTETS:
                piece = await tls.receive_some(4096)
                if not piece:
                    break
                octets += piece
        first, _, rest = octets.partition(b"\r\n")
        words = first.split(b" ")
        if not first.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise ProbeFailed("does not answer in HTTP")
        return int(words[1]), rest.partition(b"\r\n\r\n")[2]


_END: Final = "Host: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Information(Exception):
    """What was found is neither good nor bad."""


async def _run(
    found: dict[int, tuple[ProbeResult, ...]],
    place: int,
    name: str,
    probe: Callable[[], Awaitable[str]],
) -> None:
    is_ok: bool | None = False
    detail = "no answer in time"
    with trio.move_on_after(PROBE_S):
        try:
            detail, is_ok = await probe(), True
        except _Information as told:
            detail, is_ok = str(told), None
        except ProbeFailed as failed:
            detail = str(failed)
        except ssl.SSLCertVerificationError as error:
            detail = f"certificate: {error.verify_message}"
        except _ERRORS as error:
            detail = f"connection failed: {type(error).__name__}"
    found[place] = (ProbeResult(name=name, is_ok=is_ok, detail=detail),)


async def _connect(address: str, port: int) -> trio.SocketStream:
    is_v4 = ipaddress.ip_address(address).version == 4
    sock = trio.socket.socket(trio.socket.AF_INET if is_v4 else trio.socket.AF_INET6)
    try:
        await sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _handshake(
    stream: trio.SocketStream, context: ssl.SSLContext, host: str
) -> trio.SSLStream[trio.SocketStream]:
    tls = trio.SSLStream(stream, context, server_hostname=host.strip("[]"), https_compatible=True)
    try:
        await tls.do_handshake()
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise error.__cause__ from None
        raise
    return tls


def _expiry(tls: trio.SSLStream[trio.SocketStream]) -> str:
    certificate = tls.getpeercert()
    if not certificate:
        return ""
    expires_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return f"certificate until {datetime.fromtimestamp(expires_s, UTC):%Y-%m-%d}"


class _Lines:
    """SMTP replies, as far as a probe needs them."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def reply(self, code: str, command: str) -> None:
        """Send a command, and read a reply that has to begin with `code`."""
        if command:
            await self._stream.send_all(f"{command}\r\n".encode())
        for _ in range(MAX_LINES):
            line = await self._line()
            if line[3:4] != b"-":
                break
        if not line.startswith(code.encode()):
            said = line[:120].decode("ascii", "replace")
            raise ProbeFailed(f"answered {said!r} to {command or 'the connection'}")

    async def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE_OCTETS:
                raise ProbeFailed("sent a line without end")
            piece = await self._stream.receive_some(1024)
            if not piece:
                raise ProbeFailed("ended the conversation")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")
