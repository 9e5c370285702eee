"""The way out: name resolution, fetching, handing a message to another relay."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Hop, HopResult
from chatmail.domain.model.outbound import OutboundEntry


class DnsFault(enum.Enum):
    """Why there is no answer."""

    NXDOMAIN = "nxdomain"  # the name does not exist
    NO_DATA = "no_data"  # it exists, without such records
    SERVFAIL = "servfail"  # the servers are broken or refuse
    TIMEOUT = "timeout"


@attrs.frozen
class MxHost:
    """One MX record; `host` is a normalised name."""

    preference: int
    host: str


@attrs.frozen(kw_only=True)
class MxAnswer:
    """MX records by preference, equal ones shuffled; at most 20 of them.

    `is_null`: the domain accepts no mail (RFC 7505). `domain` is what was asked for after CNAMEs.
    """

    hosts: tuple[MxHost, ...]
    is_null: bool = False
    is_validated: bool = False


class Resolver(Protocol):
    """DNS, cached: positive answers 30 s to 1 h, negative ones 30 s (A2.8). Bounded memory.

    No method raises: trouble is a DnsFault. 5 s per query, 10 s in all.
    """

    async def mx(self, domain: str) -> MxAnswer | DnsFault:
        """Return where mail of a domain goes; CNAMEs are followed."""

    async def addresses(self, host: str) -> tuple[str, ...] | DnsFault:
        """Return IP addresses of both families in the order to try (A2.7), at most 16."""

    async def txt(self, name: str) -> tuple[bytes, ...] | DnsFault:
        """Return TXT records, the strings of each joined; at most 16 of at most 8 KiB."""


class FetchFault(enum.Enum):
    """Why nothing was fetched."""

    ABSENT = "absent"  # the server answered, but not with 200 (redirects included)
    UNREACHABLE = "unreachable"  # no connection, no valid certificate, no whole answer
    TOO_LARGE = "too_large"


@attrs.frozen
class Fetched:
    """A document."""

    content_type: str
    octets: bytes


class HttpFetcher(Protocol):
    """GET over TLS. Certificates are verified for names; redirects are not followed."""

    async def get(
        self, url: str, *, max_octets: int, timeout_s: float, is_operators_word: bool = False
    ) -> Fetched | FetchFault:
        """Fetch a document. Never raises for what a peer does.

        `is_operators_word`: the operator named the URL, so it may be at a private address.
        """


@attrs.frozen(kw_only=True)
class Letter:
    """One message for recipients of one destination.

    Attributes:
        recipients: in order, all with the same hops.
        prefix: header fields to send first, ended by CRLF.
        size: octets without the prefix.
        read: (offset, length) → stored octets, CRLF lines, not dot-stuffed; raises
            TransientFailure: the attempt ends as if it had not been made.
        is_eight_bit: some octet is beyond ASCII.
    """

    reverse_path: EmailAddress | None
    recipients: tuple[EmailAddress, ...]
    prefix: bytes
    size: int
    read: Callable[[int, int], Awaitable[bytes]]
    is_eight_bit: bool = True


class RemoteTransport(Protocol):
    """Hands a message to a peer."""

    async def attempt(self, hop: Hop, letter: Letter) -> HopResult:
        """Try one hop, all its addresses in turn, on a kept connection if there is one.

        Limits of recipients per request or transaction are the transport's business: the result
        names every recipient all the same.
        Raises:  TransientFailure: `letter.read` did.
        Cancellation:  safe; a peer that had the whole message may have it.
        """


@attrs.frozen(kw_only=True)
class QueuedLetter:
    """Freshly committed entries of one message and one destination, leased by this process.

    `read` gives the stored octets; from memory while the caller still has them.
    """

    entries: tuple[OutboundEntry, ...]
    read: Callable[[int, int], Awaitable[bytes]]


class FirstAttempt(Protocol):
    """The attempt that is made while the client waits (contract 3)."""

    def is_worthwhile(self, domain: str) -> bool:
        """Say whether the peer is healthy and has no backlog here. Sync."""

    async def try_now(self, letter: QueuedLetter, wait_s: float) -> str | None:
        """Attempt a leased message at once and wait at most so long for a permanent refusal.

        Returns:  the refusal's reply line; then all its entries are settled, without a report.
            None: delivered, or the queue goes on with it, and reports are the queue's business.
        Cancellation:  the attempt goes on.
        """

    def start(self, letter: QueuedLetter) -> bool:
        """Attempt a leased message soon, without waiting; False: no room, its lease runs out."""
