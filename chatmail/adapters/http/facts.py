"""What the web face shows and obeys, as one frozen snapshot read once per request."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol, TypeAlias

import attrs

from chatmail.domain.formats.account_links import RelayFacts
from chatmail.domain.ports.system import Budgets


@attrs.frozen(kw_only=True)
class ShownLimits:
    """Numbers for people; None: there is no such limit and the page keeps silent about it."""

    message_bytes: int | None = None
    mailbox_bytes: int | None = None
    retention_days: int | None = None
    large_retention_days: int | None = None
    inactive_days: int | None = None


@attrs.frozen(kw_only=True)
class SiteFacts:
    """Everything the web face depends on besides its services.

    `language`: `en`, `fa`, `ru`, `es`, or `auto` (by Accept-Language).
    `contact`: the operator's public mail address, empty: not shown.
    `own_hosts`: further bare addresses of a literal relay; a request to one gets links to it.
    `cors_origins`: exact origins, or `*`. `echo_origins`: WebIMAP and WebSMTP are both on.
    """

    relay: RelayFacts
    registration_open: bool = True
    jit: bool = True
    require_token: bool = False
    language: str = "en"
    title: str = ""
    contact: str = ""
    limits: ShownLimits = ShownLimits()
    own_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    echo_origins: bool = False
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()


class RefusalKind(enum.Enum):
    """Why no account was made; each has one HTTP status in `replies`."""

    CLOSED = "closed"  # registration is closed, or needs a token
    BAD_TOKEN = "bad_token"  # noqa: S105  # unknown, expired or used up
    RATE = "rate"  # this source made too many accounts
    UNAVAILABLE = "unavailable"  # load, memory, disk, nocreate


@attrs.frozen
class Registered:
    """A pair of credentials that will work at the next login."""

    address: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class NotRegistered:
    """No account was made; `text` is shown to the person by the client."""

    kind: RefusalKind
    text: str


class Register(Protocol):
    """The use case behind `/new`."""

    async def __call__(self, token: str | None, source: str) -> Registered | NotRegistered:
        """Draw credentials (or create the account, with a token or without JIT).

        Args:  source: the client's address, text.
        Raises:  TransientFailure: nothing was stored; trying again may help.
        """


@attrs.frozen(kw_only=True)
class Check:
    """One line of the readiness report."""

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""


class Log(Protocol):
    """Events without private data."""

    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def debug(self, event: str, **fields: object) -> None: ...


AcmeChallenge: TypeAlias = Callable[[str], str | None]


def no_challenge(_token: str) -> str | None:
    """Know no ACME token."""
    return None


@attrs.frozen(kw_only=True)
class HttpServices:
    """What the web face needs of the rest of the program.

    `acme_challenge` gives the key authorization of a pending HTTP-01 token.
    """

    site: Callable[[], SiteFacts]
    register: Register
    budgets: Budgets
    checks: Callable[[], Sequence[Check]]
    log: Log
    acme_challenge: AcmeChallenge = no_challenge
