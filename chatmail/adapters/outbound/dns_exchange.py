"""One question to one DNS server, over UDP or TCP, and no more of the answer than we use.

Invariant: at most 64 records of an answer are parsed, whatever a server sends. Parsing takes about
0.1 ms per record, and whoever has a domain may put thousands into 64 KiB: a few mails that make us
ask would hold up everybody.
"""

from __future__ import annotations

import struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.nameserver
import trio

MAX_RECORDS: Final = 64

_HEADER: Final = struct.Struct(">HHHHHH")  # id, flags, and four counts (RFC 1035 §4.1.1)
_MAX_DATAGRAM: Final = 65535


class BoundedNameserver(dns.nameserver.Do53Nameserver):
    """A server as dnspython's resolver asks it."""

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109  the signature is dnspython's
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: object,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """Ask. Args:  max_size: over TCP.

        Raises:  dns.message.Truncated: to be asked over TCP. dns.exception.Timeout.
            dns.exception.DNSException, OSError, EOFError: this server is no good.
        """
        exchange = self._over_tcp if max_size else self._over_udp
        with trio.move_on_after(timeout):
            return await exchange(request)
        raise dns.exception.Timeout(timeout=timeout)  # type: ignore[no-untyped-call]

    async def _over_udp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        with self._socket(trio.socket.SOCK_DGRAM) as sock:
            # Connected: octets from elsewhere are dropped, and a refusal is told at once.
            await sock.connect((self.address, self.port))
            await sock.send(request.to_wire())
            while True:
                response = _parse(await sock.recv(_MAX_DATAGRAM), request)
                if response is None:
                    continue  # not ours, or garbage: an attacker's guess must not end the wait
                if response.flags & dns.flags.TC:
                    raise dns.message.Truncated(message=response)  # type: ignore[no-untyped-call]
                return response

    async def _over_tcp(self, request: dns.message.QueryMessage) -> dns.message.Message:
        with self._socket(trio.socket.SOCK_STREAM) as sock:
            await sock.connect((self.address, self.port))
            stream = trio.SocketStream(sock)
            octets = request.to_wire()
            await stream.send_all(len(octets).to_bytes(2, "big") + octets)
            length = int.from_bytes(await _exactly(stream, 2), "big")
            response = _parse(await _exactly(stream, length), request)
        if response is None:
            raise EOFError("no response to the question")
        return response

    def _socket(self, kind: int) -> trio.socket.SocketType:
        is_ipv6 = ":" in self.address
        return trio.socket.socket(trio.socket.AF_INET6 if is_ipv6 else trio.socket.AF_INET, kind)


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    octets = bytearray()
    while len(octets) < count:
        try:
            piece = await stream.receive_some(count - len(octets))
        except trio.BrokenResourceError as error:
            raise EOFError("connection lost") from error
        if not piece:
            raise EOFError("connection closed")
        octets += piece
    return bytes(octets)


def _parse(octets: bytes, request: dns.message.QueryMessage) -> dns.message.QueryMessage | None:
    """Return the response as far as it is used; None: it is none to this question."""
    if len(octets) < _HEADER.size:
        return None
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(octets)
    # Authority and additional records are not used; what a truncated answer has is asked again.
    kept = 0 if flags & dns.flags.TC else min(answers, MAX_RECORDS)
    head = _HEADER.pack(number, flags, min(questions, 1), kept, 0, 0)
    try:
        response = dns.message.from_wire(head + octets[_HEADER.size :], ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if isinstance(response, dns.message.QueryMessage) and request.is_response(response):
        return response
    return None
