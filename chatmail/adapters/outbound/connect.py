"""Connections to other machines: addresses in staggered turns, the guard before each, TLS.

Invariant: no packet leaves for an address that `may_connect` refuses, and octets of a message
only over what its TlsRule demands: there is no way from a failed verification to anything less.
Source:  spec federation-web.md A2.7, A5.
"""

from __future__ import annotations

import errno
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

import trio

from chatmail.adapters.outbound.patience import Patience
from chatmail.domain.formats.reply_line import clean_text, reply_line
from chatmail.domain.model.errors import ChatmailError
from chatmail.domain.model.federation import HopFault, TlsRule
from chatmail.domain.ports.remote import DnsFault, Resolver

MAX_SESSIONS: Final = 512
MAX_AT_ONCE: Final = 16

MayConnect: TypeAlias = Callable[[str, int, bool], bool]
"""(IP address, port, the operator named the target) → allowed."""

ByteStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]
STREAM_ERRORS: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class HopError(ChatmailError):
    """A hop gave no word on the message; `reply` is a clean line that says why."""

    def __init__(self, fault: HopFault, reply: str) -> None:
        super().__init__(fault.value)
        self.fault = fault
        self.reply = reply


class TlsClient:
    """The client's side of TLS: one context per rule, and sessions to resume, by host."""

    def __init__(self, ca_file: Path | None = None) -> None:
        """Load the system's trust anchors, and those of `ca_file` besides.

        Raises:  OSError: the file cannot be read (`ssl.SSLError`: there is no certificate in it).
        """
        self._sessions: OrderedDict[tuple[str, int, TlsRule], ssl.SSLSession] = OrderedDict()
        self._trusting = {alpn: _trusting(alpn) for alpn in (None, "http/1.1")}
        self.trust(ca_file)

    def trust(self, ca_file: Path | None) -> None:
        """Load trust anchors anew; connections keep what they began with. Raises:  OSError."""
        self._verifying = {alpn: _verifying(alpn, ca_file) for alpn in (None, "http/1.1")}
        self._sessions.clear()  # a resumed session shows no certificate

    async def start(
        self,
        stream: trio.SocketStream,
        host: str,
        port: int,
        rule: TlsRule,
        *,
        alpn: str | None,
        timeout_s: float,
    ) -> trio.SSLStream[trio.SocketStream]:
        """Shake hands. The name goes along as SNI, an IP address does not (A5.1).

        Raises:  HopError: TLS.
        """
        verifies = rule is TlsRule.VERIFY
        context = (self._verifying if verifies else self._trusting)[alpn]
        name = None if _is_ip(host) and not verifies else host
        try:
            tls = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
        except ValueError as error:
            raise HopError(HopFault.TLS, "454 4.7.5 The host's name cannot be sent") from error
        if session := self._sessions.get((host, port, rule)):
            tls.session = session
        try:
            with trio.fail_after(timeout_s):
                await tls.do_handshake()
        except trio.TooSlowError:
            raise HopError(HopFault.TLS, "454 4.7.5 TLS handshake timed out") from None
        except STREAM_ERRORS as error:
            raise HopError(HopFault.TLS, _tls_complaint(error.__cause__)) from error
        return tls

    def remember(self, stream: ByteStream, host: str, port: int, rule: TlsRule) -> None:
        """Keep the session of a stream that has been read from, for the next connection."""
        if not isinstance(stream, trio.SSLStream):
            return
        session = stream.session
        if session is not None and session.has_ticket:
            self._sessions[host, port, rule] = session
            self._sessions.move_to_end((host, port, rule))
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)


def _verifying(alpn: str | None, ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=str(ca_file))
    return _adjusted(context, alpn)


def _trusting(alpn: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _adjusted(context, alpn)


def _adjusted(context: ssl.SSLContext, alpn: str | None) -> ssl.SSLContext:
    # The library's signature algorithms stay as they are: a shorter list fails with RSA servers
    # under TLS 1.3 (A5.5).
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def _tls_complaint(cause: BaseException | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"4.7.5 Certificate not verified: {cause.verify_message}"
    elif isinstance(cause, ssl.SSLError) and cause.reason:
        why = f"4.7.5 TLS handshake failed: {cause.reason}"
    else:
        why = "4.7.5 TLS handshake failed"
    return reply_line(454, [clean_text(why)])


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Connector:
    """Opens TCP connections to hosts."""

    def __init__(
        self, resolver: Resolver, may_connect: MayConnect, *, bind: str, patience: Patience
    ) -> None:
        """Args:  bind: the IP address to connect from, for hosts of its family; "" any."""
        self._resolver = resolver
        self._may_connect = may_connect
        self._bind = bind
        self._patience = patience

    async def connect(
        self, host: str, port: int, *, is_operators_word: bool = False, timeout_s: float
    ) -> trio.SocketStream:
        """Connect to the first address of a host that answers.

        Each address has `timeout_s`; the next is tried beside it after a quarter of a second.
        Raises:  HopError: CONNECT, or FORBIDDEN when there are no other addresses.
        """
        found = (host,) if _is_ip(host) else await self._resolver.addresses(host)
        if isinstance(found, DnsFault):
            raise HopError(HopFault.CONNECT, _DNS_COMPLAINTS[found])
        allowed = [ip for ip in found if self._may_connect(ip, port, is_operators_word)]
        if not allowed:
            raise HopError(HopFault.FORBIDDEN, "450 4.4.4 The host's address is not allowed")
        targets = [(ip, port) for ip in allowed[:MAX_AT_ONCE]]
        if len(targets) == 1:
            outcome = await self._connect_one(targets[0], timeout_s)
        else:
            outcome = await self._race(targets, timeout_s)
        if isinstance(outcome, str):
            raise HopError(HopFault.CONNECT, outcome)
        return outcome

    async def _race(
        self, targets: Sequence[tuple[str, int]], timeout_s: float
    ) -> trio.SocketStream | str:
        """Return the first connection, else the first target's complaint."""
        winners: list[trio.SocketStream] = []
        complaints: dict[int, str] = {}

        async def attempt(number: int, failed: trio.Event) -> None:
            outcome = await self._connect_one(targets[number], timeout_s)
            if isinstance(outcome, str):
                complaints[number] = outcome
                failed.set()
            else:
                winners.append(outcome)
                nursery.cancel_scope.cancel()

        chosen: list[trio.SocketStream] = []
        try:
            async with trio.open_nursery() as nursery:
                for number in range(len(targets)):
                    failed = trio.Event()
                    nursery.start_soon(attempt, number, failed)
                    with trio.move_on_after(self._patience.stagger):
                        await failed.wait()
            chosen, winners = winners[:1], winners[1:]
        finally:
            for loser in winners:  # two at once, or nobody is left to take them
                loser.socket.close()
        return chosen[0] if chosen else complaints[0]

    async def _connect_one(
        self, target: tuple[str, int], timeout_s: float
    ) -> trio.SocketStream | str:
        """Return a connection, or one clean line that says why there is none."""
        host, port = target
        is_ipv6 = ":" in host
        try:
            sock = trio.socket.socket(trio.socket.AF_INET6 if is_ipv6 else trio.socket.AF_INET)
        except OSError as error:
            return _complaint(error)
        try:
            if self._bind and (":" in self._bind) == is_ipv6:
                await sock.bind((self._bind, 0))
            with trio.fail_after(timeout_s):
                await sock.connect((host, port))
            return trio.SocketStream(sock)
        except trio.TooSlowError:
            sock.close()
            return "451 4.4.1 Connection timed out"
        except OSError as error:
            sock.close()
            return _complaint(error)
        except BaseException:
            sock.close()
            raise


_DNS_COMPLAINTS: Final = {
    DnsFault.NXDOMAIN: "451 4.4.4 The host does not exist",
    DnsFault.NO_DATA: "451 4.4.4 The host has no address",
    DnsFault.SERVFAIL: "451 4.4.3 The host's address cannot be looked up",
    DnsFault.TIMEOUT: "451 4.4.3 Looking up the host's address timed out",
}


def _complaint(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "451 4.4.1 Connection refused"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
        return "451 4.4.1 Host unreachable"
    return "451 4.4.1 Connection failed"
